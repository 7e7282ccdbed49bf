"""What is silenced is measured, equally many and elsewhere; the claim falls where an encoder knows nothing of the concept."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import label
from scipy.spatial.distance import cdist, pdist

from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.errors import DataError
from neurovl.evaluation import silencing
from neurovl.evaluation.claims import claims
from neurovl.evaluation.score_table import Table
from neurovl.localization.concept_maps import SubjectPictures, find_maps
from neurovl.localization.heat import Heat
from neurovl.localization.zeroing import balls, located_voxels, moved_voxels, presence, silence
from neurovl.recordings.base import TRIAL_COLUMNS, Recordings
from neurovl.settings.sections import Localization
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

GRID, EDGE = (9, 9, 9), 3
CUBES = [(x, y, z) for x in (0, 3) for y in (0, 3) for z in (0, 3)]  # corners within a mask of 6^3
NAMES = [f"thing{k}" for k in range(8)]
SHARE = 27 / 216  # of the mask: one cube


class Boxes(Recordings):
    """Subjects whose masks are cubes of 6 voxels that overlap, in a head that has a signal everywhere."""

    corners = {"a": 1, "b": 3}

    def __init__(self):
        rows = [
            (s, 1, k, f"img{k}", 0, "train" if k < 24 else "test") for s in "ab" for k in range(30)
        ]
        super().__init__(".", list("ab"), pd.DataFrame(rows, columns=TRIAL_COLUMNS))

    def mask(self, subject):
        mask, first = np.zeros(GRID, bool), self.corners[subject]
        mask[(slice(first, first + 6),) * 3] = True
        return mask

    def affine(self, subject):
        return np.diag([2.0, 2.0, 3.0, 1.0])

    def session_identity(self, subject, session):
        return subject

    def session_voxels(self, subject, session, voxels):
        return np.random.default_rng(ord(subject)).normal(size=(30, len(voxels)))


@pytest.fixture(scope="module", params=["keep", "zero", "own"])
def store(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_store(Boxes(), folder, patches=[EDGE], off_mask=request.param)
    return TokenStore(folder)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_store(Boxes(), folder, patches=[EDGE], off_mask="own")
    return TokenStore(folder)


def cube(corner, subject="a"):
    """A cube of 27 voxels of a subject's mask, on the grid."""
    grid, first = np.zeros(GRID, bool), Boxes.corners[subject]
    grid[tuple(slice(first + c, first + c + EDGE) for c in corner)] = True
    return grid


def heat(*corners, subject="a"):
    values = np.sum([cube(c, subject) for c in corners], axis=0).astype(np.float32)
    return Heat("thing", subject, values, np.eye(4))


def stored(store, grid):
    return grid.ravel()[store.region]


def jaccard(a, b):
    return (a & b).sum() / (a | b).sum()


def test_located_voxels_are_the_hottest_of_the_mask_and_no_others(store):
    """Of 729, 344 or 344 stored voxels, 216 are measured; one in eight of them is a cube."""
    assert len(store.region) == {"keep": 729}.get(store.off_mask, 2 * 216 - 64)
    for subject in "ab":
        measured = store.measured(subject)
        assert np.array_equal(measured, stored(store, Boxes().mask(subject)))
        found = [
            located_voxels(store, heat(c, subject=subject), measured, SHARE)
            for c in (CUBES[0], CUBES[-1])
        ]
        for one, corner in zip(found, (CUBES[0], CUBES[-1]), strict=True):
            assert np.array_equal(one, stored(store, cube(corner, subject)))
        assert jaccard(*found) == 0


def test_two_unrelated_maps_share_few_voxels(store):
    """At a share s of the measured voxels s / (2 - s) are expected; earlier versions took it of all stored ones.

    Under `keep` 0.3 of 729 stored voxels are 219, more than the 216 of the mask, so that all of it was zeroed.
    """
    rng, measured = np.random.default_rng(0), store.measured("a")
    maps = [Heat("x", "a", rng.random(GRID) * Boxes().mask("a"), np.eye(4)) for _ in range(2)]
    found = [located_voxels(store, one, measured, 0.3) for one in maps]
    assert jaccard(*found) == pytest.approx(0.3 / 1.7, abs=0.08)
    if store.off_mask == "keep":
        of_all = [located_voxels(store, one, np.ones_like(measured), 0.3) for one in maps]
        assert jaccard(*of_all) > 0.95


