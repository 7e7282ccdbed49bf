"""NSD's functional grids of 1.8 mm, the size of each nsdgeneral, and the atlases of regions with their labels."""

GRIDS = {
    1: (81, 104, 83),
    2: (82, 106, 84),
    3: (81, 106, 82),
    4: (85, 99, 80),
    5: (79, 97, 78),
    6: (85, 113, 83),
    7: (78, 95, 81),
    8: (80, 103, 78),
}
VOXEL_MM = 1.8
NSDGENERAL = {1: 15724, 2: 14278, 3: 15226, 4: 13153, 5: 13039, 6: 17907, 7: 12682, 8: 14386}

# NSD's own label tables
ATLASES = {
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": (
        "early",
        "midventral",
        "midlateral",
        "midparietal",
        "ventral",
        "lateral",
        "parietal",
    ),
}


def grid(subject: int, scale: float) -> tuple[int, int, int]:
    """NSD's func1pt8mm grid of a subject, divided by `scale`."""
    return tuple(max(4, round(size / scale)) for size in GRIDS[subject])
