"""Maps on the cortex and in a subject's own space: what is drawn, where, and that a page needs nothing from elsewhere."""

import base64
import html
import json
import re

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pytest

from neurovl import figures
from neurovl.figures.cortex import on_cortex, outlined
from neurovl.recordings.opening import open_recordings


@pytest.fixture(scope="module")
def recordings(tiny_nsd):
    return open_recordings(tiny_nsd, subjects=[1])


@pytest.fixture(scope="module")
def left(tiny_nsd, recordings):
    """1 in the left half of nsdgeneral."""
    path = tiny_nsd / "nsddata/ppdata/subj01/func1pt8mm/roi/lh.nsdgeneral.nii.gz"
    values = (nibabel.load(path).get_fdata() > 0).astype(np.float32)
    return nibabel.Nifti1Image(values, recordings.affine(1))


@pytest.fixture
def flat(tiny_nsd):
    """The same data set, of which no surface is known."""
    data = open_recordings(tiny_nsd, subjects=[1])
    data.surface = lambda subject: None
    return data


def faces_of(axis, colour):
    """How many faces of a drawn surface have the colour; on the mesh each face is the mean of its vertices."""
    faces = axis.collections[0].get_facecolors()[:, :3]
    return (np.abs(faces - colour[:3]).max(1) < 0.15).sum()


def test_a_map_of_one_hemisphere_is_drawn_on_it(recordings, left):
    figure = figures.cortex({"left": left}, recordings, 1)
    views = [axis for axis in figure.axes if axis.name == "3d"]
    assert [view.get_title() for view in views[::3]] == [
        "left: left, lateral",
        "left: right, lateral",
    ]
    top, bottom = plt.get_cmap("inferno")(1.0), plt.get_cmap("inferno")(0.0)
    lateral = {"left": views[0], "right": views[3]}
    # voxels of 10.8 mm reach over the midline
    assert faces_of(lateral["left"], top) > 8 * faces_of(lateral["right"], top)
    assert faces_of(lateral["right"], bottom) > 100  # 0 within the mask is drawn


def test_the_edge_of_the_mask_does_not_dim(recordings):
    found = on_cortex({"even": np.full(recordings.mask(1).shape, 0.7)}, recordings, 1)["even"]
    for values in found.values():
        inside = np.isfinite(values)
        assert 200 < inside.sum() < 5000
        np.testing.assert_allclose(values[inside], 0.7, rtol=1e-5)


def test_outlines_lie_on_the_regions_own_labels(recordings, tiny_nsd):
    numbers, names = outlined(recordings, 1)
    assert names == ["early areas", "faces", "bodies", "places"]
    label = tiny_nsd / "nsddata/freesurfer/fsaverage/label"
    for hemi in ("lh", "rh"):
        wang = np.asarray(nibabel.load(label / f"{hemi}.Kastner2015.mgz").dataobj).ravel()[:10242]
        early = np.isin(wang, range(1, 8))
        assert early[numbers[hemi] == 1].mean() > 0.7 > 3 * early[numbers[hemi] > 1].mean()


def test_own_space_is_projected_upright_and_said(flat):
    mask = flat.mask(1)
    values = np.random.default_rng(0).uniform(0.1, 1, mask.shape).astype(np.float32) * mask
    affine = flat.affine(1)
    turned = affine @ [[-1, 0, 0, mask.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    plain = figures.cortex({"a": nibabel.Nifti1Image(values, affine)}, flat, 1)
    flat.mask = lambda subject: mask[::-1]
    mirrored = figures.cortex({"a": nibabel.Nifti1Image(values[::-1], turned)}, flat, 1)
    panels = [figure.axes[:3] for figure in (plain, mirrored)]
    assert [axis.get_title() for axis in panels[0]] == [
        "from the right",
        "from behind",
        "from above",
    ]
    for along, (one, other) in enumerate(zip(*panels, strict=True)):
        drawn = np.asarray(one.images[0].get_array().filled(0))
        np.testing.assert_array_equal(drawn, np.asarray(other.images[0].get_array().filled(0)))
        expected = values.max(along).T
        np.testing.assert_array_equal(np.sort(drawn[drawn > 0]), np.sort(expected[expected > 0]))
    assert "own space, no template" in {text.get_text() for text in plain.texts}


def given(view):
    page = html.unescape(re.search('srcdoc="(.*?)"', view.data, re.DOTALL)[1])
    return page, json.loads(re.search("const given = (.*);\n", page)[1])


def test_the_view_of_the_cortex_holds_all_it_needs(recordings, left):
    half = nibabel.Nifti1Image(np.asarray(left.dataobj) / 2, left.affine)
    view = figures.brain_view({"left": left, "</script>": half}, recordings, 1, source="simulated")
    page, data = given(view)
    assert not re.search("https?://|<link|src=", page) and len(view.data) < 800_000
    assert page.count("</script>") == 1 and data["names"][1] == "</script>"
    places = np.frombuffer(base64.b64decode(data["places"]), "<i2").reshape(-1, 3) / 100
    faces = np.frombuffer(base64.b64decode(data["faces"]), "<u2").reshape(-1, 3)
    assert (
        len(places) == 20484 and len(faces) == 40960 and set(np.unique(faces)) == set(range(20484))
    )
    assert places[:10242, 0].max() < 0 < places[10242:, 0].min()
    expected = on_cortex({"left": np.asarray(left.dataobj)}, recordings, 1)["left"]
    expected = np.concatenate([expected["lh"], expected["rh"]])
    for coded, size in zip(data["maps"], (1, 0.5), strict=True):
        levels = np.frombuffer(base64.b64decode(coded), np.uint8)
        np.testing.assert_array_equal(levels == 0, np.isnan(expected))
        inside = levels > 0
        assert np.abs((levels[inside] - 1.0) / 254 - size * expected[inside]).max() < 1 / 254


def test_the_view_of_own_space_holds_all_it_needs(flat, left):
    view = figures.brain_view({"left": left}, flat, 1, source="simulated & said")
    page = html.unescape(re.search('srcdoc="(.*?)"', view.data, re.DOTALL)[1])
    assert "simulated &amp; said</p></body>" in page
    assert "brainsprite" in page and not re.search(r"https?://|<link rel|<script[^>]+src", page)
    assert len(view.data) < 400_000


def test_importance_of_the_heads(recordings, left):
    mask = recordings.mask(1)
    maps = {
        "clip-head": left,
        "vae-head": nibabel.Nifti1Image(mask.astype(np.float32), left.affine),
    }
    figure = figures.importance_cortex(maps, recordings, 1)
    views = [axis for axis in figure.axes if axis.name == "3d"]
    vae = figures.head_regions.BETWEEN(1.0)
    assert faces_of(views[3], vae) > 8 * faces_of(views[0], vae)  # it alone reads the right half
    assert given(figures.importance_view(maps, recordings, 1))[1]["limits"] == ["0", "1"]
