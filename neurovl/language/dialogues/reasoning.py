"""Questions that need a conclusion, answered by rules that name their evidence (paper section 3).

A rule speaks only when its evidence is in the boxes or in the captions, and stays silent when the
captions also hold evidence to the contrary. It knows nothing that is not written below.
"""

import re
from collections.abc import Iterator

from neurovl.language.dialogues.layout import Layout
from neurovl.language.dialogues.wordings import (
    PAIRS,
    counted,
    is_are,
    listed,
    plural,
    sentence,
    the,
    words,
)

OUTDOORS = {
    "beach": "a beach",
    "street": "a street",
    "road": "a road",
    "field": "a field",
    "snow": "snow",
    "snowy": "snow",
    "lake": "a lake",
    "park": "a park",
    "desert": "a desert",
    "city": "a city",
    "forest": "a forest",
    "ocean": "the ocean",
    "sea": "the sea",
    "river": "a river",
    "savanna": "a savanna",
    "railway": "a railway",
    "woods": "woods",
    "farm": "a farm",
    "sidewalk": "a sidewalk",
    "railroad": "a railroad",
    "mountain": "a mountain",
    "mountains": "mountains",
    "grass": "grass",
    "grassy": "grass",
    "sky": "the sky",
    "meadow": "a meadow",
    "garden": "a garden",
}
INDOORS = {
    "kitchen": "a kitchen",
    "room": "a room",
    "bedroom": "a bedroom",
    "bathroom": "a bathroom",
    "office": "an office",
    "studio": "a studio",
}
INDOOR_THINGS = frozenset({"refrigerator", "oven", "microwave", "bed", "couch", "toilet"})
OUTDOOR_THINGS = frozenset({"airplane", "traffic light", "stop sign", "fire hydrant", "boat"})

NEXT = {
    "dog": "bark or run",
    "cat": "sleep or jump",
    "bird": "fly away",
    "horse": "run away",
    "sheep": "eat grass",
    "cow": "eat grass",
    "elephant": "walk on",
    "bear": "walk on",
    "zebra": "run away",
    "giraffe": "eat leaves",
    "person": "walk away",
    "car": "drive away",
    "bus": "drive away",
    "truck": "drive away",
    "motorcycle": "drive away",
    "train": "drive on",
    "boat": "move over the water",
    "airplane": "fly on or land",
    "kite": "fly higher",
}
USES = {
    **dict.fromkeys(("chair", "couch", "bench"), "sit on"),
    **dict.fromkeys(("bottle", "cup", "wine glass"), "drink from"),
    **dict.fromkeys(
        ("sports ball", "frisbee", "baseball bat", "tennis racket", "kite"), "play with"
    ),
    **dict.fromkeys(("baseball glove", "teddy bear"), "play with"),
    **dict.fromkeys(
        ("skateboard", "surfboard", "snowboard", "bicycle", "motorcycle", "horse"), "ride"
    ),
    **dict.fromkeys(("backpack", "handbag", "suitcase"), "carry things in"),
    **dict.fromkeys(("fork", "spoon"), "eat with"),
    **dict.fromkeys(("knife", "scissors"), "cut with"),
    **dict.fromkeys(("tie", "shoe"), "wear"),
    **dict.fromkeys(("oven", "microwave", "toaster"), "warm food in"),
    "dining table": "eat at",
    "bed": "sleep in",
    "umbrella": "stay dry under",
    "book": "read",
    "laptop": "work with",
    "keyboard": "write with",
    "tv": "watch",
    "cell phone": "call with",
    "clock": "read the time from",
    "vase": "put flowers in",
    "sink": "wash hands in",
    "refrigerator": "keep food in",
    "bowl": "eat from",
    "toothbrush": "clean teeth with",
    "house": "live in",
}
_NO_TRAVEL = frozenset({"horse", "elephant"})
_TRAVEL_WORDS = frozenset(
    words(
        "car cars bus buses train trains plane planes airplane airplanes jet boat boats ship bike "
        "bikes bicycle motorcycle motorcycles truck trucks van taxi scooter tram vehicle vehicles "
        "traffic"
    )
)
_MEAL_WORDS = frozenset(
    words(
        "food eat eating eats plate plates table kitchen restaurant meal cake pizza fruit "
        "vegetables dinner lunch breakfast sandwich dish bowl"
    )
)


