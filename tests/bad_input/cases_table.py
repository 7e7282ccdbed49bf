"""One's own table with one defect: as in `cases_nsd`."""

import json

import numpy as np

from bad_input.breakers import (
    again,
    bomb,
    both,
    cell,
    cut,
    dims,
    filled,
    flipped,
    folder_instead,
    header,
    holds,
    json_with,
    link_to,
    nothing,
    remove,
    rows,
    text,
    volumes,
)  # fmt: skip
from bad_input.worlds import PREPROCESS

TRIALS, SUBJECTS, CAPTIONS = "data/trials.tsv", "data/subjects.tsv", "data/captions.tsv"
ABOUT, ALL, ONE = "data/dataset.json", "data/all.nii.gz", "data/trial4.nii.gz"
MASK, REGION, PICTURE = "data/sub-01_mask.nii", "data/sub-01_ffa.nii", "data/stimuli/pic0.png"
MOVED = np.diag([3.0, 3, 3, 1]) + 30 * np.eye(4, k=3)
ENCODER = "train encoder --run run --system main"
RGB = [("R", "u1"), ("G", "u1"), ("B", "u1")]

TABLE = [
    ("no header", text(TRIALS, lambda t: t.split("\n", 1)[1]), "trials.tsv", "columns sub-01", "expected also subject", "add them"),
    ("commas", text(TRIALS, lambda t: t.replace("\t", ",")), "trials.tsv", "',' between", "expected tabs", "save it with tabs"),
    ("no column split", rows(TRIALS, lambda t: t.drop(columns="split")), "trials.tsv", "the columns", "expected also split", "add them"),
    ("a column twice", text(TRIALS, lambda t: t.replace("repeat", "index", 1)), "trials.tsv", "2 columns named 'index'", "a name of its own", "rename or remove"),
    ("a cell too many", text(TRIALS, lambda t: t.replace("\ttrain", "\ttrain\tx", 1)), "trials.tsv", "8 cells in line 2", "expected 7", "correct the line"),
    ("no bytes", holds(TRIALS, ""), "trials.tsv", "is empty", "a table with a header", "write it again"),
    ("no trials", rows(TRIALS, lambda t: t[:0]), "trials.tsv", "no trials", "a row for each", "add them"),
    ("Latin-1", text(TRIALS, lambda t: t.replace("pic0", "bär"), "latin-1"), "trials.tsv", "can't decode", "UTF-8", "save it"),
    ("UTF-16", text(TRIALS, lambda t: t, "utf-16"), "trials.tsv", "UTF-16", "expected UTF-8", "save it"),
    ("a NUL byte", text(TRIALS, lambda t: t.replace("pic0", "p\0c0")), "trials.tsv", r"p\\x00c0", "without .* control characters", "look for"),
    ("an open quotation mark", text(TRIALS, lambda t: t.replace("pic0", '"pic0', 1)), "trials.tsv", "no table|the cell", "tabs|line ends", "save|look"),
    ("a trial twice", rows(TRIALS, again), "trials.tsv", "the lines 2 and 14", "every trial once", "remove one"),
    ("index out of range", cell(TRIALS, "index", "6"), "all.nii.gz", r"\(5, 6, 4, 6\)", "index 6 was expected", "correct the table"),
    ("index of 40 digits", cell(TRIALS, "index", "9" * 40), "all.nii.gz", r"\(5, 6, 4, 6\)", "index 9+ was expected", "correct the table"),
    ("index below 0", cell(TRIALS, "index", "-1"), "trials.tsv", "'-1' in line 2", "a whole number from 0", "correct it"),
    ("index with a fraction", cell(TRIALS, "index", "1.5"), "trials.tsv", "'1.5' in line 2", "a whole number from 0", "correct it"),
    ("no index in a 4-D file", cell(TRIALS, "index", ""), "all.nii.gz", "6 volumes", "trials.tsv gives no index", "add the 0-based position"),
    ("an unknown split", cell(TRIALS, "split", "validation"), "trials.tsv", "validation in line 2", "train or test", "correct it"),
    ("a picture in both splits", cell(TRIALS, "split", "test"), "image 'pic0'", "both train and test", "must be by picture", "give all trials"),
    ("all for testing", cell(TRIALS, "split", "test", None), "mine", "none of them for train", "both splits", "give some"),
    ("all for training", cell(TRIALS, "split", "train", None), "mine", "none of them for test", "both splits", "give some"),
    ("one trial", rows(TRIALS, lambda t: t[:1]), "mine", "1 trials and none", "both splits", "give some"),
    ("a subject that never trains", both(json_with(ABOUT, zscore="subject"), rows(TRIALS, lambda t: t[(t.subject == "sub-01") | (t.split == "test")])), "sub-02", "no trial for training", "some to standardise by", "give some|leave"),
    ("an image_id that leads out", cell(TRIALS, "image_id", "../pic0"), "trials.tsv", "'../pic0' in line 2", "a plain name", "rename it"),
    ("a subject with a slash", cell(TRIALS, "subject", "sub/01"), "trials.tsv", "'sub/01' in line 2", "a plain name", "rename it"),
    ("a repeat twice", cell(TRIALS, "repeat", "2"), "trials.tsv", "second time in line 3", "every repeat once", "correct it"),
    ("a repeat with a fraction", cell(TRIALS, "repeat", "1.5"), "trials.tsv", "'1.5' in line 2", "a whole number", "correct it"),
    ("a volume that is not there", remove("data/trial3.nii.gz"), "trial3.nii.gz", "is missing", "trials.tsv names", "copy the file"),
    ("a folder for a volume", folder_instead("data/trial3.nii.gz"), "trial3.nii.gz", "is missing", "trials.tsv names", "copy the file"),
    ("a volume above the folder", cell(TRIALS, "volume", "../settings.yaml"), "trials.tsv", "'../settings.yaml'", "within it", "copy the file"),
    ("an absolute volume", cell(TRIALS, "volume", "/etc/passwd"), "trials.tsv", "'/etc/passwd'", "within it", "copy the file"),
    ("a link that leads out", both(link_to("data/out.nii", "../settings.yaml"), cell(TRIALS, "volume", "out.nii")), "trials.tsv", "'out.nii', which lies outside", "within it", "copy the file"),
    ("a link to nothing", link_to("data/trial3.nii.gz", "gone"), "trial3.nii.gz", "is missing", "trials.tsv names", "copy the file"),
    ("a link to itself", link_to("data/trial3.nii.gz", "trial3.nii.gz"), "trial3.nii.gz", "loop of links", "a file in the folder", "correct the table"),
    ("a mask above the folder", cell(SUBJECTS, "mask", "../settings.yaml"), "subjects.tsv", "lies outside", "within it", "copy the file"),
    ("volumes cut short", cut(ALL, 0.5), "all.nii.gz", "ended before|ends early", "NIfTI|promises", "copy it again"),
    ("volumes with another checksum", flipped(ALL, -6), "all.nii.gz", "CRC check failed", "!=", "copy it again"),
    ("a volume that is text", holds(ONE, "x" * 500), "trial4.nii.gz", "does not begin with", "NIfTI", "copy it again"),
    ("a header of petabytes", header(ALL, dim=dims(20000, 20000, 20000, 600)), "all.nii.gz", "has [0-9,]+ .compressed", "promises", "copy it again"),
    ("a volume of two axes", volumes(ONE, lambda v: v[..., 0]), "trial4.nii.gz", r"\(7, 5\)", r"expected \(x, y, z", "export or copy"),
    ("volumes of five axes", volumes(ALL, lambda v: v.reshape(5, 6, 4, 3, 2)), "all.nii.gz", "4, 3, 2", r"expected \(x, y, z", "export or copy"),
    ("complex numbers", volumes(ONE, lambda v: v.astype(np.complex64)), "trial4.nii.gz", "complex64", "real numbers", "export or copy"),
    ("colours", volumes(ONE, lambda v: np.zeros(v.shape, RGB)), "trial4.nii.gz", "numbers of type", "real numbers", "export or copy"),
    ("NaN inside the mask", volumes(ALL, lambda v: filled(v, np.nan, 2, 2, 2, 1)), "session 1 of sub-01", "1 values .* not finite", "expected numbers", "shrink the mask"),
    ("constant volumes", volumes(ALL, lambda v: filled(v, 7)), "session 1 of sub-01", "18 of 18 voxels", "at most 20%", "another mask"),
    ("mixed grids", volumes(ONE, lambda v: v[:-1]), "trial4.nii.gz of sub-02", r"\(6, 5, 3\)", "one grid a subject", "reslice"),
    ("mixed voxel sizes", volumes(ONE, np.asarray, np.diag([3.0, 3, 3.5, 1])), "trial4.nii.gz of sub-02", "1.0 mm away", "one grid a subject", "reslice"),
    ("no mask file", remove(MASK), "sub-01_mask.nii", "is missing", "subjects.tsv names", "copy the file"),
    ("no region file", remove(REGION), "sub-01_ffa.nii", "is missing", "subjects.tsv names", "copy the file"),
    ("an empty mask", volumes(MASK, np.zeros_like), "sub-01_mask.nii", "no voxel above 0", "expected some", "name another file"),
    ("a mask on another grid", volumes(MASK, lambda v: v[:-1]), "sub-01_mask.nii", r"\(4, 6, 4\)", "on the grid of the volumes", "neurovl resample --mask sub-01_mask.nii --like all.nii.gz"),
    ("a mask that lies elsewhere", volumes(MASK, np.asarray, MOVED), "sub-01_mask.nii", "30.0 mm away", "on the grid of the volumes", "neurovl resample"),
    ("a mask with axes swapped", volumes(MASK, lambda v: v.transpose(1, 0, 2)), "sub-01_mask.nii", r"\(6, 5, 4\)", "on the grid of the volumes", "neurovl resample"),
    ("a mask of four axes", cell(SUBJECTS, "mask", "all.nii.gz"), "all.nii.gz", r"\(5, 6, 4, 6\)", "three axes", "name a file"),
    ("an affine of zeros", header(MASK, srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4), "sub-01_mask.nii", "leads nowhere", "from voxels to millimetres", "correct sform"),
    ("a subject without mask", rows(SUBJECTS, lambda t: t[:1]), "subjects.tsv", "no mask for sub-02", "who has trials", "add a row"),
    ("a subject twice", rows(SUBJECTS, again), "subjects.tsv", "sub-01 twice", "one row a subject", "remove one"),
    ("no subjects.tsv", remove(SUBJECTS), "subjects.tsv", "is missing", "columns subject, mask", "add it"),
    ("pictures without captions", rows(CAPTIONS, lambda t: t[:2]), "captions.tsv", "2 of 3 pictures", "one or more for each", "add them"),
    ("an empty caption", cell(CAPTIONS, "caption", ""), "captions.tsv", "no caption in line 2", "caption", "fill it in"),
    ("a folder for captions", folder_instead(CAPTIONS), "captions.tsv", "is a folder", "expected a text file", "remove it"),
    ("a picture that is not there", remove("data/stimuli/pic1.png"), "'pic1'", "no picture", "expected stimuli/pic1.png", "add it"),
    ("broken JSON", holds(ABOUT, "{"), "dataset.json", "not valid JSON", "expected text", "correct it"),
    ("a list for an object", holds(ABOUT, "[]"), "dataset.json", "no object", "expected name, units", "correct it"),
    ("an unknown zscore", json_with(ABOUT, zscore="run"), "dataset.json", "'run'", "session or subject", "sessions are held out"),
    ("a number for the name", json_with(ABOUT, **{"name": 3}), "dataset.json", "the name 3", "expected text", "write it in"),
    ("a folder for dataset.json", folder_instead(ABOUT), "dataset.json", "is a folder", "expected a text file", "remove it"),
    ("a subject that is not there", nothing, "mine", "no subject 7", "sub-01, sub-02", "choose from", f"{PREPROCESS} --subjects 7"),
]  # fmt: skip
BAD = "not a readable picture"
TABLE_PREPROCESSED = [
    ("a picture of text", holds(PICTURE, "x"), "stimuli/pic0.png", BAD, "PNG or JPEG", "export it again", ENCODER),
    ("a picture of no bytes", holds(PICTURE, ""), "stimuli/pic0.png", BAD, "PNG or JPEG", "export it again", ENCODER),
    ("a picture cut short", cut(PICTURE, 0.6), "stimuli/pic0.png", BAD, "PNG or JPEG", "export it again", ENCODER),
    ("a decompression bomb", bomb(PICTURE), "stimuli/pic0.png", "900000000 pixels", "PNG or JPEG", "export it again", ENCODER),
    ("a picture of another type", holds(PICTURE, "<svg xmlns='http://www.w3.org/2000/svg'/>"), "stimuli/pic0.png", BAD, "PNG or JPEG", "export it again", ENCODER),
    ("a picture that leads out", link_to(PICTURE, "../../settings.yaml"), "stimuli/pic0.png", "lies outside", "within it", "copy the file", ENCODER),
    ("a folder for a picture", folder_instead(PICTURE), "stimuli/pic0.png", "is missing", "names", "copy the file", ENCODER),
]  # fmt: skip

