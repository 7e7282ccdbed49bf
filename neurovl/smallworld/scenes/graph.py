"""What a drawn scene is made of: categories, colours, backgrounds, and the scene graph.

Category names, supercategories and ids are COCO's; face, house, shoe and scrambled are not COCO's
and occur in studio scenes only. Leaves out sampling (sampling), painting and words.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """A kind of object; `coco_id` is None for those COCO does not have."""

    name: str
    supercategory: str
    coco_id: int | None
    plural: str
    colours: tuple[str, ...]
    scale: float  # typical extent, arbitrary units: what is beside a bus looks small


COLOURS = {
    "red": (214, 48, 49),
    "orange": (240, 132, 35),
    "yellow": (247, 203, 49),
    "green": (62, 160, 85),
    "blue": (52, 110, 214),
    "purple": (136, 78, 176),
    "pink": (240, 130, 172),
    "white": (244, 244, 240),
    "black": (44, 44, 50),
    "brown": (139, 88, 52),
    "gray": (140, 146, 152),
}
PAINT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
CLOTH = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
FUR = ("brown", "black", "white", "gray", "orange")

_TABLE = """
person|person|1|people|CLOTH|1.7
bicycle|vehicle|2|bicycles|red,blue,green,yellow,black|1.6
car|vehicle|3|cars|PAINT|3.2
airplane|vehicle|5|airplanes|white,red,blue,yellow|5
bus|vehicle|6|buses|red,yellow,blue,green,white,orange|5
train|vehicle|7|trains|red,blue,green,yellow,orange,white|6
boat|vehicle|9|boats|red,blue,white,green,yellow,orange|3.5
traffic light|outdoor|10|traffic lights|yellow,black,green|2.2
fire hydrant|outdoor|11|fire hydrants|red,yellow,blue,orange|.9
stop sign|outdoor|13|stop signs|red|2.1
bench|outdoor|15|benches|brown,green,blue,red,gray|1.7
bird|animal|16|birds|blue,red,black,white,yellow,brown|.5
cat|animal|17|cats|orange,black,white,gray,brown|.6
dog|animal|18|dogs|brown,black,white,gray,yellow|.9
horse|animal|19|horses|brown,black,white,gray|2.1
sheep|animal|20|sheep|white,black,brown|1.2
cow|animal|21|cows|white,brown,black|2.1
elephant|animal|22|elephants|gray|4
bear|animal|23|bears|brown,black,white|1.9
zebra|animal|24|zebras||2.1
giraffe|animal|25|giraffes||4
umbrella|accessory|28|umbrellas|CLOTH|1.1
kite|sports|38|kites|red,orange,yellow,green,blue,purple,pink|1.4
surfboard|sports|42|surfboards|red,orange,yellow,blue,white,pink|1.8
bottle|kitchen|44|bottles|green,brown,blue,red|.3
cup|kitchen|47|cups|red,blue,white,green,yellow,pink,black|.2
banana|food|52|bananas|yellow|.25
apple|food|53|apples|red,green,yellow|.17
pizza|food|59|pizzas||.45
cake|food|61|cakes|pink,white,brown,yellow|.4
chair|furniture|62|chairs|brown,red,blue,green,white,yellow|1
couch|furniture|63|couches|red,blue,green,brown,gray,purple,orange|2.2
potted plant|furniture|64|potted plants||.8
bed|furniture|65|beds|blue,red,green,pink,purple,white|2.3
dining table|furniture|67|dining tables|brown,white,gray|1.8
tv|electronic|72|tvs|black|1.1
laptop|electronic|73|laptops|gray,black,white,blue|.4
refrigerator|appliance|82|refrigerators|white,gray,red,blue,green|1.9
clock|indoor|85|clocks|red,blue,black,brown,green|.4
vase|indoor|86|vases|blue,red,white,green,purple,orange|.4
scissors|indoor|87|pairs of scissors|red,blue,green,orange,black|.25
teddy bear|indoor|88|teddy bears|brown,white,pink,gray|.5
face|person||faces||1
house|building||houses|red,white,yellow,blue,brown|6
shoe|clothing||shoes|red,blue,black,white,brown,green|.3
scrambled|texture||scrambled pictures||1
"""


def _categories() -> dict[str, Category]:
    groups = {"PAINT": PAINT, "CLOTH": CLOTH}
    out = {}
    for row in _TABLE.strip().splitlines():
        name, kind, number, plural, colours, scale = row.split("|")
        names = groups.get(colours) or tuple(c for c in colours.split(",") if c)
        out[name] = Category(
            name, kind, int(number) if number else None, plural, names, float(scale)
        )
    return out


CATEGORIES = _categories()
OUTDOOR = (
    "beach",
    "ocean",
    "lake",
    "field",
    "park",
    "forest",
    "savanna",
    "desert",
    "snow",
    "street",
    "city",
    "railway",
    "sky",
)
INDOOR = ("kitchen", "living room", "bedroom", "office", "table")
BACKGROUNDS = (*OUTDOOR, *INDOOR, "studio")

POSES = ("standing", "walking", "sitting", "waving", "riding")  # of a person: style % 5
KINDS = ("man", "woman", "child")  # of a person: style // 5 % 3; style // 15 is the looks


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene.

    Attributes
    ----------
    box : (x0, y0, x1, y1)
        Tight box in the unit square, y downwards. Parts may be hidden by what is painted later.
    colour : str
        A key of COLOURS, or "" where the category has no colour of its own (zebra, pizza).
    """

    category: str
    colour: str
    size: str
    box: tuple[float, float, float, float]
    flip: bool
    style: int

    @property
    def supercategory(self) -> str:
        return CATEGORIES[self.category].supercategory

    @property
    def pose(self) -> str:
        """What a person does; "" for anything else."""
        return POSES[self.style % 5] if self.category == "person" else ""

    @property
    def noun(self) -> str:
        """The category's name, but man, woman or child for a person."""
        return KINDS[self.style // 5 % 3] if self.category == "person" else self.category


@dataclass(frozen=True)
class Scene:
    """A picture before it is painted; objects back to front.

    `links` holds (i, verb, j): object i is "sitting on", "on", "holding", "flying" or "riding" j.
    """

    stream: str
    index: int
    background: str
    time: str
    weather: str
    objects: tuple[SceneObject, ...]
    links: tuple[tuple[int, str, int], ...] = ()

    @property
    def indoors(self) -> bool:
        return self.background in INDOOR


def scene_objects(scene: Scene) -> list[dict]:
    """Annotations of the COCO categories, as a reader of NSD gives them.

    Returns
    -------
    list of dict
        category, supercategory, box (x0, y0, x1, y1) as fractions of the picture.
    """
    return [
        {"category": o.category, "supercategory": o.supercategory, "box": o.box}
        for o in scene.objects
        if CATEGORIES[o.category].coco_id is not None
    ]


def relations(scene: Scene) -> list[tuple[int, str, int]]:
    """Where objects are to each other, from their boxes alone.

    Left and right (as the viewer sees it) need centres apart by a fifth of the picture; above and
    below need boxes that do not share a height; in front and behind need boxes that overlap while
    neither object carries the other.
    """
    out = []
    linked = {(i, j) for i, _, j in scene.links} | {(j, i) for i, _, j in scene.links}
    for i, a in enumerate(scene.objects):
        for j, b in enumerate(scene.objects):
            if i == j:
                continue
            ax, bx = (a.box[0] + a.box[2]) / 2, (b.box[0] + b.box[2]) / 2
            if bx - ax > 0.2:
                out.append((i, "left of", j))
            elif ax - bx > 0.2:
                out.append((i, "right of", j))
            if a.box[3] <= b.box[1]:
                out.append((i, "above", j))
            elif b.box[3] <= a.box[1]:
                out.append((i, "below", j))
            wide = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
            high = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
            if wide > 0.03 and high > 0.03 and (i, j) not in linked:
                out.append((i, "in front of" if i > j else "behind", j))
    return out
