"""Importance is found in the voxels that a head was made to read, and the null of moved regions holds its level."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from neurovl import evaluation, figures
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.evaluation import region_importance as stage
from neurovl.evaluation.claims import claims
from neurovl.evaluation.score_table import Table
from neurovl.localization.importance import (
    agreement,
    attributions,
    moved_pairs,
    moved_regions,
    p_value,
    places,
)
from neurovl.localization.zeroing import SILENT, silence
from neurovl.recordings.opening import open_recordings
from neurovl.run import Run, RunTables, write_record
from neurovl.settings.sections import Compute, Evaluation, Profile
from neurovl.tokens.writing import write_store

V, E, VAE = 24, 5, (2, 2, 2)
READS = {"clip-head": np.arange(V) < 8, "vae-head": np.arange(V) >= 16}


class Bent(torch.nn.Module):
    """Heads that each read some voxels: f(x) = m + bend(x W)."""

    layout = "p3"

    def __init__(self, bend=lambda x: x):
        super().__init__()
        rng, widths = torch.Generator().manual_seed(0), {"clip-head": E, "vae-head": 8}
        self.weights = torch.nn.ParameterDict()
        for head, width in widths.items():
            weight = torch.randn(V, width, generator=rng)
            self.weights[head] = weight * torch.from_numpy(READS[head])[:, None]
        self.bend = bend

    def forward(self, tokens):
        said = {h: 3 + self.bend(tokens.flatten(1) @ w) for h, w in self.weights.items()}
        return BrainEmbedding(said["clip-head"], said["vae-head"].unflatten(1, VAE), tokens)


@pytest.fixture
def toy():
    store = SimpleNamespace(cut=lambda voxels, layout: torch.as_tensor(voxels).reshape(-1, 4, 6))
    rng = np.random.default_rng(1)
    voxels = rng.normal(size=(20, V)).astype(np.float32)
    deviations = {
        "clip-head": torch.from_numpy(rng.normal(size=(20, E))).float(),
        "vae-head": torch.from_numpy(rng.normal(size=(20, 8))).float(),
    }
    return store, voxels, deviations


def gains(encoder, store, voxels, deviations, head):
    with torch.no_grad():
        z = encoder(store.cut(voxels, "p3"))
    said = (z.clip if head == "clip-head" else z.vae.flatten(1)).double().numpy()
    d = deviations[head].double().numpy()
    return ((said - 3) * d).sum(1) / (d**2).sum(1)


@pytest.mark.parametrize("head", READS)
def test_a_linear_head_has_its_closed_form(toy, head):
    store, voxels, deviations = toy
    encoder = Bent()
    found = attributions(encoder, store, voxels, deviations, batch_size=7)[head]
    d = deviations[head].double()
    slope = (d @ encoder.weights[head].detach().double().T) / d.square().sum(1, keepdim=True)
    np.testing.assert_allclose(found, voxels * slope.numpy(), atol=1e-5)
    assert not found[:, ~READS[head]].any()
    region = np.arange(V) % 3 == 0
    lost = gains(encoder, store, voxels, deviations, head) - gains(
        encoder, store, silence(voxels, region), deviations, head
    )
    np.testing.assert_allclose(found[:, region].sum(1), lost, atol=1e-4)


def test_parts_sum_to_the_whole_gain_of_a_network(toy, caplog):
    _, voxels, deviations = toy
    store = SimpleNamespace(cut=lambda v, layout: torch.as_tensor(v).reshape(-1, 4, 6))
    torch.manual_seed(0)
    shape = {"width": 32, "layers": 2, "heads": 2, "head_hidden": 32, "readout": 4}
    encoder = BrainEncoder(4, 6, E, VAE, "p3", **shape, n_subjects=2).eval()
    for buffer in (encoder.readout.weight, encoder.readout.components):
        buffer.normal_(std=0.3)
    encoder.readout.measured[0], encoder.readout.measured[1, :3] = True, True
    found = attributions(encoder, store, voxels, deviations)
    with torch.no_grad():
        ends = [encoder(store.cut(s * voxels, "p3")) for s in (1, SILENT)]
    for head, values in found.items():
        said = [z.clip if head == "clip-head" else z.vae.flatten(1) for z in ends]
        d = deviations[head]
        whole = ((said[0] - said[1]) * d).sum(1) / d.square().sum(1)
        np.testing.assert_allclose(values.sum(1), whole, atol=2e-3)
    assert not caplog.records


def test_an_encoder_that_cannot_be_followed_is_told(toy, caplog):
    store, voxels, deviations = toy
    attributions(Bent(lambda x: torch.tanh(1e3 * x)), store, voxels, deviations)
    assert "nodes do not follow this encoder" in caplog.text


def test_silent_voxels_still_say_whose_volume_it_is():
    encoder = BrainEncoder(1, 4, E, None, width=8, layers=1, heads=2, readout=2, n_subjects=2)
    encoder.readout.measured[0] = True
    encoder.readout.measured[1, 0, :2] = True
    voxels, region = np.ones((1, 4), np.float32), np.array([False, False, True, True])
    whose = [
        int(encoder.readout.subject(torch.as_tensor(x)[:, None]))
        for x in (voxels, np.where(region, 0, voxels).astype(np.float32), silence(voxels, region))
    ]
    assert whose == [0, 1, 0]


def test_agreement_is_the_cosine_about_the_mean(toy):
    store, voxels, deviations = toy
    means = {"clip-head": torch.full((E,), 3.0), "vae-head": torch.full((8,), 3.0)}
    encoder = Bent()
    found = agreement(encoder, store, voxels, deviations, means)["vae-head"]
    said = voxels.astype(float) @ encoder.weights["vae-head"].detach().double().numpy()
    d = deviations["vae-head"].numpy()
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(said, d, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    lost = agreement(encoder, store, silence(voxels, READS["clip-head"]), deviations, means)
    np.testing.assert_allclose(lost["vae-head"], found, atol=1e-4)


def grid(n):
    return np.stack(np.meshgrid(*3 * [np.arange(n)], indexing="ij"), -1).reshape(-1, 3) * 2.0


def test_moved_regions_are_balls_of_the_right_size():
    where, sizes = grid(4), [1, 7, 40, 64]
    each = np.eye(64)
    to = where[[5, 21]] + 0.1
    found = moved_regions(each, where, sizes, to)
    for place, sums in zip(to, found, strict=True):
        distance = cdist(place[None], where)[0]
        for size, inside in zip(sizes, sums.T, strict=True):
            assert inside.sum() == size and set(inside) <= {0.0, 1.0}
            assert distance[inside == 1].max() <= distance[inside == 0].min(initial=np.inf)


def test_moved_pairs_share_no_voxel():
    where, rng = grid(4), np.random.default_rng(0)
    to = places(where, 30 / 64, rng, 25)
    assert all((cdist(pair, where) == 0).any(1).all() for pair in to)
    found = moved_pairs(np.eye(64), where, 30, 20, to)
    assert ((found == 1).sum(1) == 30).all() and ((found == -1).sum(1) == 20).all()
    assert len({tuple(row) for row in found}) > 20
    here, there = cdist(to[0], where)
    assert here[found[0] == 1].max() <= here[found[0] != 1].min()
    outside = found[0] != 1
    assert there[found[0] == -1].max() <= there[outside & (found[0] == 0)].min()


def test_p_is_uniform_where_maps_have_nothing_to_do_with_regions():
    """For smooth maps; exchanging single voxels would call far more than one in twenty significant."""
    where, rng = grid(7), np.random.default_rng(0)
    kernel = np.linalg.cholesky(np.exp(-(cdist(where, where) ** 2) / 32) + 1e-6 * np.eye(343))
    maps = (kernel @ rng.normal(size=(343, 200))).T
    region = moved_regions(maps, where, [40], where[rng.integers(343, size=200)])
    observed = region[np.arange(200), np.arange(200), 0]
    null = moved_regions(maps, where, [40], where[rng.integers(343, size=199)])[:, :, 0]
    p = [p_value(null[:, k], observed[k]) for k in range(200)]
    assert kstest(p, "uniform").pvalue > 0.01
    scattered = np.stack([maps[:, rng.permutation(343)[:40]].sum(1) for _ in range(199)])
    naive = [p_value(scattered[:, k], observed[k]) for k in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.1 and np.mean(np.array(naive) < 0.05) > 0.3


def test_p_counts_both_tails_and_the_observation():
    null = np.arange(19.0)
    assert p_value(null, 100.0) == pytest.approx(0.1) == p_value(null, -1.0)
    assert p_value(null, 17.5) == pytest.approx(0.2) and p_value(null, 9.0) == 1.0


@pytest.fixture(scope="module")
def run(tiny_nsd, tmp_path_factory):
    """A run whose VAE head reads what is early in both subjects, and whose CLIP head what is ventral in both."""
    folder, recordings = tmp_path_factory.mktemp("run"), open_recordings(tiny_nsd)
    profile = Profile("smoke", compute=Compute(device="cpu"), evaluation=Evaluation(bootstrap=200))
    write_record(folder, profile, "data", {"data": recordings.name, "simulated": True, "folds": 1})
    run = Run(folder, profile, tiny_nsd)
    with run.stage("tokens", write_store, {}) as s:
        write_store(recordings, s.dir, patches=[5], off_mask="zero")
    found = list(stage.regions(run).values())
    weights = np.zeros((len(run.store.region) + 1, E + 8), np.float32)
    rng = np.random.default_rng(0)
    for area, part in (("early", slice(E, None)), ("ventral", slice(0, E))):
        both = np.flatnonzero(found[0][area] & found[1][area])
        weights[both, part] = rng.normal(size=weights[both, part].shape)
    trials = run.store.trials
    ids = sorted(trials.image_id.unique())
    responses = run.store.voxels_at(trials.index) @ weights[:-1]
    means = pd.DataFrame(responses).groupby(trials.image_id.to_numpy()).mean().loc[ids].to_numpy()
    values = torch.from_numpy(means + rng.normal(size=means.shape)).float()
    with run.stage("targets", write_store, {}) as s:
        parts = {
            "clip": values[:, :E].contiguous(),
            "vae": values[:, E:].unflatten(1, VAE).contiguous(),
        }
        save_file(parts, s.dir / "targets.safetensors")
        (s.dir / "image_ids.json").write_text(json.dumps(ids))
    small = {"width": 8, "layers": 1, "heads": 2, "head_hidden": 8, "readout": E + 8}
    encoder = BrainEncoder(*run.store.shape("p5"), E, VAE, "p5", **small)
    encoder.start_at(None, None)
    encoder.readout.weight[0] = torch.from_numpy(weights)[run.store.columns("p5")]
    encoder.readout.components.copy_(torch.eye(E + 8))
    encoder.readout.mean.copy_(torch.cat([m for m in stage._means(run).values()]))
    with run.stage("encoders/main", write_store, {}) as s:
        encoder.save_pretrained(s.dir)
    evaluation.measure_importance(run)
    return run


def test_planted_regions_are_found(run):
    table = pd.read_csv(run.folder / "importance" / "regions.csv")
    found = table.set_index(["subject", "system", "metric"]).value
    for subject in ("subj01", "subj02", "all"):
        for head, here, elsewhere in (
            ("vae-head", "early", "ventral"),
            ("clip-head", "ventral", "early"),
        ):
            assert found[subject, head, f"share_{here}"] == pytest.approx(1, abs=2e-3)
            assert found[subject, head, f"share_{elsewhere}"] == pytest.approx(0, abs=2e-3)
            assert found[subject, head, f"drop_{here}"] > 0.5
            assert found[subject, head, f"drop_{elsewhere}"] == pytest.approx(0, abs=2e-3)
        assert found[subject, "vae-minus-clip", "early_minus_ventral"] == pytest.approx(2, abs=2e-3)
    areas = table[(table.subject == "subj01") & (table.system == "vae-head")].set_index("metric")
    early = [f"share_{a}" for a in stage.EARLY if f"share_{a}" in areas.index]
    assert areas.value[early].sum() == pytest.approx(1, abs=2e-3)
    assert areas.voxels["share_V1"] == run.recordings.rois(1)["V1"].sum()
    whole = table[table.metric == "early_minus_ventral"]
    assert (whole.null_low <= whole.chance).all() and (whole.chance <= whole.null_high).all()
    assert whole.p.between(0, 1).all()


def test_maps_lie_in_the_subjects_own_space(run):
    files = sorted((run.folder / "importance").glob("*.nii.gz"))
    assert len(files) == 2 * 2 * 2
    for file in files:
        image, subject = nibabel.load(file), file.name[:6]
        mask = run.recordings.mask(subject)
        assert image.shape == mask.shape and not np.asarray(image.dataobj)[~mask].any()
    # subj01's grid is the common one: the mean over its mask is the mask's share of what is read.
    vae = nibabel.load(run.folder / "importance" / "subj01_vae-head.nii.gz")
    assert np.asarray(vae.dataobj)[run.recordings.mask(1)].mean() == pytest.approx(1, abs=2e-3)


def test_rows_and_claims_follow(run):
    table = Table("simulated-nsd", "", 0, 200)
    stage.score_importance(run, table)
    table.add_all_subjects()
    rows = stage.with_p(table.rows, run)
    difference = [r for r in rows if r.system == "vae-minus-clip" and r.subject == "all"]
    assert {r.metric for r in difference} == {"early_minus_ventral", "drop_early_minus_ventral"}
    for row in difference:
        assert row.task == "importance" and (
            row.chance is None or row.value == pytest.approx(2, abs=2e-3)
        )
        assert (
            ("moved regions" in row.note)
            == (row.chance is not None)
            == (row.metric == "early_minus_ventral")
        )
    judged = pd.concat([table.frame(), table.frame().assign(task="alignment")])
    verdicts = {c.statistic: c.verdict for c in claims(judged, "simulated-nsd", 0, 200)}
    assert verdicts["early_minus_ventral: vae-head - clip-head"] == "holds"


def test_figures_show_the_table(run):
    tables = RunTables(run.folder)
    axes = figures.region_importance(tables.importance).axes
    assert [x.get_text() for x in axes[0].get_yticklabels()] == [
        "early areas",
        "category areas",
        "early − category",
    ]
    marks = [x.get_xdata()[0] for x in axes[0].lines if x.get_marker() == "o"]
    assert marks == pytest.approx([0, 1, -1, 1, 0, 1], abs=2e-3)
    maps, own = tables.token_maps("subj02"), run.recordings
    assert set(maps) == {"clip-head", "vae-head"}
    figure = figures.importance_slices(maps, own.mask(2), own.rois(2), n_slices=2)
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert np.isfinite(shown).sum() == own.mask(2)[:, :, 0 + _first_level(own.mask(2))].sum()


def _first_level(mask):
    return figures.inputs.levels_of(mask, 2)[0]


def test_without_regions_or_pictures_it_is_left_out(run, monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO")
    about = {"store": run.store, "once": lambda name, find: find()}
    plain = SimpleNamespace(recordings=SimpleNamespace(has_images=False), **about)
    assert evaluation.regions(plain) == {}
    assert "importance of regions is left out" in caplog.text
    own = run.recordings
    bare = SimpleNamespace(has_images=True, mask=own.mask, rois=lambda s: {"V1": own.rois(s)["V1"]})
    assert evaluation.regions(SimpleNamespace(recordings=bare, **about)) == {}
    write_record(tmp_path, run.profile, "data", {"data": "x", "simulated": False, "folds": 1})
    assert RunTables(tmp_path).importance.empty
    assert RunTables(tmp_path).token_maps("subj01") == {}
