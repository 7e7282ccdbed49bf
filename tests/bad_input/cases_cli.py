"""The command line, profiles and damaged runs: as in `cases_nsd`."""

import numpy as np

from bad_input.breakers import arrays, cut, holds, json_with, nothing, remove
from bad_input.worlds import PREPROCESS

ENCODER = "train encoder --run run --system main"
SETTINGS = "settings.yaml"


def preprocessing(text):
    return holds(SETTINGS, f"preprocessing: {{{text}}}\n")


COMMAND = [
    ("no data folder", nothing, "nowhere", "does not exist", "the data folder", "neurovl simulate", PREPROCESS.replace("data data", "data nowhere")),
    ("a file for the data folder", nothing, SETTINGS, "does not exist", "the data folder", "neurovl simulate", PREPROCESS.replace("data data", f"data {SETTINGS}")),
    ("an empty data folder", lambda f: (f / "empty").mkdir(), "empty", "no data set", "expected nsddata/", "--data", PREPROCESS.replace("data data", "data empty")),
    ("a file at --out", holds("run", "x"), "--out run", "File exists", "a folder or a new name", "choose another"),
    ("--out below a file", holds("run", "x"), "--out run/one", "Not a directory", "a folder or a new name", "choose another", PREPROCESS.replace("out run", "out run/one")),
    ("the data folder at --out", nothing, "--out data", "is the data folder", "a folder of its own", "choose another", PREPROCESS.replace("out run", "out data")),
    ("foreign files in the run", holds("run/tokens_/../tokens/mine.txt", "x"), "tokens/", "no provenance.json", "a stage of a run", "choose another"),
    ("an unknown profile", nothing, "'demos'", "no profile", "demo, haxby", "give one", PREPROCESS.replace(SETTINGS, "demos")),
    ("broken YAML", holds(SETTINGS, "a: [1"), SETTINGS, "flow sequence", "expected text", "compare it"),
    ("YAML of no text", holds(SETTINGS, b"\xff\xfe\0\1"), SETTINGS, "not YAML", "expected text", "compare it"),
    ("YAML that is a list", holds(SETTINGS, "- 1\n- 2\n"), SETTINGS, r"\[1, 2\]", "expected a setting", "write KEY: VALUE"),
    ("YAML that builds objects", holds(SETTINGS, "seed: !!python/object/apply:os.getpid []\n"), SETTINGS, "constructor", "expected text", "compare it"),
    ("an unknown setting", preprocessing("patch: 4"), "section preprocessing", "'patch'", "patches", "check the spelling"),
    ("an unknown section", holds(SETTINGS, "prep: {patches: [4]}\n"), SETTINGS, "'prep'", "preprocessing", "check the spelling"),
    ("a section without settings", holds(SETTINGS, "preprocessing: null\n"), "preprocessing", "null", "a section", "correct it"),
    ("a number for a section", holds(SETTINGS, "preprocessing: 3\n"), "section preprocessing", "is 3", "expected a setting", "write KEY"),
    ("a word for a seed", holds(SETTINGS, "seed: one\n"), "seed", '"one"', "a whole number", "correct it"),
    ("a word for epochs", holds(SETTINGS, "alignment: {epochs: many}\n"), "epochs", '"many"', "a whole number", "correct it"),
    ("one number for patches", preprocessing("patches: 4"), "patches", "4", "a list of", "correct it"),
    ("patches with fractions", preprocessing("patches: [4.5]"), "patches", "4.5", "a whole number", "correct it"),
    ("a patch of no length", preprocessing("patches: [big]"), "'big'", "no length", "voxels such as 14", "correct"),
    ("no patches", preprocessing("patches: []"), "preprocessing.patches", "is empty", "one patch size or more", "add some"),
    ("a grid of two axes", preprocessing("target: [3, 3]"), "target", r"\[3, 3\]", "3 times", "correct it"),
    ("a grid below zero", preprocessing("target: [3, 3, -1]"), "target", "-1", "three sizes", "correct"),
    ("an unknown off_mask", preprocessing("patches: [4], off_mask: half"), "off_mask", "'half'", "'keep', 'zero' or 'own'", "choose one"),
    ("a split of NSD", preprocessing("split: shared982"), "split 'shared982'", "was asked for", "one only", "remove it"),
    ("a patch of 0", nothing, "patch", "0, 0, 0", "positive edge", "--patch", f"{PREPROCESS} --patch 0"),
    ("a patch beyond the grid", nothing, "patch", "100000, 100000", "a smaller patch", "--patch", f"{PREPROCESS} --patch 100000"),
    ("subjects that are words", nothing, "subjects", "'x,y'", "expected numbers", "give some", f"{PREPROCESS} --subjects x,y"),
    ("no subjects", nothing, "subjects", "','", "expected numbers", "give some", f"{PREPROCESS} --subjects ,"),
]  # fmt: skip

