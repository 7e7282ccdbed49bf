"""NSD with one defect: case, defect, file, what was found, what was expected, next step, command."""

import numpy as np

from bad_input.breakers import (
    cell,
    cut,
    dims,
    filled,
    flipped,
    folder_instead,
    forbidden,
    hdf5,
    header,
    holds,
    json_with,
    link_to,
    matlab,
    nothing,
    own_chunks,
    remove,
    rename,
    replaced,
    rows,
    text,
    volumes,
)  # fmt: skip
from bad_input.worlds import BETAS, EXPERIMENT, PREPROCESS, ROI, STIMULI

BETA, HDF5 = f"data/{BETAS}.nii.gz", f"data/{BETAS}.hdf5"
MASK, ATLAS = f"data/{ROI}/nsdgeneral.nii.gz", f"data/{ROI}/prf-visualrois.nii.gz"
DESIGN, INFO = (f"data/{EXPERIMENT}/{n}" for n in ("nsd_expdesign.mat", "nsd_stim_info_merged.csv"))
PICTURES, MARK = f"data/{STIMULI}/nsd_stimuli.hdf5", "data/SIMULATED.json"
LABELS = "data/nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"
CAPTIONS, BOXES = (f"data/{STIMULI}/annotations/{k}_train2017.json" for k in ("captions", "instances"))  # fmt: skip
ENCODER = "train encoder --run run --system main"
LANGUAGE = "train llm --run run"
LOCATE = "locate --run run --subject 1 --concept dog --out out.nii.gz"
FETCH, AGAIN = "neurovl download nsd", "neurovl download nsd --subjects 1 --verify"
VERIFY, B = "neurovl download nsd --verify", "betas_session01"
GRID = r"\(14, 17, 14\)"


def bricks(shape, dtype, value):
    """Other pictures, of which nothing is written."""

    def change(file):
        del file["imgBrick"]
        file.create_dataset("imgBrick", shape, dtype, chunks=(1, *shape[1:]), fillvalue=value)

    return hdf5(PICTURES, change)