FOLDER = "data/haxby2001/subj1"
LABELS, BOLD, BRAIN, PART = (f"{FOLDER}/{n}" for n in ("labels.txt", "bold.nii.gz", "mask.nii.gz", "mask4_vt.nii.gz"))  # fmt: skip
TO_TABLE = "convert haxby --data data --out table --fold 0"
FETCH = "neurovl download haxby"
HAXBY = [
    ("fewer labels than volumes", text(LABELS, lambda t: t.rsplit("\n", 3)[0] + "\n"), "bold.nii.gz", "96", "expected 94 volumes", FETCH),
    ("labels cut short", text(LABELS, lambda t: t[:-3]), "labels.txt", "line 97", "number of a run", FETCH),
    ("an unknown label", text(LABELS, lambda t: t.replace("cat", "dog")), "labels.txt", "labels dog", "expected rest and face", FETCH),
    ("labels of no bytes", holds(LABELS, ""), "labels.txt", "cannot be read", "labels and chunks", FETCH),
    ("labels with more cells", text(LABELS, lambda t: t.replace("cat 3", "cat 3 x y", 1)), "labels.txt", "saw 4", "labels and chunks", FETCH),
    ("labels of no text", holds(LABELS, b"\xff\xfe\1"), "labels.txt", "can't decode", "labels and chunks", FETCH),
    ("no labels", remove(LABELS), "labels.txt", "is missing", "subj1", FETCH),
    ("runs in words", text(LABELS, lambda t: t.replace(" 3", " three")), "labels.txt", "three", "number of a run", FETCH),
    ("runs with a fraction", text(LABELS, lambda t: t.replace(" 3", " 3.5")), "labels.txt", "3.5", "number of a run", FETCH),
    ("one run", text(LABELS, lambda t: t.replace(" 1", " 0").replace(" 2", " 0").replace(" 3", " 0")), "labels.txt", "1 runs", "4 or more", FETCH),
    ("rest alone", text(LABELS, lambda t: t.replace("cat", "rest").replace("face", "rest").replace("house", "rest")), "labels.txt", "0 runs", "4 or more", FETCH),
    ("a mask on another grid", volumes(BRAIN, lambda v: v[:-1]), "bold.nii.gz", r"\(6, 5, 4\)", r"expected \(5, 5, 4\)", FETCH),
    ("an empty mask", volumes(BRAIN, np.zeros_like), "mask.nii.gz", "0 voxels", "and some", FETCH),
    ("no mask", remove(BRAIN), "mask.nii.gz", "is missing", "haxby2001", FETCH),
    ("a BOLD series cut short", cut(BOLD, 0.5), "bold.nii.gz", "ends early", "promises", FETCH),
    ("one BOLD volume", volumes(BOLD, lambda v: v[..., 0]), "bold.nii.gz", r"\(6, 5, 4\)", "96 volumes", FETCH),
    ("complex BOLD", volumes(BOLD, lambda v: v.astype(np.complex64)), "bold.nii.gz", "complex64", "real numbers", FETCH),
    ("BOLD of NaN", volumes(BOLD, lambda v: filled(v, np.nan, 2, 2, 2)), "bold.nii.gz", "not finite", "expected numbers", "shrink"),
    ("constant BOLD", volumes(BOLD, np.ones_like), "bold.nii.gz", "24 of 24 voxels", "at most 20%", "another mask"),
    ("BOLD of text", holds(BOLD, "x" * 600), "bold.nii.gz", "not a gzip file", "NIfTI", FETCH),
    ("a folder for BOLD", folder_instead(BOLD), "bold.nii.gz", "is missing", "haxby2001/subj1", FETCH),
    ("no such fold", nothing, "fold 7", "was asked for", "0 to 3", "choose one", TO_TABLE.replace("0", "7")),
    ("no such subject", nothing, "data", "no subj03", "only subj01", FETCH, f"{TO_TABLE} --subjects 3"),
    ("a region on another grid", volumes(PART, lambda v: v[:-1]), "mask4_vt.nii.gz", r"\(5, 5, 4\)", r"expected \(6, 5, 4\)", FETCH, TO_TABLE),
    ("a region cut short", cut(PART, 0.5), "mask4_vt.nii.gz", "not a readable|ends early", "NIfTI|promises", FETCH, TO_TABLE),
]  # fmt: skip

