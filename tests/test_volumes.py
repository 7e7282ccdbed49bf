"""PatchPlan against scipy.ndimage.zoom, and the arithmetic of patches."""

import numpy as np
import pytest
from scipy import ndimage

from neurovl.errors import ConfigError, DataError
from neurovl.tokens.patch_plan import PatchPlan, layout_name
from neurovl.tokens.resize import Resizer, resize_linear, resize_nearest
from neurovl.tokens.writing import patch_in_voxels

GRIDS = [(27, 35, 28), (26, 33, 27), (30, 30, 20), (9, 50, 11)]
TARGET = (27, 35, 28)


def peers_way(volume, target, patch, kept):
    """Resize with scipy, pad after the last voxel, cut cubes, select: what the peers do, written plainly."""
    factors = [t / s for t, s in zip(target, volume.shape, strict=True)]
    big = ndimage.zoom(volume.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")
    big = np.pad(big, [(0, -n % p) for n, p in zip(target, patch, strict=True)])
    cubes = [
        big[x : x + patch[0], y : y + patch[1], z : z + patch[2]].ravel()
        for x in range(0, big.shape[0], patch[0])
        for y in range(0, big.shape[1], patch[1])
        for z in range(0, big.shape[2], patch[2])
    ]
    return np.stack(cubes)[kept]


def random_mask(shape, seed):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2) > 0.08


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("patch", [5, 4, (3, 7, 2)])
def test_tokens_equal_scipy_zoom(shape, patch):
    masks = {"subj01": random_mask(TARGET, 0), "other": random_mask(shape, 1)}
    plan = PatchPlan.fit(masks, target=TARGET, patch=patch, off_mask="keep")
    volumes = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    expected = np.stack([peers_way(v, TARGET, plan.patch, plan.kept) for v in volumes])
    assert plan.tokens(volumes).shape == (3, plan.n_tokens, np.prod(plan.patch))
    np.testing.assert_allclose(plan.tokens(volumes), expected, atol=1e-4 * np.ptp(volumes))


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "uint8", "float32", "float64", "int32"])
@pytest.mark.parametrize("first", ["x", "z"])
def test_every_number_type_and_memory_order_gives_what_scipy_gives(dtype, first):
    """Random grids, also of one voxel an axis, enlarged and reduced, and random voxels of them."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape, target = (tuple(int(n) for n in rng.integers(1, 20, 3)) for _ in range(2))
        region = np.flatnonzero(rng.random(np.prod(target)) < rng.random())
        if not region.size:
            continue
        volumes = np.abs(rng.normal(0, 60, (3, *shape))).astype(dtype)
        factors = [o / i for o, i in zip(target, shape, strict=True)]
        options = {"order": 1, "grid_mode": True, "mode": "nearest"}
        zoomed = [
            ndimage.zoom(v.astype(float), factors, **options).ravel()[region] for v in volumes
        ]
        if first == "x":
            volumes = np.ascontiguousarray(volumes.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
        resizer = Resizer(shape, target, region)
        np.testing.assert_allclose(resizer(volumes), zoomed, atol=1e-3)
        np.testing.assert_array_equal(resizer(volumes, n_jobs=2), resizer(volumes))
        inputs = volumes.transpose(0, 3, 2, 1).reshape(3, -1)[:, resizer.inputs]
        scale, shift = rng.random((2, len(resizer.inputs))).astype(np.float32)
        whole = np.zeros((3, np.prod(shape)), np.float32)
        whole[:, resizer.inputs] = (inputs - shift) * scale
        whole = whole.reshape(3, *shape[::-1]).transpose(0, 3, 2, 1)
        expected = [ndimage.zoom(v, factors, **options).ravel()[region] for v in whole]
        found = resizer.from_inputs(inputs, scale, shift)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_zeroing_off_mask_voxels_is_the_kept_tokens_times_the_union():
    masks = {"a": random_mask(TARGET, 0), "b": random_mask((26, 33, 27), 1)}
    keep, zero = (
        PatchPlan.fit(masks, target=TARGET, patch=5, off_mask=m) for m in ("keep", "zero")
    )
    union = np.logical_or.reduce([resize_nearest(m, TARGET) for m in masks.values()])
    volumes = np.random.default_rng(3).normal(size=(2, 26, 33, 27)).astype(np.float32)
    inside = peers_way(union.astype(np.float32), TARGET, (5, 5, 5), keep.kept)
    np.testing.assert_array_equal(keep.kept, zero.kept)
    np.testing.assert_allclose(zero.tokens(volumes), keep.tokens(volumes) * inside, atol=1e-6)


def test_a_patch_is_kept_exactly_if_it_holds_a_voxel_of_the_union():
    mask = np.zeros((10, 10, 10), bool)
    mask[9, 0, 5] = True
    plan = PatchPlan.fit({"a": mask}, patch=4)
    assert plan.candidates == (3, 3, 3)
    assert plan.kept.tolist() == [2 * 9 + 0 * 3 + 1]


def test_padding_lies_after_the_last_voxel():
    plan = PatchPlan.fit({"a": np.ones((5, 4, 4), bool)}, patch=4)
    tokens = plan.tokens(np.ones((1, 5, 4, 4))).reshape(2, 4, 4, 4)
    assert tokens[0].all() and tokens[1, 0].all() and not tokens[1, 1:].any()


def test_resize_keeps_the_identity():
    volume = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    np.testing.assert_allclose(resize_linear(volume, volume.shape), volume, atol=1e-6)


@pytest.mark.parametrize(
    ("masks", "patch", "word"),
    [
        ({}, 4, "no mask"),
        ({"s": np.zeros((4, 4, 4), bool)}, 4, "at least one voxel"),
        ({"s": np.ones((4, 4, 4), bool)}, 0, "positive"),
    ],
)
def test_bad_input_is_named(masks, patch, word):
    with pytest.raises(DataError, match=word):
        PatchPlan.fit(masks, patch=patch)


def test_volumes_of_another_shape_are_refused():
    plan = PatchPlan.fit({"a": np.ones((5, 4, 4), bool)}, patch=4)
    with pytest.raises(DataError, match="expected"):
        plan.tokens(np.ones((5, 4, 4)))


def test_layout_names():
    assert [layout_name(p) for p in (5, (5, 5, 5), (5, 5, 1))] == ["p5", "p5", "p5x5x1"]


def test_tokens_into_a_used_array_leave_nothing_of_it():
    masks = {"a": random_mask(TARGET, 0)}
    plan = PatchPlan.fit(masks, target=TARGET, patch=(5, 4, 6), off_mask="zero")
    volumes = np.random.default_rng(4).normal(size=(2, *TARGET)).astype(np.float32)
    used = np.full((2, plan.n_tokens, 120), 7, np.float32)
    assert plan.tokens(volumes, out=used) is used
    np.testing.assert_array_equal(used, plan.tokens(volumes))
    with pytest.raises(DataError, match="contiguous float32"):
        plan.tokens(volumes, out=used[:, ::2])


@pytest.mark.parametrize(
    ("edges", "sizes"), [((1.8, 1.8, 1.8), (14, 12, 10)), ((5.4, 5.4, 5.4), (5, 4, 3))]
)
def test_patches_in_millimetres_are_the_papers_at_nsds_voxel_size(edges, sizes):
    found = [patch_in_voxels(patch, edges) for patch in ("25.2mm", "21.6 mm", "18mm")]
    assert found == [(size,) * 3 for size in sizes]
    assert patch_in_voxels((5, 5, 1), edges) == (5, 5, 1)
    assert patch_in_voxels("6mm", (3, 2, 50)) == (2, 3, 1)
    with pytest.raises(ConfigError, match="'25.2' is no length"):
        patch_in_voxels("25.2", edges)
