"""GradCAM by finite differences and in batches, patterns as correlations, maps back in the subject's space."""

import numpy as np
import pytest
import torch

from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import DataError
from neurovl.localization.concept_maps import SubjectPictures, find_maps
from neurovl.localization.encoder_maps import gradcam, to_grid
from neurovl.recordings.opening import open_recordings
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store


@pytest.fixture(scope="module")
def store(tiny_nsd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_store(open_recordings(tiny_nsd), folder, patches=[5, 4], off_mask="zero")
    return TokenStore(folder)


def make_encoder(store, layout):
    torch.manual_seed(0)
    n, c = store.shape(layout)
    return BrainEncoder(n, c, 16, None, layout, width=32, layers=2, heads=2, head_hidden=16).eval()


def located(store, encoders, voxels, method="gradcam", text=None, subject="subj01"):
    """The map of one concept, which all pictures hold."""
    texts, holds = torch.randn(16) if text is None else text, np.ones((len(voxels), 1), bool)
    about = SubjectPictures(store, subject, ["dog"], texts[None], encoders, voxels, holds)
    return find_maps(method, about)["dog"]


def test_gradcam_reads_no_training_trial(store):
    """They are gigabytes in a whole data set, and only methods that ask the voxels rest on them."""

    def refuse():
        raise AssertionError("the training trials were read")

    about = (store, "subj01", ["dog"], torch.randn(1, 16), [make_encoder(store, "p5")])
    pictures = SubjectPictures(*about, store.voxels(1, [0, 1]), np.ones((2, 1), bool), refuse)
    assert find_maps("gradcam", pictures)["dog"].values.any()
    with pytest.raises(AssertionError, match="training trials were read"):
        find_maps("tuning", pictures)


def test_gradcam_by_finite_differences(store):
    """The channel weights are the derivative of the cosine, which a small step along each channel gives too."""
    encoder, text = make_encoder(store, "p5").double(), torch.randn(16, dtype=torch.double)
    tokens = store.batch(1, [0]).double()
    cam = gradcam(encoder, tokens, text)[0].double()
    with torch.no_grad():
        hidden = encoder(tokens).hidden
        n = hidden.shape[1] - 1

        def score(h):
            return torch.nn.functional.cosine_similarity(
                encoder.from_hidden(h).clip, text[None]
            ).item()

        weights = []
        for k in range(hidden.shape[2]):
            up, down = hidden.clone(), hidden.clone()
            up[:, 1:, k] += 1e-5
            down[:, 1:, k] -= 1e-5
            weights.append((score(up) - score(down)) / 2e-5 / n)
        expected = torch.relu(hidden[0, 1:] @ torch.tensor(weights, dtype=torch.double))
    torch.testing.assert_close(cam, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_gradcam_in_batches_is_gradcam_one_by_one(store, batch_size):
    """And only the last layer keeps what gradients need, of one batch at a time."""
    encoder, text = make_encoder(store, "p5"), torch.randn(16)
    tokens, seen = store.batch(1, np.arange(7)), []
    below = encoder.blocks[0].register_forward_hook(
        lambda block, given, made: seen.append((len(made), made.requires_grad))
    )
    found = gradcam(encoder, tokens, text, batch_size=batch_size)
    below.remove()
    assert seen == [(n, False) for n in {1: [1] * 7, 3: [3, 3, 1], 64: [7]}[batch_size]]
    each = torch.cat([gradcam(encoder, one[None], text) for one in tokens])
    assert found.shape == (7, store.shape("p5")[0]) and found.any()
    torch.testing.assert_close(found, each, atol=1e-6, rtol=1e-4)


def test_the_grid_has_its_peak_at_the_hot_patch(store):
    cam = torch.zeros(store.shape("p5")[0])
    cam[4] = 1.0
    grid = to_grid(store, "p5", cam)
    plan = store.plans["p5"]
    at = np.unravel_index(plan.kept[4], plan.candidates)
    peak = np.array(np.unravel_index(grid.argmax(), grid.shape)) // np.array(plan.patch)
    assert grid.shape == store.target and tuple(peak) == tuple(int(i) for i in at)


def test_heat_is_in_the_subject_s_own_space(store, tiny_nsd):
    data = open_recordings(tiny_nsd)
    encoders = [make_encoder(store, "p5"), make_encoder(store, "p4")]
    heat = located(store, encoders, store.voxels(2, [0, 1]), subject="subj02")
    image, mask = heat.to_nifti(), data.mask(2)
    assert image.shape == mask.shape
    np.testing.assert_allclose(image.affine, data.affine(2))
    assert (
        heat.values.min() == 0
        and heat.values.max() == pytest.approx(1)
        and not heat.values[~mask].any()
    )
    table = heat.roi_table(data.rois(2))
    assert table["mean"].is_monotonic_decreasing and (table.peak <= 1).all()


def test_no_trial_is_refused(store):
    with pytest.raises(DataError, match="0 pictures were given"):
        located(store, [], np.zeros((0, len(store.region))))


def test_patterns_are_correlations_with_the_decoded_score(store):
    encoder, text = make_encoder(store, "p5"), torch.randn(16)
    voxels = store.voxels(1, np.arange(40))
    about = {"text": text, "method": "pattern"}
    heat = located(store, [encoder], voxels, **about)
    with torch.no_grad():
        z = encoder(store.cut(voxels, "p5")).clip.numpy()
    score = [float(v @ text.numpy() / np.linalg.norm(v) / np.linalg.norm(text)) for v in z]
    expected = [max(0.0, np.corrcoef(voxels[:, k], score)[0, 1]) for k in range(voxels.shape[1])]
    # subj01's grid is the common grid, so the heatmap holds the patterns themselves, rescaled in its mask.
    inside = np.flatnonzero(heat.values.ravel()[store.region])
    assert (
        np.corrcoef(heat.values.ravel()[store.region][inside], np.array(expected)[inside])[0, 1]
        > 0.9999
    )
    with pytest.raises(DataError, match="at least 3"):
        located(store, [encoder], voxels[:2], **about)