def test_controls_are_as_many_measured_voxels_elsewhere(store):
    measured = store.measured("a")
    found = located_voxels(store, heat(CUBES[0]), measured, SHARE)
    moved = moved_voxels(store, found, measured, np.random.default_rng(0))
    assert moved.shape == (8, len(store.region))
    assert (moved.sum(1) == 27).all()
    assert not moved[:, ~measured | found].any()
    assert len({one.tobytes() for one in moved}) == 8


def test_controls_are_in_as_few_pieces_as_what_was_located(own):
    """One piece becomes a ball; voxels that are strewn about stay strewn about."""
    measured, rng = own.measured("a"), np.random.default_rng(0)
    together = stored(own, cube(CUBES[0]))
    strewn = np.zeros_like(together)
    strewn[np.flatnonzero(measured & (np.arange(len(measured)) % 8 == 0))[:27]] = True
    apart = [pdist(own.places[one]).mean() for one in moved_voxels(own, together, measured, rng)]
    wide = [pdist(own.places[one]).mean() for one in moved_voxels(own, strewn, measured, rng)]
    assert max(apart) < min(wide)
    free = np.flatnonzero(measured & ~together)
    for one in moved_voxels(own, together, measured, rng):
        inside = np.isin(free, np.flatnonzero(one))
        distance = cdist(own.places[free], own.places[free])
        fits = [d[inside].max() <= d[~inside].min() for d in distance]
        assert any(fits)


def test_two_pieces_stay_two(own):
    measured = own.measured("a")
    two = stored(own, cube(CUBES[0]) | cube(CUBES[-1]))
    grid = np.zeros(int(np.prod(GRID)), bool)
    counts = []
    for one in moved_voxels(own, two, measured, np.random.default_rng(1), draws=20):
        grid[:] = False
        grid[own.region[one]] = True
        counts.append(label(grid.reshape(GRID), np.ones((3, 3, 3)))[1])
    assert one.sum() == 54 and 1 <= np.mean(counts) < 3


def test_balls_are_the_nearest_voxels_that_are_free():
    line = np.arange(10.0)[:, None] * [1, 0, 0]
    found = balls(line, [3, 2, 1], line[[4, 4, 9]])
    assert [sorted(ball) for ball in found] == [[3, 4, 5], [2, 6], [9]]


def test_places_are_millimetres(own):
    at = np.stack(np.unravel_index(own.region, GRID), -1)
    np.testing.assert_allclose(own.places, at * [2.0, 2.0, 3.0])


@pytest.mark.parametrize("share", [0.0, 0.51])
def test_a_share_without_room_for_controls_is_refused(own, share):
    with pytest.raises(DataError, match="expected at least two voxels and a share of at most"):
        located_voxels(own, heat(CUBES[0]), own.measured("a"), share)


def test_a_subject_without_measured_voxels_is_refused(own):
    with pytest.raises(DataError, match="a has 0 measured voxels"):
        located_voxels(own, heat(CUBES[0]), np.zeros(own.n_voxels, bool), SHARE)


def test_presence_by_hand():
    said = torch.tensor([[1.0, 0], [3, 4], [0, 2]])
    found = presence(said, torch.tensor([1.0, 0]), np.array([True, True, False]))
    np.testing.assert_allclose(found, [1, 0.6], atol=1e-7)
    found = presence(said, torch.tensor([1.0, 0]), np.array([True, False, False]))
    np.testing.assert_allclose(found, [1 - 0.3], atol=1e-7)


class Knowing(torch.nn.Module):
    """f(x) = (1, mean of the first cube, ..., mean of the eighth): it knows each concept by its cube alone."""

    layout = f"p{EDGE}"

    def __init__(self, store):
        super().__init__()
        weight = np.stack([stored(store, cube(c)) / 27 for c in CUBES], axis=1)
        padded = np.append(weight, np.zeros((1, 8)), axis=0)
        self.weight = torch.nn.Parameter(
            torch.from_numpy(padded[store.columns(self.layout)]).float()
        )

    def forward(self, tokens):
        said = torch.einsum("bnc,nck->bk", tokens, self.weight)
        return BrainEmbedding(torch.cat([torch.ones(len(said), 1), said], 1), None, tokens)


