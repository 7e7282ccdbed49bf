"""The prompts' wordings and the little grammar that the answers need; no picture is looked at here.

The numbers of wordings are the paper's (14 brief, 20 detailed, 1 and 1); the words are our own.
"""

import re

PROMPTS: dict[str, tuple[str, ...]] = {
    "brief": (
        "What is in the picture?",
        "What does the person see?",
        "Say in one sentence what is shown.",
        "What is this a picture of?",
        "Give a short caption.",
        "Sum up the scene.",
        "What can be seen here?",
        "Write one line about the picture.",
        "Tell me in short what is there.",
        "What was the person looking at?",
        "Put the scene in one sentence.",
        "What is the main thing here?",
        "Caption the picture.",
        "What does the brain see?",
    ),
    "detailed": (
        "What is there, and where is each thing?",
        "Tell me all about the picture.",
        "Give a long description.",
        "Which things are there, and how many of each?",
        "Walk me through the whole scene.",
        "Describe the layout of the picture.",
        "Say what is where in the scene.",
        "List the things and their places.",
        "Put the scene in words, part by part.",
        "How is the picture laid out?",
        "Give a full account of the scene.",
        "Write a few sentences about the scene.",
        "Describe it so that I could draw it.",
        "What things are shown, and how do they lie to each other?",
        "Tell me more than a caption would.",
        "Describe each thing and its place.",
        "What does the person see, in full?",
        "Report the scene with numbers and places.",
        "Help me to see the whole scene.",
        "Describe the picture with all its parts.",
    ),
    "reconstruction": ("Write a prompt from which a diffusion model can draw the picture.",),
    "localization": ('Locate the concept "{}" in the brain.',),
}

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PAIRS = frozenset({"skis", "scissors"})
_IRREGULAR = {"person": "people", "mouse": "mice", "knife": "knives"}
_UNCHANGED = frozenset({"sheep", "broccoli"}) | PAIRS

COLOURS = tuple(
    re.findall(
        "[a-z]+",
        "red orange yellow green blue purple pink brown black white gray grey golden tan silver",
    )
)

# Words by which captions may mean a category that the boxes do not list: such a category is never
# used for an answer "no". A category's own name, its plural and its last word count anyway.
_SYNONYMS: dict[str, str] = {
    "person": "people man men woman women boy boys girl girls child children kid kids baby lady "
    "guy guys player players someone crowd couple family group skier surfer rider batter",
    "airplane": "plane planes jet jets aircraft",
    "bicycle": "bike bikes cyclist",
    "motorcycle": "bike bikes motorbike motorbikes motorcyclist scooter",
    "couch": "sofa sofas",
    "tv": "television televisions screen",
    "cell phone": "phones cellphone smartphone",
    "laptop": "computer computers",
    "donut": "doughnut doughnuts pastry",
    "refrigerator": "fridge",
    "train": "tram locomotive",
    "boat": "ship ships sailboat canoe",
    "car": "cars taxi van vehicle vehicles traffic",
    "truck": "vehicle vehicles van",
    "bird": "seagull duck ducks goose parrot gull",
    "face": "faces head portrait person people man woman boy girl",
    "house": "houses building buildings home",
    "shoe": "shoes boot boots",
    "cup": "mug mugs coffee",
    "cow": "cattle bull",
    "dog": "puppy puppies",
    "cat": "kitten kittens",
    "sheep": "lamb lambs",
    "sports ball": "baseball soccer tennis football",
    "skis": "ski skier skiers skiing",
    "dining table": "tables desk",
    "potted plant": "flower flowers pot",
    "bowl": "dish dishes",
    "handbag": "bag bags purse",
    "suitcase": "bag bags luggage",
    "backpack": "bag bags",
}


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return re.findall(r"[a-z]+", text.lower())


def n_words(text: str) -> int:
    """Number of words between spaces."""
    return len(text.split())


def plural(name: str) -> str:
    """Plural of a category name: `bus` -> `buses`, `wine glass` -> `wine glasses`."""
    if name in _UNCHANGED:
        return name
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    if re.search(r"(s|x|z|ch|sh)$", name):
        return name + "es"
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + "s"


def a(name: str) -> str:
    """The name with its indefinite article: `a dog`, `an apple`, `a pair of skis`."""
    if name in PAIRS:
        return f"a pair of {name}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def number(n: int) -> str:
    """A number as a word; above ten it is `many`."""
    return NUMBERS[n] if n < len(NUMBERS) else "many"


def counted(name: str, n: int) -> str:
    """`a dog`, `two dogs`, `many people`, `two pairs of skis`."""
    if n == 1:
        return a(name)
    return f"{number(n)} {'pairs of ' if name in PAIRS else ''}{plural(name)}"


def the(name: str, n: int = 1) -> str:
    """`the dog`, `the dogs`."""
    return f"the {name if n == 1 else plural(name)}"


def is_are(name: str, n: int) -> str:
    """The verb that fits n things of that name."""
    return "is" if n == 1 and name not in PAIRS else "are"


def is_there(name: str) -> str:
    """The question whether a category is in the picture."""
    return f"Are there any {name}?" if name in PAIRS else f"Is there {a(name)}?"


def how_many(name: str) -> str:
    """The question how many there are of a category."""
    return f"How many {'pairs of ' + name if name in PAIRS else plural(name)} are there?"


def listed(items: list[str]) -> str:
    """`x`, `x and y`, `x, y and z`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(text: str) -> str:
    """Whitespace made single, first letter upper case, one full stop at the end."""
    text = " ".join(text.split()).rstrip(" .!")
    return f"{text[:1].upper()}{text[1:]}."


def mentioned(name: str, caption_words: set[str]) -> bool:
    """Whether captions may speak of that category, by its name, last word, plural or a synonym."""
    last = name.split()[-1]
    own = {last, *plural(name).split()[-1:], *_SYNONYMS.get(name, "").split()}
    return bool(own & caption_words)
