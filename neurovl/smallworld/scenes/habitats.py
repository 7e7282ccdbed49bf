"""Where objects live: the places of each background, and the backgrounds of each category with its weight.

Weights are set so that each COCO category is in at least 3 % of the pictures of a stream.
"""

# place -> range of the base line (sky, wall: of the centre), per background
_GROUND = {"ground": (0.76, 0.95), "sky": (0.12, 0.4)}
SPOTS = {
    "beach": {"ground": (0.8, 0.95), "water": (0.57, 0.6), "sky": (0.1, 0.36)},
    "ocean": {"water": (0.66, 0.88), "sky": (0.1, 0.34)},
    "lake": {"ground": (0.92, 0.97), "water": (0.62, 0.82), "sky": (0.1, 0.36)},
    **dict.fromkeys(("field", "park", "forest", "savanna", "desert", "snow"), _GROUND),
    "street": {"road": (0.86, 0.96), "pavement": (0.77, 0.82), "sky": (0.08, 0.3)},
    "city": {"road": (0.86, 0.96), "pavement": (0.765, 0.8), "sky": (0.08, 0.3)},
    "railway": {"rails": (0.884, 0.888), "ground": (0.93, 0.97), "sky": (0.1, 0.34)},
    "sky": {"sky": (0.3, 0.68)},
    "kitchen": {"counter": (0.625, 0.645), "floor": (0.95, 0.98), "wall": (0.2, 0.4)},
    "living room": {"floor": (0.8, 0.95), "wall": (0.16, 0.34)},
    "bedroom": {"floor": (0.82, 0.95), "wall": (0.16, 0.32)},
    "office": {"desk": (0.68, 0.77), "floor": (0.95, 0.98), "wall": (0.16, 0.36)},
    "table": {"table": (0.64, 0.88)},
    "studio": {"middle": (0.5, 0.5)},
}
# where a category lives; the first number is its weight as the main object
_HABITATS = """
person|0.82|beach:ground park:ground street:pavement snow:ground city:pavement field:ground
bicycle|0.89|street:road park:ground city:road beach:ground
car|0.93|street:road city:road desert:ground
airplane|1.65|sky:sky
bus|1.15|street:road city:road
train|1.53|railway:rails
boat|1.31|lake:water ocean:water
traffic light|0.83|street:pavement city:pavement
fire hydrant|1.04|street:pavement city:pavement
stop sign|0.93|street:pavement city:pavement desert:ground
bench|0.97|park:ground beach:ground street:pavement snow:ground
bird|0.1|sky:sky beach:ground park:ground lake:ground
cat|0.53|living room:floor bedroom:floor kitchen:floor
dog|0.64|park:ground living room:floor beach:ground snow:ground
horse|1.12|field:ground desert:ground park:ground
sheep|1.22|field:ground
cow|1.32|field:ground
elephant|1.32|savanna:ground
bear|1.51|forest:ground snow:ground
zebra|1.25|savanna:ground
giraffe|1.16|savanna:ground
umbrella|1.28|beach:ground
kite|0.66|beach:sky park:sky field:sky
surfboard|0.9|beach:ground
bottle|0.66|table:table kitchen:counter
cup|0.77|table:table office:desk kitchen:counter
banana|0.84|table:table kitchen:counter
apple|0.74|table:table kitchen:counter
pizza|1.13|table:table
cake|1.33|table:table
chair|0.73|living room:floor kitchen:floor
couch|1.38|living room:floor
potted plant|0.78|living room:floor bedroom:floor office:desk
bed|1.47|bedroom:floor
dining table|1.02|kitchen:floor living room:floor
tv|1.35|living room:floor
laptop|0.98|office:desk table:table
refrigerator|1.3|kitchen:floor
clock|0.5|living room:wall office:wall bedroom:wall
vase|0.8|table:table office:desk
scissors|0.89|office:desk table:table
teddy bear|0.73|bedroom:floor living room:floor
"""


def _read() -> tuple[dict[str, tuple[tuple[str, str], ...]], dict[str, float]]:
    homes, weights = {}, {}
    for row in _HABITATS.strip().splitlines():
        name, weight, places = row.split("|")
        weights[name] = float(weight)
        pairs = places.replace(" room", "_room").split()
        homes[name] = tuple(tuple(one.replace("_", " ").split(":")) for one in pairs)
    return homes, weights


HABITATS, WEIGHTS = _read()