STEM = "data/derivatives/glmsingle/sub-01/ses-1/func/sub-01_ses-1_task-see_space-T1w"
BETAS, BIDS_MASK = f"{STEM}_betas.nii.gz", f"{STEM}_desc-brain_mask.nii.gz"
EVENTS, EVENTS_2 = (f"data/sub-01/ses-1/func/sub-01_ses-1_task-see_run-{n}_events.tsv" for n in (1, 2))  # fmt: skip
CONVERT = "convert bids --data data --out table"


def second_derivative(folder):
    holds(BETAS.replace("glmsingle", "other"), (folder / BETAS).read_bytes())(folder)


BIDS = [
    ("no betas", remove(BETAS), "data", "no single-trial betas", "expected files such as", "give the folder"),
    ("betas cut short", cut(BETAS, 0.5), "betas.nii.gz", "ended before", "NIfTI", "copy it again"),
    ("betas that were not fetched", link_to(BETAS, ".git/annex/x"), "betas.nii.gz", "not on this disk", "link to content", "datalad get"),
    ("two derivatives", second_derivative, "derivatives/other", "the same trials", "one file a run", "--derivative"),
    ("broken description", holds("data/dataset_description.json", "{"), "dataset_description.json", "not valid JSON", "expected text", "correct it"),
    ("a list for the description", holds("data/dataset_description.json", json.dumps([])), "dataset_description.json", "no object", "expected name", "correct it"),
    ("events of another length", text(EVENTS, lambda t: t.rsplit("\n", 3)[0] + "\n"), "betas.nii.gz", "6 volumes .* 5 trials", "expected as many", "--table"),
    ("events with commas", text(EVENTS, lambda t: t.replace("\t", ",")), "betas.nii.gz", "6 volumes", "expected as many", "--stimulus"),
    ("events of no text", holds(EVENTS, b"\xff\0"), "run-1_events.tsv", "can't decode", "UTF-8", "save it"),
    ("events of no bytes", holds(EVENTS, ""), "run-1_events.tsv", "is empty", "a header", "write it again"),
    ("no events", both(remove(EVENTS), remove(EVENTS_2)), "betas.nii.gz", "no table of its trials", "_events.tsv", "add it"),
    ("no column of pictures", both(*(text(e, lambda t: t.replace("stim_file", "what")) for e in (EVENTS, EVENTS_2))), "events.tsv", "the columns", "stim_file", "--stimulus"),
    ("no test pictures", both(*(text(e, lambda t: t.replace("\ttest", "\texp")) for e in (EVENTS, EVENTS_2))), "tables of trials", "do not say", "trial_type=test", "--test-images"),
    ("a picture tested in some trials", text(EVENTS, lambda t: t.replace("\ttest", "\texp")), "'a_1'", "some trials only", "by picture", "choose another way"),
    ("a picture that is not there", remove("data/stimuli/a/2.jpg"), "a/2.jpg", "1 of 5 pictures", "data/stimuli", "fetch them"),
    ("a picture above the folder", text(EVENTS, lambda t: t.replace("a/2.jpg", "../../settings.yaml")), "settings.yaml", "1 of 5 pictures", "data/stimuli", "fetch them"),
    ("no mask", remove(BIDS_MASK), "sub-01", "no brain mask", "such as", "--mask"),
    ("a mask cut short", cut(BIDS_MASK, 0.5), "brain_mask.nii.gz", "ended before", "NIfTI", "copy it again"),
    ("an empty mask", volumes(BIDS_MASK, np.zeros_like), "brain_mask.nii.gz", "no voxel above 0", "expected some", "name another"),
    ("a mask on another grid", volumes(BIDS_MASK, lambda v: v[:-1]), "brain_mask.nii.gz", r"\(4, 5, 4\)", "grid of the betas", "neurovl resample --mask"),
    ("a mask of four axes", volumes(BIDS_MASK, lambda v: np.stack([v, v], -1)), "brain_mask.nii.gz", r"5, 4, 2\)", "three axes", "name a file"),
    ("a file at --out", holds("table", "x"), "table", "is there already", "new or empty", "name another"),
    ("a full folder at --out", holds("table_/x", "x"), "table_", "is there already", "new or empty", "name another", "convert bids --data data --out table_"),
    ("no data set", nothing, "nowhere", "does not exist", "BIDS data set", "give the path", "convert bids --data nowhere --out table"),
    ("no such derivative", nothing, "fmriprep", "no derivative", "only glmsingle", "choose one", f"{CONVERT} --derivative fmriprep"),
    ("an unknown picture to test", nothing, "--test-images", "zebra", "pictures such as", "correct the list", f"{CONVERT} --test-images zebra"),
    ("two ways to split", nothing, "test pictures", "chosen twice", "expected one", "remove the others", f"{CONVERT} --test-shared --test-fraction 0.5"),
    ("a fraction above 1", nothing, "--test-fraction", "is 2", "between 0 and 1", "choose another", f"{CONVERT} --test-fraction 2"),
    ("a region of no file", nothing, "--roi FFA", "no file", "expected some", "correct the pattern", f"{CONVERT} --roi FFA=none/{{subject}}.nii"),
]  # fmt: skip