NSD = [
    ("betas cut in the header", cut(BETA, 0.00003), B, "ended before", "NIfTI", AGAIN),
    ("betas cut in the middle", cut(BETA, 0.5), B, "ends early", rf"promises {GRID[:-2]}, 750", AGAIN),
    ("betas cut in the checksum", cut(BETA, -5), B, "ends early", "promises", AGAIN),
    ("betas with another checksum", flipped(BETA, -6), B, "CRC check failed", "!=", AGAIN),
    ("betas with a wrong byte", flipped(BETA, 0.5), B, "is damaged|ends early", "750", AGAIN),
    ("betas with bytes at the end", lambda f: holds(BETA, (f / BETA).read_bytes() + b"more")(f), B, "ends early|damaged|more than", "promises", AGAIN),
    ("betas of no bytes", holds(BETA, b""), B, "does not begin with", "NIfTI", AGAIN),
    ("betas that are an error page", holds(BETA, "<html>\n" * 99), B, "does not begin with", "NIfTI", AGAIN),
    ("a folder for betas", folder_instead(BETA), B, "is a folder", "a file of betas", FETCH),
    ("betas that lead nowhere", link_to(BETA, "../annex/gone"), B, "link to content that is not", "a file of betas", FETCH),
    ("betas without the right to read", forbidden(BETA), B, "cannot be read", "a file that you may read", "chmod"),
    ("749 volumes", volumes(BETA, lambda v: v[..., :749]), B, "749 volumes", "expected 750", AGAIN),
    ("header of 749 volumes", header(BETA, dim=dims(14, 17, 14, 749)), B, "749 volumes", "expected 750", AGAIN),
    ("header of a larger grid", header(BETA, dim=dims(28, 17, 14, 750)), B, r"\(28, 17, 14\)", f"expected {GRID}", AGAIN),
    ("header of float64", header(BETA, datatype=64, bitpix=64), B, "ends early", "promises", AGAIN),
    ("header of RGB", header(BETA, datatype=128, bitpix=24), B, "numbers of type", "real numbers", AGAIN),
    ("header of no known type", header(BETA, datatype=999), B, "999", "NIfTI", AGAIN),
    ("header of a negative size", header(BETA, dim=dims(-14, 17, 14, 750)), B, "-14", r"expected \(x, y, z", AGAIN),
    ("voxels beyond the end", header(BETA, vox_offset=1e9), B, "ends early", "promises", AGAIN),
    ("voxels in a second file", header(BETA, magic=b"ni1"), B, "second file", "both in one", "save it as"),
    ("axes swapped", volumes(BETA, lambda v: v.transpose(1, 0, 2, 3)), B, r"\(17, 14, 14\)", f"expected {GRID}", AGAIN),
    ("trials on the first axis", volumes(BETA, lambda v: np.moveaxis(v, -1, 0)), B, "14 volumes", "expected 750", AGAIN),
    ("one volume", volumes(BETA, lambda v: v[..., 0]), B, "1 volumes", "expected 750", AGAIN),
    ("five axes", volumes(BETA, lambda v: v.reshape(14, 17, 14, 375, 2)), B, "375, 2", "expected", AGAIN),
    ("complex betas", volumes(BETA, lambda v: v.astype(np.complex64)), B, "complex64", "real numbers", AGAIN),
    ("a trial of NaN", volumes(BETA, lambda v: filled(v, np.nan, slice(None), slice(None), slice(None), 3)), B, "not finite", "expected numbers", "shrink the mask"),
    ("infinite betas", volumes(BETA, lambda v: filled(v, np.inf, slice(5, 7))), B, "infinite", "expected numbers", "shrink the mask"),
    ("a constant session", volumes(BETA, lambda v: np.full_like(v, 300)), B, "are constant", "at most 20%", "leave this session out"),
    ("a mask of constant voxels", volumes(BETA, lambda v: np.where(np.arange(14)[:, None, None, None] < 7, 0, v).astype(v.dtype)), B, "are constant", "at most 20%", "another mask"),
    ("session 0", rename(BETA, "betas_session00.nii.gz"), "betas_session00", "session 0", "1 to 40", "remove it"),
    ("session 41", rename(BETA, "betas_session41.nii.gz"), "betas_session41", "session 41", "1 to 40", "remove it"),
    ("sessions of other names", rename(BETA, "betas_ses1.nii.gz"), "data", "no betas of any subject", f"expected .*{B}", FETCH),
    ("no betas", remove(BETA), "data", "no betas of any subject", f"expected .*{B}", FETCH),
    ("a subject that is not there", nothing, "data", "no betas of subj03", "expected .*subj03", "--subjects 3", f"{PREPROCESS} --subjects 3"),
    ("an empty mask", volumes(MASK, lambda v: np.minimum(v, 0)), "nsdgeneral", "0 voxels above 0", "and some", AGAIN),
    ("a mask of NaN", volumes(MASK, lambda v: np.full(v.shape, np.nan, np.float32)), "nsdgeneral", "0 voxels above 0", "and some", AGAIN),
    ("a mask on another grid", volumes(MASK, lambda v: v[:-1]), B, f"grid {GRID}", r"expected \(13, 17, 14\)", AGAIN),
    ("a mask of four axes", volumes(MASK, lambda v: np.stack([v, v], -1)), "nsdgeneral", "14, 2", r"expected \(x, y, z\)", AGAIN),
    ("no mask", remove(MASK), "nsdgeneral.nii.gz", "is missing", "nsddata/ppdata/subj01", FETCH),
    ("a mask cut short", cut(MASK, 0.4), "nsdgeneral", "ends early", "promises", FETCH),
    ("a mask that is no NIfTI", holds(MASK, b"x" * 999), "nsdgeneral", "not a readable", "NIfTI", FETCH),
    ("no design", remove(DESIGN), "nsd_expdesign.mat", "is missing", "nsddata/experiments/nsd", FETCH),
    ("a design cut short", cut(DESIGN, 0.6), "nsd_expdesign.mat", "cannot be read", "expected a MATLAB file", VERIFY),
    ("a design of no bytes", holds(DESIGN, b""), "nsd_expdesign.mat", "cannot be read", "expected a MATLAB file", VERIFY),
    ("a design of 750 trials", matlab(DESIGN, masterordering=lambda a: a[:, :750]), "nsd_expdesign.mat", "750 trials", "expected 30000", VERIFY),
    ("pictures out of range", matlab(DESIGN, subjectim=lambda a: a + 73_000), "nsd_expdesign.mat", "subjectim from 73", "1 to 73000", VERIFY),
    ("slots counted from 0", matlab(DESIGN, masterordering=lambda a: a - 1), "nsd_expdesign.mat", "from 0", "1 to 10000", VERIFY),
    ("a design of text", matlab(DESIGN, subjectim=lambda a: "text"), "nsd_expdesign.mat", "invalid literal", "expected a MATLAB file", VERIFY),
    ("broken JSON in the mark", holds(MARK, "{"), "SIMULATED.json", "property name", "a JSON object", "neurovl simulate"),
    ("a list in the mark", holds(MARK, "[]"), "SIMULATED.json", "no object", "a JSON object", "neurovl simulate"),
    ("a simulation that was interrupted", json_with(MARK, complete=False), "data", "was interrupted", "same settings", "neurovl simulate"),
]  # fmt: skip
NSD_HDF5 = [
    ("HDF5 cut short", cut(HDF5, 0.5), B, "truncated", "expected an HDF5 file", AGAIN),
    ("HDF5 cut in its head", cut(HDF5, 0.0001), B, "truncated", "expected an HDF5 file", AGAIN),
    ("HDF5 without betas", hdf5(HDF5, lambda f: f.move("betas", "data")), B, "'betas' doesn't exist", "with the dataset betas", AGAIN),
    ("HDF5 with axes as in NIfTI", hdf5(HDF5, lambda f: replaced(f, "betas", f["betas"][:].T)), B, "14 volumes", "expected 750", AGAIN),
    ("HDF5 with 700 volumes", hdf5(HDF5, lambda f: replaced(f, "betas", f["betas"][:700])), B, "700 volumes", "expected 750", AGAIN),
    ("HDF5 of text", hdf5(HDF5, lambda f: replaced(f, "betas", np.full((750, 14, 17, 14), b"x"))), B, "S1", "real numbers", AGAIN),
    ("HDF5 with a group for betas", hdf5(HDF5, lambda f: (f.move("betas", "x"), f.create_group("betas"))), B, "no array", r"expected \(volumes", AGAIN),
    ("HDF5 with a wrong byte", own_chunks(HDF5), B, "cannot be read", "expected an HDF5 file", AGAIN),
]  # fmt: skip
NSD_TRAINED = [
    ("pictures cut short", cut(PICTURES, 0.5), "nsd_stimuli.hdf5", "truncated", "imgBrick", VERIFY, ENCODER),
    ("no imgBrick", hdf5(PICTURES, lambda f: f.move("imgBrick", "bricks")), "nsd_stimuli.hdf5", "doesn't exist", "imgBrick", VERIFY, ENCODER),
    ("a slot that was never written", bricks((73_000, 425, 425, 3), "uint8", 0), "nsd_stimuli.hdf5", "no picture", "never written", "choose", ENCODER),
    ("too few pictures", hdf5(PICTURES, lambda f: replaced(f, "imgBrick", f["imgBrick"][:10])), "nsd_stimuli.hdf5", "no picture", "slot", "choose", ENCODER),
    ("pictures without colours", bricks((73_000, 425), "uint8", 7), "nsd_stimuli.hdf5", r"shape \(425,\)", r"\(425, 425, 3\)", VERIFY, ENCODER),
    ("pictures of floats", bricks((73_000, 425, 425, 3), "float32", 7), "nsd_stimuli.hdf5", "float32", "uint8", VERIFY, ENCODER),
    ("no table of pictures", remove(INFO), "nsd_stim_info_merged.csv", "is missing", "nsddata/experiments", FETCH, LOCATE),
    ("no column cropBox", rows(INFO, lambda t: t.drop(columns="cropBox"), ","), "nsd_stim_info_merged.csv", r"not found: \['cropBox'\]", "cropBox", VERIFY, LOCATE),
    ("a crop of two numbers", cell(INFO, "cropBox", "(0.5, 0.6)", None, ","), "nsd_stim_info_merged.csv", r"\(0.5, 0.6\)", "top, bottom, left, right", VERIFY, LOCATE),
    ("a crop that leaves nothing", cell(INFO, "cropBox", "(0.6, 0.6, 0, 0)", None, ","), "nsd_stim_info_merged.csv", r"\(0.6, 0.6", "expected fractions", VERIFY, LOCATE),
    ("nsdId out of range", rows(INFO, lambda t: t.assign(nsdId=t.nsdId.astype(int) + 73_000), ","), "nsd_stim_info_merged.csv", "no row of image", "73000 rows", VERIFY, LOCATE),
    ("table of pictures cut short", cut(INFO, 0.001), "nsd_stim_info_merged.csv", "EOF|no row", "nsdId|73000 rows", VERIFY, LOCATE),
    ("table of pictures of no text", holds(INFO, b"\xff\xfe\0" * 99), "nsd_stim_info_merged.csv", "can't decode", "columns nsdId", VERIFY, LOCATE),
    ("no boxes", remove(BOXES), "instances_train2017.json", "is missing", "annotations", FETCH, LOCATE),
    ("boxes cut short", cut(BOXES, 0.7), "instances_train2017.json", "JSONDecodeError", "COCO annotation", VERIFY, LOCATE),
    ("boxes that are a list", holds(BOXES, "[]"), "instances_train2017.json", "TypeError", "COCO annotation", VERIFY, LOCATE),
    ("photos without width", text(BOXES, lambda t: t.replace('"width"', '"w"')), "instances_train2017.json", "'width'", "COCO annotation", VERIFY, LOCATE),
    ("no captions", remove(CAPTIONS), "captions_train2017.json", "is missing", "annotations", FETCH, LANGUAGE),
    ("captions cut short", cut(CAPTIONS, 0.7), "captions_train2017.json", "JSONDecodeError", "COCO annotation", VERIFY, LANGUAGE),
    ("captions of another format", holds(CAPTIONS, '{"annotations": [{"text": "a dog"}]}'), "captions_train2017.json", "image_id", "COCO annotation", VERIFY, LANGUAGE),
    ("captions that are numbers", text(CAPTIONS, lambda t: t.replace('"caption": "', '"caption": 3, "c": "')), "captions_train2017.json", "'int'", "COCO annotation", VERIFY, LANGUAGE),
    ("names of regions without numbers", holds(LABELS, "V1v\n"), "prf-visualrois.mgz.ctab", "V1v", "a number and a name", AGAIN, LOCATE),
    ("names of regions of no text", holds(LABELS, b"\xff\xfe\1"), "prf-visualrois.mgz.ctab", "can't decode", "a number and a name", AGAIN, LOCATE),
    ("an atlas cut short", cut(ATLAS, 0.4), "prf-visualrois.nii.gz", "ends early", "promises", AGAIN, LOCATE),
    ("an atlas on another grid", volumes(ATLAS, lambda v: v[:-1]), "prf-visualrois.nii.gz", r"\(13, 17, 14\)", f"expected {GRID}", AGAIN, LOCATE),
]  # fmt: skip
