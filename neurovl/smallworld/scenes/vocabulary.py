"""The words of the small world: phrases for places, verbs, numbers and plurals, about 250 words in all."""

from neurovl.smallworld.scenes.graph import CATEGORIES

NUMBERS = ("no", "one", "two", "three", "four", "five")
PLURALS = {"man": "men", "woman": "women", "child": "children", "person": "people"}
UNCOLOURED = ("traffic light", "tv", "stop sign", "person")
AT = {  # background -> where the whole picture is
    "beach": ("on the beach", "at the beach", "on a sandy beach", "near the ocean"),
    "ocean": ("in the ocean", "on the ocean", "out at sea"),
    "lake": ("by the lake", "near a mountain lake", "at the lake"),
    "field": ("in a field", "in a grassy field", "on a farm", "in a green field"),
    "park": ("in the park", "in a park", "on the grass in a park"),
    "forest": ("in the forest", "in the woods", "near the trees in a forest"),
    "savanna": ("in the savanna", "on a dry grass plain", "in the wild"),
    "desert": ("in the desert", "on the sand in a desert", "near some cactus in the desert"),
    "snow": ("in the snow", "on a snowy hill", "in a snowy place near the mountains"),
    "street": ("on the street", "on a street with shops", "in front of some shops"),
    "city": ("in the city", "in a big city", "near tall buildings in the city"),
    "railway": ("near the train tracks", "by the tracks in the country"),
    "sky": ("in the sky", "up in the air", "high in the sky"),
    "kitchen": ("in a kitchen", "in the kitchen"),
    "living room": ("in a living room", "in the living room", "in a room with a rug"),
    "bedroom": ("in a bedroom", "in the bedroom"),
    "office": ("in an office", "in a room with books on a shelf"),
    "table": ("on a table", "on top of a table", "on a table near a window"),
    "studio": ("on a plain background", "in front of a plain gray background"),
}
PLACES = {  # place of one object, where it says more than the background
    "water": {
        "ocean": ("on the ocean", "on the blue water", "on the waves"),
        "lake": ("on a lake", "on the water near the mountains"),
    },
    "road": {
        "street": ("down the street", "on the road", "on a street past some shops"),
        "city": ("down a city street", "on the road in the city"),
    },
    "pavement": {
        "street": ("on the sidewalk", "by the side of the street"),
        "city": ("on a city sidewalk", "by the side of a city street"),
    },
    "rails": {"railway": ("down the tracks", "on the tracks", "on the railroad tracks")},
    "counter": {"kitchen": ("on a kitchen counter", "on the counter in a kitchen")},
    "desk": {"office": ("on a desk", "on a wooden desk", "on a desk in an office")},
}
SKY = {
    "beach": "over the beach",
    "lake": "over the lake",
    "park": "over a park",
    "field": "over a field",
    "sky": "in the sky",
    "ocean": "over the ocean",
}
VERBS = {
    "car": "driving",
    "bus": "driving",
    "train": "traveling",
    "airplane": "flying",
    "boat": "sailing",
    "cat": "sitting",
    "dog": "standing",
    "horse": "standing",
    "sheep": "standing",
    "cow": "standing",
    "elephant": "standing",
    "bear": "walking",
    "zebra": "standing",
    "giraffe": "standing",
    "kite": "flying",
    "clock": "hanging",
    "teddy bear": "sitting",
    "bicycle": "parked",
    "potted plant": "standing",
}
SETTINGS = {
    "beach": "beach",
    "ocean": "ocean",
    "lake": "lake",
    "field": "field",
    "park": "park",
    "forest": "forest",
    "savanna": "savanna",
    "desert": "desert",
    "snow": "winter",
    "street": "street",
    "city": "city",
    "railway": "railway",
    "kitchen": "kitchen",
    "living room": "living room",
    "bedroom": "bedroom",
    "office": "office",
}
SCRAMBLED = (
    "a scrambled picture of random patches",
    "this is a scrambled picture of nothing",
    "a scrambled picture made of small patches",
    "a scrambled image with many colors",
    "a scrambled picture on a plain background",
    "a scrambled image of random colors",
    "many small patches in a scrambled picture",
)
SAYS = {"left of": "to the left of", "right of": "to the right of"}


def article(words: str) -> str:
    """The words with a or an before them."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def plural(noun: str) -> str:
    return PLURALS.get(noun) or CATEGORIES[noun].plural
