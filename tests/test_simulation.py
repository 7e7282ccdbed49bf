"""Simulated NSD against an independent reader, written from the layout of NSD alone."""

import ast
import json
import os
import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat

from neurovl.errors import ConfigError
from neurovl.recordings.base import noise_ceiling
from neurovl.recordings.nsd.atlases import NSDGENERAL, grid
from neurovl.recordings.opening import open_recordings
from neurovl.smallworld import scenes
from neurovl.smallworld import subjects as simulation
from neurovl.smallworld.subjects import experiment, voxel_model
from neurovl.smallworld.subjects.anatomy import make_anatomy
from neurovl.smallworld.subjects.simulation import voxel_reliability

BETAS = "nsddata_betas/ppdata/subj{:02d}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
NSD_COLUMNS = (
    "SUBJECT SESSION RUN TRIAL 73KID 10KID TIME ISOLD ISCORRECT RT CHANGEMIND MEMORYRECENT "
    "MEMORYFIRST ISOLDCURRENT ISCORRECTCURRENT TOTAL1 TOTAL2 BUTTON MISSINGDATA"
).split()


class IndependentReader:
    """NSD read with nibabel, h5py, scipy and pandas; no code of the package."""

    def __init__(self, root, subject):
        self.root, self.subject = root, subject
        mat = loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat", squeeze_me=True)
        self.order, self.subjectim = mat["masterordering"], mat["subjectim"]
        self.sharedix = mat["sharedix"]
        self.stim = pd.read_csv(
            root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv", index_col=0
        )

    def ids(self, n=750):
        return [self.subjectim[self.subject - 1, self.order[t] - 1] - 1 for t in range(n)]

    def betas(self):
        path = self.root / BETAS.format(self.subject) / "betas_session01.nii.gz"
        return nibabel.load(path).get_fdata().astype(np.float32) / 300

    def coco(self, kind, nsd_id):
        row = self.stim[self.stim.nsdId == nsd_id].iloc[0]
        folder = self.root / "nsddata_stimuli/stimuli/nsd/annotations"
        content = json.loads((folder / f"{kind}_{row.cocoSplit}.json").read_text())
        own = [one for one in content["annotations"] if one["image_id"] == row.cocoId]
        return row, content, own


@pytest.fixture(scope="module", params=[1, 2])
def reader(request, tiny_nsd):
    return IndependentReader(tiny_nsd, request.param)


@pytest.fixture(scope="module")
def data(tiny_nsd):
    return open_recordings(tiny_nsd)


def test_trials_and_split(reader, data):
    trials = data.subject_trials(reader.subject)
    assert trials.image_id.tolist() == [str(i) for i in reader.ids()]
    test = [reader.order[t] <= 1000 for t in range(750)]
    assert (trials.split == "test").tolist() == test
    assert np.isin(trials.image_id[test].astype(int) + 1, reader.sharedix).all()
    assert trials.groupby("image_id").size().eq(3).all()
    assert trials.trial.tolist() == list(range(750)) and set(trials.session) == {1}
    row = trials.iloc[17]
    info = reader.stim[reader.stim.nsdId == int(row.image_id)].iloc[0]
    column = f"subject{reader.subject}_rep{row['repeat']}"
    assert info[column] == 18 and info[f"subject{reader.subject}"] == 1


def test_betas_of_both_files(reader, data, tiny_nsd):
    betas = reader.betas()
    assert betas.shape == (*grid(reader.subject, 6.0), 750)
    mask_path = (
        tiny_nsd / f"nsddata/ppdata/subj{reader.subject:02d}/func1pt8mm/roi/nsdgeneral.nii.gz"
    )
    labels = nibabel.load(mask_path).get_fdata()
    assert set(np.unique(labels)) == {-1, 0, 1}
    assert (labels > 0).sum() == round(NSDGENERAL[reader.subject] / 6**3)
    np.testing.assert_array_equal(data.mask(reader.subject), labels > 0)
    rows = [5, 700, 5]
    np.testing.assert_allclose(
        data.volumes(reader.subject, rows), np.moveaxis(betas[..., rows], -1, 0), rtol=1e-6
    )
    with h5py.File(tiny_nsd / BETAS.format(reader.subject) / "betas_session01.hdf5") as file:
        stored = file["betas"]
        assert stored.shape == (750, *betas.shape[2::-1]) and stored.dtype == np.int16
        np.testing.assert_allclose(stored[3].T / 300, betas[..., 3], rtol=1e-5)
    outside = nibabel.load(mask_path.parents[1] / "brainmask.nii.gz").get_fdata() == 0
    assert not betas[outside].any() and np.abs(betas[~outside]).max() > 1