HOLDS = {name: np.arange(48) % 8 == k for k, name in enumerate(NAMES)}
WORDS = dict(zip(NAMES, torch.eye(9)[1:], strict=True))


def pictures(store, noise=0.0, seed=0):
    """Voxels (48, V): the cube of the concept in the picture is at 1; around the mask is nothing to see."""
    rng = np.random.default_rng(seed)
    clean = np.array([stored(store, cube(CUBES[i % 8])) for i in range(48)], float)
    noisy = clean + noise * rng.normal(size=clean.shape)
    return (noisy * store.measured("a")).astype(np.float32)


def zeroed(store, encoder, heats, voxels, words=WORDS):
    return silencing.zeroing(store, encoder, heats, voxels, HOLDS, words, SHARE, 0)


def verdicts(lost):
    """The claim as a run judges it, by what located voxels are compared with."""
    table = Table("toy", "", 0, 500)
    named = lost.assign(image_id=[f"img{row}" for row in lost.row])
    silencing.score_zeroing(
        table, "neurovl", "a", named.drop(columns="row").assign(share=SHARE), SHARE
    )
    table.add("neurovl", "alignment", "average", "a", "two_way_clip", ["x", "y"], [1.0, 1.0])
    judged = claims(table.frame(), "toy", 0, 500)
    about = [c for c in judged if c.statistic.startswith("drop: neurovl")]
    return {c.statistic.rpartition("=")[2]: c.verdict for c in about}


def test_what_is_lost_by_hand(store):
    """cos(z, t) is 1 / sqrt 2 with the concept and 0 without; its own cube alone takes it away."""
    heats = {name: heat(c) for name, c in zip(NAMES, CUBES, strict=True)}
    lost, overlap = zeroed(store, Knowing(store), heats, pictures(store))
    assert len(lost) == 48 and (overlap == 0).all()
    np.testing.assert_allclose(lost.presence, 0.5**0.5, atol=1e-6)
    np.testing.assert_allclose(lost.drop_located, 0.5**0.5, atol=1e-5)
    np.testing.assert_allclose(lost[["drop_moved", "drop_other"]], 0, atol=1e-5)
    assert verdicts(lost) == {"moved": "holds", "other": "holds"}


def test_another_concepts_map_has_no_advantage(store):
    """Each concept's map is the next one's: nothing is lost with it, and all of the concept with one of seven others."""
    heats = {name: heat(CUBES[(k + 1) % 8]) for k, name in enumerate(NAMES)}
    lost, _ = zeroed(store, Knowing(store), heats, pictures(store))
    np.testing.assert_allclose(lost.drop_located, 0, atol=1e-5)
    np.testing.assert_allclose(lost.drop_other, 0.5**0.5 / 7, atol=1e-5)
    assert verdicts(lost)["other"] == "fails" and verdicts(lost)["moved"] != "holds"


def test_the_whole_mask_for_every_concept_has_no_advantage(own, monkeypatch):
    """The void claim of earlier versions: with all voxels gone, so is every concept, but not for its own map."""
    monkeypatch.setattr(silencing, "located_voxels", lambda store, heat, measured, share: measured)
    monkeypatch.setattr(silencing, "moved_voxels", lambda *args: np.ones((1, own.n_voxels), bool))
    heats = {name: heat(c) for name, c in zip(NAMES, CUBES, strict=True)}
    lost, overlap = zeroed(own, Knowing(own), heats, pictures(own))
    assert (overlap == 1).all()
    np.testing.assert_allclose(lost.drop_located, 0.5**0.5, atol=1e-5)
    assert "holds" not in verdicts(lost).values()


def found(store, encoder, words, voxels, method):
    texts, holds = torch.stack([words[n] for n in NAMES]), np.stack([HOLDS[n] for n in NAMES], 1)
    return find_maps(method, SubjectPictures(store, "a", NAMES, texts, [encoder], voxels, holds))


def test_a_map_that_was_found_holds(store):
    voxels, encoder = pictures(store, noise=1.0), Knowing(store)
    lost, overlap = zeroed(store, encoder, found(store, encoder, WORDS, voxels, "pattern"), voxels)
    assert verdicts(lost) == {"moved": "holds", "other": "holds"}
    assert overlap.max() < 0.3