def place(layout: Layout) -> tuple[str, str] | None:
    """`indoors` or `outdoors` with the evidence as a noun phrase; None without clear evidence."""
    found = {}
    for answer, said, things in (
        ("outdoors", OUTDOORS, OUTDOOR_THINGS),
        ("indoors", INDOORS, INDOOR_THINGS),
    ):
        evidence = [phrase for word, phrase in said.items() if word in layout.caption_words]
        evidence += [counted(name, n) for name, n in layout.counts.items() if name in things]
        if evidence:
            found[answer] = evidence[0]
    return next(iter(found.items())) if len(found) == 1 else None


def _shown(layout: Layout) -> str:
    return listed([counted(name, n) for name, n in list(layout.counts.items())[:2]])


def _about_place(layout: Layout) -> Iterator[tuple[str, str]]:
    where = place(layout)
    if where:
        yield (
            "Is this indoors or outdoors, and why?",
            f"It is probably {where[0]}, because the picture shows {where[1]}.",
        )
    said = layout.caption_words
    question = "What should people wear here, and why?"
    if said & {"snow", "snowy"}:
        yield question, "Warm clothes, because there is snow and snow is cold."
    elif said & {"rain", "rainy", "raining"}:
        yield question, "A coat, because there is rain and people get wet."
    elif "beach" in said:
        yield question, "Light clothes, because the picture shows a beach."
    question = "What time of day is it, and why?"
    dark = not where or where[0] == "outdoors"  # rooms are lit at night
    if dark and re.search(r"\bnight\b(?!.?(stand|table))", " ".join(layout.captions).lower()):
        yield question, "It is probably night, because it is dark in the picture."
    elif "sunset" in said:
        yield question, "It is probably evening, because there is a sunset."


def _about_travel(layout: Layout) -> Iterator[tuple[str, str]]:
    question = "Could people travel with something here, and why?"
    vehicles = layout.kinds("vehicle")
    if vehicles:
        name = vehicles[0]
        n = layout.counts[name]
        why = f"there {is_are(name, n)} {counted(name, n)}"
        yield question, f"Yes, people could travel by {name}, because {why}."
        return
    rideable = _NO_TRAVEL & set(layout.counts) or _TRAVEL_WORDS & layout.caption_words
    if layout.things and not rideable:
        yield question, f"Probably not, because the picture shows no vehicle, but {_shown(layout)}."


def _about_food(layout: Layout) -> Iterator[tuple[str, str]]:
    question = "Is there something to eat, and why?"
    food = layout.kinds("food")
    if food:
        name = food[0]
        n = layout.counts[name]
        yield (
            question,
            f"Yes, because there {is_are(name, n)} {counted(name, n)}, and that is food.",
        )
    elif layout.things and not _MEAL_WORDS & layout.caption_words:
        yield question, f"Probably not, because the picture shows no food, but {_shown(layout)}."


def _about_things(layout: Layout) -> Iterator[tuple[str, str]]:
    # The questions do not name the thing: to know it, one has to see the picture.
    moving = next((name for name in layout.counts if name in NEXT), None)
    if moving:
        answer = f"{the(moving, layout.counts[moving])} could {NEXT[moving]}, because that is what"
        yield "What could happen next, and why?", sentence(f"{answer} {plural(moving)} often do")
    useful = next((name for name in layout.counts if name in USES), None)
    if useful:
        n = layout.counts[useful]
        made = "it is made" if is_are(useful, n) == "is" else "they are made"
        why = "horses can carry people" if useful == "horse" else f"{made} for that"
        yield (
            "How could people use something here, and why?",
            f"People could {USES[useful]} {the(useful, n)}, because {why}.",
        )
    animals = layout.kinds("animal")
    if animals:
        n = layout.counts[animals[0]]
        verb, why = ("needs", "it is an animal") if n == 1 else ("need", "they are animals")
        yield (
            "What needs food and water here, and why?",
            sentence(f"{the(animals[0], n)} {verb} food and water, because {why}"),
        )


def _about_size(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.things:
        name = layout.things[0].name
        n = layout.counts[name]
        subject = the(name) if n == 1 or name in PAIRS else f"one of the {plural(name)}"
        yield (
            "What do people see first here, and why?",
            sentence(f"people first see {subject}, because no other thing is larger"),
        )


def conclusions(layout: Layout) -> list[tuple[str, str]]:
    """All questions with answers that the rules find for a picture; may be empty.

    Every answer has 8 to 25 words, is true given captions and boxes, and names its evidence.
    """
    rules = (_about_place, _about_travel, _about_food, _about_things, _about_size)
    return [pair for rule in rules for pair in rule(layout)]


def evidence(layout: Layout) -> str | None:
    """The answer to a bare `Why?` after a caption: what the boxes show; None without boxes."""
    return f"Because the picture shows {_shown(layout)}." if layout.things else None