STORE, MODEL = "run/tokens", "run/encoders/main"
SESSION = f"{STORE}/subj01/session01.npy"
SAY = "caption --run run --subject 1 --image-id IMAGE"
REDO, TRAIN = "neurovl preprocess", "neurovl train encoder"


def voxels(shape, dtype="f2"):
    def spoil(folder):
        (folder / SESSION).unlink()
        np.save(folder / SESSION, np.zeros(shape, dtype))

    return spoil


def pickled(folder):
    (folder / SESSION).unlink()
    np.save(folder / SESSION, np.array([{}]), allow_pickle=True)


def shorter(found):
    return {**found, "region": found["region"][:5]}


RUN = [  # in "nsd trained"; IMAGE stands for a picture that the subject saw
    ("no run folder", nothing, "nothing/", "not a run folder", "run.json is missing", "neurovl reproduce", "evaluate --run nothing"),
    ("no run.json", remove("run/run.json"), "run/", "not a run folder", "run.json is missing", "neurovl reproduce", ENCODER),
    ("run.json broken", holds("run/run.json", "{"), "run.json", "JSONDecodeError", "expected what", REDO, ENCODER),
    ("run.json a list", holds("run/run.json", "[]"), "run.json", "TypeError", "expected what", REDO, ENCODER),
    ("run.json without settings", holds("run/run.json", "{}"), "run.json", "'settings'", "expected what", REDO, ENCODER),
    ("run.json of another version", json_with("run/run.json", settings={"name": "x", "speed": 3}), "profile", "'speed'", "expected one of", "check the spelling", ENCODER),
    ("data that are gone", remove("data"), "data", "does not exist", "the data folder", "give the path", ENCODER),
    ("an unknown system", nothing, "'mian'", "no system", "expected one of main", "--system", "train encoder --run run --system mian"),
    ("no tokens", remove(STORE), "tokens/", "no token store", "expected plan.json", REDO, SAY),
    ("plan.json broken", holds(f"{STORE}/plan.json", "{"), "plan.json", "JSONDecodeError", "expected what", REDO, SAY),
    ("plan.json without settings", holds(f"{STORE}/plan.json", "{}"), "plan.json", "'target'", "expected what", REDO, SAY),
    ("plan.npz cut short", cut(f"{STORE}/plan.npz", 0.5), "plan.npz", "not a zip file", "expected what", REDO, SAY),
    ("no plan.npz", remove(f"{STORE}/plan.npz"), "plan.npz", "No such file", "expected what", REDO, SAY),
    ("plan.npz of another store", arrays(f"{STORE}/plan.npz", shorter), "session01.npy", r"shape \(750, ", "750 trials of 5 voxels", REDO, SAY),
    ("trials.csv of no bytes", holds(f"{STORE}/trials.csv", ""), "trials.csv", "EmptyDataError", "expected what", REDO, SAY),
    ("trials.csv without columns", holds(f"{STORE}/trials.csv", "a,b\n1,2\n"), "trials.csv", "not found", "expected what", REDO, SAY),
    ("no trials.csv", remove(f"{STORE}/trials.csv"), "trials.csv", "No such file", "expected what", REDO, SAY),
    ("a session cut short", cut(SESSION, 0.5), "subj01/session01.npy", "cannot be read", "expected 750 trials", REDO, SAY),
    ("a session of no bytes", holds(SESSION, b""), "subj01/session01.npy", "cannot be read", "expected 750 trials", REDO, SAY),
    ("no session", remove(SESSION), "subj01/session01.npy", "No such file", "expected 750 trials", REDO, SAY),
    ("a session that runs code", pickled, "subj01/session01.npy", "Python objects", "expected 750 trials", REDO, SAY),
    ("a session of other voxels", voxels((750, 3)), "subj01/session01.npy", r"\(750, 3\)", "expected 750 trials", REDO, SAY),
    ("a session of 7 trials", voxels((7, 147)), "subj01/session01.npy", r"\(7, 147\)", "expected 750 trials", REDO, SAY),
    ("no targets", remove("run/targets"), "targets/", "no provenance.json", "a finished stage", "run the stage", "train llm --run run"),
    ("no encoder", remove("run/encoders"), "encoder 'main'", "not in this run", "expected encoders/main/", TRAIN, SAY),
    ("encoder weights cut short", cut(f"{MODEL}/model.safetensors", 0.5), "encoders/main/", "incomplete metadata", "model.safetensors of one training", TRAIN, SAY),
    ("encoder weights of no bytes", holds(f"{MODEL}/model.safetensors", b""), "encoders/main/", "header too small", "model.safetensors of one training", TRAIN, SAY),
    ("no encoder weights", remove(f"{MODEL}/model.safetensors"), "encoder 'main'", "not in this run", "model.safetensors", TRAIN, SAY),
    ("encoder settings broken", holds(f"{MODEL}/config.json", "{"), "encoders/main/", "cannot be read", "config.json", TRAIN, SAY),
    ("encoder settings of another", json_with(f"{MODEL}/config.json", width=64), "encoders/main/", "cannot be read", "of one training", TRAIN, SAY),
    ("no encoder settings", holds(f"{MODEL}/config.json", "{}"), "encoders/main/", "missing 3", "config.json", TRAIN, SAY),
    ("no language model", remove("run/llm"), "run/llm", "no config.json", "expected the folder", "neurovl train llm", SAY),
    ("projector cut short", cut("run/llm/projector.safetensors", 0.5), "run/llm", "incomplete metadata", "expected the folder", "neurovl train llm", SAY),
    ("language model cut short", cut("run/llm/llm/model.safetensors", 0.5), "run/llm", "incomplete metadata", "expected the folder", "neurovl train llm", SAY),
    ("an unknown picture", nothing, "image 99999", "did not see", "an image of trials.csv", "--image-id", SAY.replace("IMAGE", "99999")),
    ("a picture by a word", nothing, "image dog", "did not see", "an image of trials.csv", "--image-id", "reconstruct --run run --subject 1 --image-id dog --out out.png"),
    ("an unknown subject", nothing, "'5'", "no subject", "subj01", "choose from", SAY.replace("subject 1", "subject 5")),
    ("an unknown concept", nothing, "'unicorn'", "no test trials", "one at least", "--image-id", "locate --run run --subject 1 --concept unicorn --out out.nii.gz"),
    ("a map of another format", nothing, "--out", "out.txt", "ends in .nii.gz", "choose another", "locate --run run --subject 1 --concept dog --out out.txt"),
    ("a map in no folder", nothing, "--out", "none/out.nii.gz", "in a folder that is there", "choose another", "locate --run run --subject 1 --concept dog --out none/out.nii.gz"),
    ("a drawing of another format", nothing, "--out", "out.abc", "ends in .png", "choose another", SAY.replace("caption", "reconstruct") + " --out out.abc"),
    ("a noise strength of 7", nothing, "beta", "7.0", "between 0 and 1", "choose another", SAY.replace("caption", "reconstruct") + " --beta 7 --out out.png"),
]  # fmt: skip