@pytest.mark.parametrize("method", ["gradcam", "pattern"])
def test_an_encoder_that_learned_nothing_does_not_hold(own, method):
    """Silencing what happens to speak for a word lowers its cosine also here; but there is nothing to take away."""
    voxels, lowered = pictures(own, noise=0.3), []
    for seed in range(6):
        torch.manual_seed(seed)
        shape = {"width": 32, "layers": 2, "heads": 2, "head_hidden": 32}
        encoder = BrainEncoder(*own.shape(), 9, None, f"p{EDGE}", **shape).eval()
        words = dict(zip(NAMES, torch.randn(8, 9), strict=True))
        lost, _ = zeroed(own, encoder, found(own, encoder, words, voxels, method), voxels, words)
        assert "holds" not in verdicts(lost).values()
        lowered.append(lost.drop_located.mean())
    assert np.mean(lowered) < 0


def test_voxels_that_never_change_are_not_counted(own, monkeypatch):
    voxels = pictures(own, noise=1.0)
    dead = stored(own, cube(CUBES[0])) | stored(own, cube(CUBES[1]))
    voxels[:, dead] = 0
    seen, original = [], silencing.located_voxels
    monkeypatch.setattr(
        silencing,
        "located_voxels",
        lambda s, h, m, share: seen.append(m) or original(s, h, m, share),
    )
    heats = {name: heat(c) for name, c in zip(NAMES, CUBES, strict=True)}
    zeroed(own, Knowing(own), heats, voxels)
    assert len(seen) == 8
    assert all(np.array_equal(m, own.measured("a") & ~dead) for m in seen)


def test_a_concept_in_all_pictures_or_alone_is_not_compared(own):
    heats = {NAMES[0]: heat(CUBES[0])}
    everywhere = {NAMES[0]: np.ones(48, bool)}
    lost, overlap = silencing.zeroing(
        own, Knowing(own), heats, pictures(own), everywhere, WORDS, SHARE, 0
    )
    assert lost.empty and overlap.empty
    lost, overlap = zeroed(own, Knowing(own), heats, pictures(own))
    assert lost.drop_other.isna().all() and overlap.isna().all()
    assert verdicts(lost) == {"moved": "holds", "other": "undecided"}


def test_silent_voxels_are_all_but_zero():
    found = silence(np.array([[2.0, 0, 3]], np.float32), np.array([True, True, False]))
    np.testing.assert_allclose(found, [[1e-6, 0, 3]])


def test_what_is_lost_over_doses_and_beside(store):
    """A cube's own voxels alone take its concept, not what else the picture holds; twice as many voxels take no more."""
    heats = {name: heat(c) for name, c in zip(NAMES, CUBES, strict=True)}
    voxels = pictures(store) + pictures(store)[np.roll(np.arange(48), 1)]  # two cubes in each
    pairs = {name: HOLDS[name] | np.roll(HOLDS[name], 1) for name in NAMES}
    settings = Localization(share=SHARE, doses=(SHARE / 8, 2 * SHARE))
    about = (heats, voxels, pairs, WORDS, settings, 0)
    lost, _ = silencing.over_doses(store, Knowing(store), *about)
    means = lost.groupby("share")[["drop_located", "drop_beside"]].mean()
    assert list(means.index) == sorted([SHARE, *settings.doses])
    assert means.drop_located[SHARE / 8] < 0.5 * means.drop_located[SHARE]
    assert means.drop_located[SHARE] > 0.5 and abs(means.drop_beside[SHARE]) < 0.2
    table = Table("toy", "", 0, 100)
    named = lost.assign(image_id=[f"img{row}" for row in lost.row]).drop(columns="row")
    silencing.score_zeroing(table, "neurovl", "a", named, SHARE)
    rows = {(r.metric, r.condition) for r in table.rows}
    assert ("drop", f"zeroed=located share={SHARE / 8:g}") in rows
    assert ("drop", "zeroed=located") in rows and ("drop_beside", "zeroed=located") in rows
    # Another concept's map: what is beside is lost instead.
    swapped = {name: heat(CUBES[(k - 1) % 8]) for k, name in enumerate(NAMES)}
    lost, _ = silencing.over_doses(store, Knowing(store), swapped, *about[1:])
    at = lost[lost.share == SHARE]
    assert at.drop_located.mean() < 0.2 < at.drop_beside.mean()
