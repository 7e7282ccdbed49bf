"""NSD's functional grids of 1.8 mm, the size of each nsdgeneral, and the atlases of regions with their labels.

Numbers of the wider atlases: Wang et al. 2015, Cereb. Cortex 25:3911; Glasser et al. 2016, Nature 536:171.
"""

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

# atlases that NSD carries besides; regions are not read from them, as their names are those of the others
WIDER_ATLASES = {
    "Kastner2015": tuple(
        "V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 TO2 TO1 LO2 LO1 V3B V3A IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 "
        "FEF".split()
    ),
    "HCP_MMP1": tuple(
        "V1 MST V6 V2 V3 V4 V8 4 3b FEF PEF 55b V3A RSC POS2 V7 IPS1 FFC V3B LO1 LO2 PIT MT A1 PSL SFL PCV STV 7Pm "
        "7m POS1 23d v23ab d23ab 31pv 5m 5mv 23c 5L 24dd 24dv 7AL SCEF 6ma 7Am 7PL 7PC LIPv VIP MIP 1 2 3a 6d 6mp 6v "
        "p24pr 33pr a24pr p32pr a24 d32 8BM p32 10r 47m 8Av 8Ad 9m 8BL 9p 10d 8C 44 45 47l a47r 6r IFJa IFJp IFSp "
        "IFSa p9-46v 46 a9-46v 9-46d 9a 10v a10p 10pp 11l 13l OFC 47s LIPd 6a i6-8 s6-8 43 OP4 OP1 OP2-3 52 RI PFcm "
        "PoI2 TA2 FOP4 MI Pir AVI AAIC FOP1 FOP3 FOP2 PFt AIP EC PreS H ProS PeEc STGa PBelt A5 PHA1 PHA3 STSda STSdp "
        "STSvp TGd TE1a TE1p TE2a TF TE2p PHT PH TPOJ1 TPOJ2 TPOJ3 DVT PGp IP2 IP1 IP0 PFop PF PFm PGi PGs V6A VMV1 "
        "VMV3 PHA2 V4t FST V3CD LO3 VMV2 31pd 31a VVC 25 s32 pOFC PoI1 Ig FOP5 p10p p47r TGv MBelt LBelt A4 STSva TE1m "
        "PI a32pr p24".split()
    ),
}


def grid(subject: int, scale: float) -> tuple[int, int, int]:
    """NSD's func1pt8mm grid of a subject, divided by `scale`."""
    return tuple(max(4, round(size / scale)) for size in GRIDS[subject])