def test_pictures_captions_objects(reader, data):
    nsd_id = int(reader.ids()[40])
    with h5py.File(reader.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        assert file["imgBrick"].shape == (73000, 425, 425, 3)
        picture = file["imgBrick"][nsd_id]
    np.testing.assert_array_equal(np.asarray(data.image(nsd_id)), picture)
    assert picture.std() > 10
    row, _, captions = reader.coco("captions", nsd_id)
    assert [one["caption"] for one in captions] == data.captions(nsd_id)
    assert data.captions(str(nsd_id)) == data.captions(nsd_id)
    assert data.objects(str(nsd_id)) == data.objects(nsd_id)
    np.testing.assert_array_equal(np.asarray(data.image(str(nsd_id))), picture)
    _, content, boxes = reader.coco("instances", nsd_id)
    names = {one["id"]: one["name"] for one in content["categories"]}
    top, bottom, left, right = ast.literal_eval(row.cropBox)
    found = data.objects(nsd_id)
    assert [names[one["category_id"]] for one in boxes] == [one["category"] for one in found]
    for one, ours in zip(boxes, found, strict=True):
        x, y, w, h = one["bbox"]
        x0, y0 = x - left * 640, y - top * 480
        width, height = 640 * (1 - left - right), 480 * (1 - top - bottom)
        expected = (x0 / width, y0 / height, (x0 + w) / width, (y0 + h) / height)
        np.testing.assert_allclose(ours["box"], np.clip(expected, 0, 1), atol=1e-6)
    drawn = scenes.scene_objects(scenes.make_scene("nsd", nsd_id))
    assert [one["category"] for one in drawn] == [one["category"] for one in found]
    np.testing.assert_allclose([o["box"] for o in drawn], [o["box"] for o in found], atol=1e-3)


def test_unwritten_slot_is_refused(data):
    unseen = min(set(range(200)) - set(map(int, data.trials.image_id)))
    with pytest.raises(Exception, match="never written"):
        data.image(unseen)


def test_tables_to_the_letter(reader):
    stim = reader.stim
    assert len(stim) == 73000 and (stim.nsdId == stim.index).all()
    assert stim.shared1000.sum() == 1000 and stim.cocoId.is_unique
    assert stim.columns[:8].tolist() == (
        "cocoId cocoSplit cropBox loss nsdId flagged BOLD5000 shared1000".split()
    )
    assert stim.columns[8:].tolist() == [f"subject{s}" for s in range(1, 9)] + [
        f"subject{s}_rep{r}" for s in range(1, 9) for r in range(3)
    ]
    assert reader.order.shape == (30000,) and reader.subjectim.shape == (8, 10000)
    assert np.issubdtype(reader.order.dtype, np.integer)  # programs index with them
    assert (np.bincount(reader.order)[1:] == 3).all()
    assert len(np.unique(reader.subjectim)) == 73000 and reader.subjectim.min() == 1
    behaviour = pd.read_csv(
        reader.root / f"nsddata/ppdata/subj{reader.subject:02d}/behav/responses.tsv", sep="\t"
    )
    assert behaviour.columns.tolist() == NSD_COLUMNS
    assert (behaviour["73KID"] - 1).tolist() == reader.ids()
    assert (behaviour["10KID"] == reader.order[:750]).all() and behaviour.RUN.max() == 12
    seen = pd.Series(reader.ids())
    assert (seen.duplicated().astype(int) == behaviour.ISOLD).all()


def test_regions_have_names_and_lie_in_cortex(reader, data):
    rois = data.rois(reader.subject)
    assert {"nsdgeneral", "V1", "hV4", "EBA", "PPA"} <= set(rois)
    for name, region in rois.items():
        assert not (region & ~rois["nsdgeneral"]).any(), name
    table = reader.root / "nsddata/freesurfer/fsaverage/label/prf-visualrois.mgz.ctab"
    labels = pd.read_csv(table, sep=" ", header=None, index_col=0)[1].to_dict()
    assert labels[0] == "Unknown" and labels[7] == "hV4"
    folder = reader.root / f"nsddata/ppdata/subj{reader.subject:02d}/func1pt8mm/roi"
    both, left, right = (
        nibabel.load(folder / f"{side}prf-visualrois.nii.gz").get_fdata()
        for side in ("", "lh.", "rh.")
    )
    np.testing.assert_array_equal(both, np.maximum(left, right))


def test_noise_ceiling_by_arithmetic(reader, data):
    """Two-way analysis of variance by hand, on the betas as written."""
    mask = data.mask(reader.subject)
    z = reader.betas()[mask].T
    z = (z - z.mean(0)) / z.std(0)
    ids = np.array(reader.ids())
    noise = np.mean([z[ids == one].var(0, ddof=1) for one in np.unique(ids)], axis=0)
    ncsnr = np.sqrt(np.maximum(1 - noise, 0)) / np.sqrt(noise)
    for n in (1, 3):
        expected = ncsnr**2 / (ncsnr**2 + 1 / n)
        found = data.noise_ceiling(reader.subject, n_repeats=n)[mask]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(noise_ceiling([1.0], 3), [0.75])


def test_signal_to_noise_is_nsds():
    """Frozen: over NSD's subjects a median ceiling of about 36 %; early voxels more reliable."""
    medians, early, late = [], [], []
    for subject in range(1, 9):
        anatomy = make_anatomy(subject, 4.0, seed=0)
        tuning = voxel_model.make_tuning(anatomy, subject, seed=0)
        medians.append(np.median(noise_ceiling(tuning.ncsnr, 3)))
        early.append(np.median(tuning.ncsnr[tuning.early]))
        late.append(np.median(tuning.ncsnr[~tuning.early]))
        assert tuning.ncsnr.max() <= 1.3
    assert 0.33 < np.mean(medians) < 0.39
    assert np.mean(early) > 1.15 * np.mean(late)


def test_written_betas_have_the_drawn_reliability(reader, data):
    anatomy = make_anatomy(reader.subject, 6.0, seed=0)
    drawn = voxel_model.make_tuning(anatomy, reader.subject, seed=0).ncsnr
    ceiling = data.noise_ceiling(reader.subject, 1)
    estimated = np.sqrt(ceiling / (1 - ceiling))
    inside = estimated[data.mask(reader.subject)]
    assert np.corrcoef(inside, drawn)[0, 1] > 0.9
    assert abs(np.median(inside) - np.median(drawn)) < 0.06
    path = data.root / f"nsddata/ppdata/subj{reader.subject:02d}/func1pt8mm/brainmask.nii.gz"
    elsewhere = (nibabel.load(path).get_fdata() > 0) & ~data.mask(reader.subject)
    assert np.median(estimated[elsewhere]) < 0.12  # noise alone


def test_shuffled_pictures_carry_no_signal(data):
    trials, mask = data.subject_trials(1), data.mask(1)
    betas = data.volumes(1)[:, mask]
    shuffled = np.random.default_rng(0).permutation(trials.image_id)
    true = voxel_reliability(betas, trials.session, trials.image_id)
    null = voxel_reliability(betas, trials.session, shuffled)
    assert np.median(true) > 3 * np.median(null)


def test_truth_names_concepts(tiny_nsd, data):
    maps = simulation.truth(tiny_nsd, 1)
    assert {"dog", "person", "beach"} <= set(maps)
    mask, rois = data.mask(1), data.rois(1)
    for concept in maps.values():
        assert concept.shape == mask.shape and not concept[~mask].any() and (concept >= 0).all()
    assert maps["person"][rois["EBA"]].mean() > maps["person"][rois["PPA"]].mean()
    assert not maps["dog"][rois["V1"]].any()


def test_receptive_fields_see_their_place():
    left_up = np.array([[-2.0, 2.0, 0.5]])
    field = voxel_model.receptive_fields(left_up, 32).reshape(32, 32)
    row, column = np.unravel_index(field.argmax(), field.shape)
    assert row < 16 and column < 16  # rows run downwards, the field is up and left
    np.testing.assert_allclose(field.sum(), 1, atol=0.01)


def test_gabor_energy_prefers_its_orientation():
    x = np.arange(64)
    stripes = (127 + 100 * np.sin(2 * np.pi * x * 1.2 * 8.4 / 64)).astype(np.uint8)
    upright = np.broadcast_to(stripes[None, :, None], (64, 64, 3))
    maps = voxel_model.image_features(np.stack([upright, upright.swapaxes(0, 1)])).mean((2, 3))
    assert maps[0, :12].argmax() == 4 and maps[1, :12].argmax() == 6  # 1.2 cycles, 0 and 90 degrees


def test_same_seed_same_data(tiny_nsd, tmp_path):
    design = experiment.make_design(1, 0)
    again = experiment.make_design(1, 0)
    other = experiment.make_design(1, 1)
    for name in design:
        np.testing.assert_array_equal(design[name], again[name])
    assert (design["masterordering"] != other["masterordering"]).any()
    first = tiny_nsd / BETAS.format(2)
    simulation.simulate(tmp_path / "alone", subjects=[2], sessions=1, scale=6.0, n_jobs=2)
    second = tmp_path / "alone" / BETAS.format(2)
    for name in ("betas_session01.nii.gz", "ncsnr.nii.gz"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_whole_folder_is_kept_and_others_refused(tiny_nsd):
    before = (tiny_nsd / "SIMULATED.json").stat().st_mtime_ns
    simulation.simulate(tiny_nsd, subjects=("subj02", 1), sessions=1, scale=6, seed=0)
    assert (tiny_nsd / "SIMULATED.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="other settings"):
        simulation.simulate(tiny_nsd, subjects=(1, 2), sessions=1, scale=6, seed=1)


def test_an_interrupted_simulation_goes_on(tiny_nsd, tmp_path):
    root = shutil.copytree(tiny_nsd, tmp_path / "nsd", copy_function=os.link)
    mark = json.loads((root / "SIMULATED.json").read_text())
    (root / "SIMULATED.json").unlink()
    (root / "SIMULATED.json").write_text(json.dumps({**mark, "complete": False}))
    folder = root / BETAS.format(2)
    for name in ("ncsnr.nii.gz", "betas_session01.hdf5"):
        (folder / name).unlink()
    simulation.simulate(root, subjects=(1, 2), sessions=1, scale=6.0)
    for name in ("ncsnr.nii.gz", "betas_session01.hdf5"):
        before = tiny_nsd / BETAS.format(2) / name
        assert (folder / name).stat().st_size == before.stat().st_size
    assert (folder / "ncsnr.nii.gz").read_bytes() == (
        tiny_nsd / BETAS.format(2) / "ncsnr.nii.gz"
    ).read_bytes()
    assert json.loads((root / "SIMULATED.json").read_text())["complete"]
    assert not list(root.rglob(".part-*"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sessions": 41}, "expected 1 to 40"),
        ({"scale": 0.5}, "expected 1 "),
        ({"subjects": (9,)}, "known for 1 to 8"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        simulation.simulate(tmp_path / "nsd", **settings)
    assert not (tmp_path / "nsd").exists()


def test_thirty_seven_sessions_hold_every_shared_picture():
    order = experiment.make_design(37, 0)["masterordering"][0, : 37 * 750]
    assert np.isin(np.arange(1, 1001), order).all() and (np.bincount(order)[order] == 3).all()


def test_a_folder_of_real_data_is_not_touched(tmp_path):
    (tmp_path / "nsddata").mkdir()
    with pytest.raises(ConfigError, match="may be real"):
        simulation.simulate(tmp_path)


def test_regions_answer_to_what_they_are_for(data):
    """People move EBA more than PPA; the mean over all subjects, on betas as written."""
    effects = {"EBA": [], "PPA": []}
    for subject in data.subjects:
        trials, rois = data.subject_trials(subject), data.rois(subject)
        betas = data.volumes(subject)
        people = np.array(
            [any(o["category"] == "person" for o in data.objects(i)) for i in trials.image_id]
        )
        for name, found in effects.items():
            region = betas[:, rois[name]]
            found.append(
                ((region[people].mean(0) - region[~people].mean(0)) / region.std(0)).mean()
            )
    assert np.mean(effects["EBA"]) > 0.2 and np.mean(effects["EBA"]) > np.mean(effects["PPA"]) + 0.1


def test_objects_and_their_boxes_in_the_picture(data):
    """Boxes are where the picture changes when the object is taken away."""
    import dataclasses

    checked = 0
    for nsd_id in data.trials.image_id.unique()[:60]:
        scene = scenes.make_scene("nsd", int(nsd_id))
        if len(scene.objects) != 1 or scene.links:
            continue
        empty = scenes.render(dataclasses.replace(scene, objects=()), 425)
        changed = np.abs(np.asarray(data.image(nsd_id), int) - np.asarray(empty, int)).max(-1) > 40
        x0, y0, x1, y1 = (np.array(data.objects(nsd_id)[0]["box"]) * 425).astype(int)
        inside = changed[y0 : y1 + 1, x0 : x1 + 1].sum() / max(changed.sum(), 1)
        assert inside > 0.7  # shadows lie outside
        checked += 1
    assert checked > 5
