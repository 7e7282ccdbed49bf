"""From NSD's volumes to the surface: by hand, and in simulated subjects, where it is known where a region lies."""

import shutil

import nibabel
import numpy as np
import pytest
from nilearn import datasets, surface

from neurovl.errors import DataError, MissingError
from neurovl.recordings.nsd.atlases import ATLASES
from neurovl.recordings.nsd.surfaces import FSAVERAGE, Surface, read_surface, surface_files
from neurovl.recordings.opening import open_recordings
from neurovl.smallworld.subjects import cortical_sheet
from neurovl.smallworld.subjects.anatomy import make_anatomy
from neurovl.smallworld.subjects.surface_betas import (
    require_space,
    surface_bytes,
    write_surface_betas,
)

GRID, N = (6, 5, 4), 40
BETAS = "betas_fithrf_GLMdenoise_RR"
FETCH = "neurovl download nsd --to DIR"
MNI305_TO_152 = np.array(  # FreeSurfer wiki, CoordinateSystems, 8a
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0, 0, 0, 1],
    ]
)


def save(path, values):
    """As FreeSurfer and NSD store them: (vertices, 1, 1) or (vertices, 1, 1, values of each)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    shape = (len(values), 1, 1, *values.shape[1:])
    nibabel.save(nibabel.MGHImage(values.reshape(shape), np.eye(4)), path)


@pytest.fixture
def places():
    """Voxels of the vertices, counted from 0, at three depths; all inside."""
    return np.random.default_rng(0).uniform(0, np.array(GRID) - 1, (3, N, 3)).astype(np.float32)


@pytest.fixture
def root(tmp_path, places):
    """Transforms of subject 1, as they lie in NSD."""
    nearest = np.arange(FSAVERAGE) % N + 1
    for path in surface_files(1):
        if "fsaverage" in path.name:
            save(tmp_path / path, nearest.astype(np.int32))
        else:
            save(tmp_path / path, places["B1 B2 B3".split().index(path.name[-6:-4])] + 1)
    return tmp_path


def test_a_linear_map_comes_out_as_it_is(root, places):
    """Linear interpolation is exact for a linear map; the three depths are averaged, and then the nearest vertex is taken."""
    x, y, z = np.meshgrid(*map(np.arange, GRID), indexing="ij")
    own = places @ [100, 10, 1]
    surface = read_surface(root, "subj01", GRID, FETCH)
    found = surface.sample_own(100 * x + 10 * y + z)
    np.testing.assert_allclose(found["lh"], own.mean(0), rtol=1e-5)
    whole = surface.sample(100 * x + 10 * y + z)
    assert set(whole) == {"lh", "rh"} and whole["rh"].shape == (FSAVERAGE,)
    np.testing.assert_allclose(whole["rh"][[3, N + 3]], own.mean(0)[[3, 3]], rtol=1e-5)


def test_outside_is_not_a_number(root, places):
    path = root / "nsddata/ppdata/subj01/transforms/lh.func1pt8-to-layerB2.mgz"
    moved = places[1] + 1
    moved[0], moved[1, 2], moved[2, 0] = 9999, GRID[2] + 0.01, 0.99
    moved[3] = 1, 1, 1
    save(path, moved)
    found = read_surface(root, "subj01", GRID, FETCH).sample_own(np.ones(GRID))["lh"]
    assert np.isnan(found[:3]).all() and (found[3:] == 1).all()


def test_no_transforms_and_some(root):
    for path in surface_files(1)[1:]:
        (root / path).unlink()
    with pytest.raises(MissingError, match="func1pt8-to-layerB2.mgz is missing, expected all 8"):
        read_surface(root, "subj01", GRID, FETCH)
    (root / surface_files(1)[0]).unlink()
    assert read_surface(root, "subj01", GRID, FETCH) is None


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("lh.func1pt8-to-layerB1", np.ones((N, 2), np.float32), r"shape \(40, 2\)"),
        ("lh.func1pt8-to-layerB1", np.ones((N + 1, 3), np.float32), "hold 40, 41 vertices"),
        ("rh.func1pt8-to-layerB3", np.full((N, 3), 7, np.float32), "puts 0% of its vertices"),
        ("rh.white-to-fsaverage", np.zeros(FSAVERAGE, np.int32), "indices from 0 to 0"),
        ("rh.white-to-fsaverage", np.full(FSAVERAGE, N + 1, np.int32), "from 41 to 41"),
        ("rh.white-to-fsaverage", np.ones(10, np.int32), "holds 10 indices"),
    ],
)
def test_wrong_files_are_refused(root, file, values, words):
    save(root / f"nsddata/ppdata/subj01/transforms/{file}.mgz", values)
    with pytest.raises(DataError, match=words):
        read_surface(root, "subj01", GRID, FETCH)


def test_cut_short_and_another_grid(root):
    surface = read_surface(root, "subj01", GRID, FETCH)
    with pytest.raises(DataError, match=r"shape \(5, 5, 4\), expected \(6, 5, 4\)"):
        surface.sample(np.ones((5, 5, 4)))
    path = root / surface_files(1)[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        read_surface(root, "subj01", GRID, FETCH)


# simulated subjects: the label of a vertex is known from where it lies in the template, whatever the subject's warp
REGIONS = {
    "FFA-1": "floc-faces",
    "EBA": "floc-bodies",
    "PPA": "floc-places",
    "hV4": "prf-visualrois",
    "early": "streams",
}


class Head:
    """A simulated subject on a grid of 3.6 mm: its regions in the volume, and what its files say of the surface."""

    def __init__(self, root, subject):
        self.root, self.name = root, f"subj{subject:02d}"
        self.anatomy = make_anatomy(subject, 2.0, 0)
        made = cortical_sheet.make_surface(self.anatomy, subject, 0)
        cortical_sheet.write_surface(root, subject, self.anatomy, made, 0)
        self.surface = read_surface(root, self.name, self.anatomy.brain.shape, FETCH)

    def volume(self, region):
        labels = ATLASES[REGIONS[region]]
        return self.anatomy.atlases[REGIONS[region]] == labels.index(region) + 1

    def label(self, region):
        folder = self.root / "nsddata/freesurfer" / self.name / "label"
        number = ATLASES[REGIONS[region]].index(region) + 1
        files = [folder / f"{hemi}.{REGIONS[region]}.mgz" for hemi in ("lh", "rh")]
        return (
            np.concatenate([np.asarray(nibabel.load(f).dataobj).ravel() for f in files]) == number
        )

    def dice(self, region, surface=None):
        """Of the region sampled from the volume with its label on the subject's own surface."""
        own = (surface or self.surface).sample_own(self.volume(region))
        found, label = np.concatenate([own["lh"], own["rh"]]) > 0.4, self.label(region)
        return 2 * (found & label).sum() / (found.sum() + label.sum())


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    return [Head(tmp_path_factory.mktemp("heads"), subject) for subject in (1, 2)]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_lands_in_its_own_label(heads, region):
    head = heads[0]
    own = head.surface.sample_own(head.volume(region))
    weight = np.nan_to_num(np.concatenate([own["lh"], own["rh"]]))
    shares = {other: weight[head.label(other)].sum() / weight.sum() for other in REGIONS}
    assert head.dice(region) > 0.8
    assert shares.pop(region) > 0.7 and max(shares.values()) < 0.1


def swapped(head, _):
    places = {"lh": head.surface.places["rh"], "rh": head.surface.places["lh"]}
    return Surface(places, head.surface.nearest, head.surface.grid)


def shifted(head, _):
    """Counted from 1 where they are counted from 0."""
    return Surface(
        {hemi: one + 1 for hemi, one in head.surface.places.items()},
        head.surface.nearest,
        head.surface.grid,
    )


def of_another(head, other):
    return Surface(other.surface.places, other.surface.nearest, head.surface.grid)


def naive(head, _):
    """Millimetres of the surface read as millimetres of the volume."""
    back = np.linalg.inv(head.anatomy.affine)
    places = {}
    for hemi in ("lh", "rh"):
        order = np.argsort(head.surface.nearest[hemi][:10242])
        at = np.stack(cortical_sheet.sheet(hemi))[:, order]
        places[hemi] = at @ back[:3, :3].T + back[:3, 3]
    return Surface(places, head.surface.nearest, head.surface.grid)


@pytest.mark.parametrize(
    ("wrong", "most"), [(swapped, 0.05), (shifted, 0.65), (of_another, 0.05), (naive, 0.05)]
)
def test_wrong_transforms_show(heads, wrong, most):
    """Regions then land elsewhere: shifted by a voxel of 3.6 mm on each axis they still touch their labels."""
    broken = wrong(*heads)
    small = [region for region in REGIONS if region != "early"]
    right = np.mean([heads[0].dice(region) for region in small])
    assert right > 0.85
    assert np.mean([heads[0].dice(region, broken) for region in small]) < most


@pytest.mark.parametrize("subject", [0, 1])
def test_vertices_lie_where_fsaverage_has_them(heads, subject):
    """A volume of MNI coordinates, sampled, gives the vertices' own, which nilearn's meshes have."""
    head = heads[subject]
    meshes = datasets.fetch_surf_fsaverage("fsaverage5")
    for axis in range(3):
        found = head.surface.sample(head.anatomy.mni[..., axis])
        for hemi, side in (("lh", "left"), ("rh", "right")):
            pial, white = (
                surface.load_surf_mesh(meshes[f"{kind}_{side}"]).coordinates
                for kind in ("pial", "white")
            )
            at = nibabel.affines.apply_affine(MNI305_TO_152, (pial + white) / 2)[:, axis]
            inside = np.isfinite(found[hemi][:10242])
            assert inside.mean() > 0.97
            assert np.abs(found[hemi][:10242] - at)[inside].max() < 0.3
            assert len(found[hemi]) == FSAVERAGE


def test_files_are_as_nsd_has_them(tiny_nsd):
    folder = tiny_nsd / "nsddata/ppdata/subj01/transforms"
    for hemi in ("lh", "rh"):
        layer = nibabel.load(folder / f"{hemi}.func1pt8-to-layerB1.mgz")
        assert layer.shape == (10242, 1, 1, 3) and layer.get_data_dtype() == ">f4"
        there, back = (
            np.asarray(nibabel.load(folder / f"{hemi}.{name}.mgz").dataobj)
            for name in ("white-to-fsaverage", "fsaverage-to-white")
        )
        assert there.shape == (163842, 1, 1) and back.shape == (10242, 1, 1)
        assert there.min() == 1 and there.max() == 10242
        np.testing.assert_array_equal(there[back.ravel() - 1].ravel(), np.arange(1, 10243))
        assert not np.array_equal(there.ravel()[:10242], np.arange(1, 10243))
    labels = tiny_nsd / "nsddata/freesurfer"
    table = (labels / "fsaverage/label/HCP_MMP1.mgz.ctab").read_text().splitlines()
    assert len(table) == 181 and {"0 Unknown", "1 V1", "18 FFC", "163 VVC"} < set(table)
    for hemi in ("lh", "rh"):
        of_all = {
            name: np.asarray(nibabel.load(labels / f"fsaverage/label/{hemi}.{name}.mgz").dataobj)
            for name in ("nsdgeneral", "streams", "Kastner2015", "HCP_MMP1")
        }
        assert {one.shape for one in of_all.values()} == {(163842, 1, 1)}
        v1 = np.isin(of_all["Kastner2015"], (1, 2))
        assert v1.any() and np.array_equal(v1, of_all["HCP_MMP1"] == 1)
        assert set(of_all["streams"][v1]) == {1} and of_all["nsdgeneral"][v1].all()
    volume = tiny_nsd / "nsddata/ppdata/subj01/func1pt8mm/roi"
    assert np.array_equal(
        nibabel.load(volume / "HCP_MMP1.nii.gz").get_fdata() == 1,
        np.isin(nibabel.load(volume / "prf-visualrois.nii.gz").get_fdata(), (1, 2)),
    )


def test_maps_of_receptive_fields(tiny_nsd):
    """The left hemisphere sees the right half, and eccentricity grows forwards along the calcarine sulcus."""
    folder = tiny_nsd / "nsddata/freesurfer/subj01/label"
    volumes = tiny_nsd / "nsddata/ppdata/subj01/func1pt8mm"
    inside = nibabel.load(volumes / "roi/nsdgeneral.nii.gz").get_fdata() > 0
    for name in ("angle", "eccentricity", "size", "exponent", "R2", "meanvol"):
        values = nibabel.load(volumes / f"prf_{name}.nii.gz").get_fdata()
        np.testing.assert_array_equal(np.isfinite(values), inside)
    for hemi, side in (("lh", 1), ("rh", -1)):
        maps = {
            name: np.asarray(nibabel.load(folder / f"{hemi}.{name}.mgz").dataobj).ravel()
            for name in ("prfangle", "prfeccentricity", "prf-visualrois")
        }
        early = np.isfinite(maps["prfangle"]) & np.isin(maps["prf-visualrois"], range(1, 7))
        angle = maps["prfangle"][early]
        assert early.sum() > 100 and angle.min() >= 0 and angle.max() < 360
        # voxels of 10.8 mm lie across the midline
        assert (np.cos(np.radians(angle)) * side > 0).mean() > 0.75
        order = np.argsort(
            read_surface(tiny_nsd, "subj01", inside.shape, FETCH).nearest[hemi][:10242]
        )
        forwards = cortical_sheet.sheet(hemi)[1][order][early, 1]
        assert np.corrcoef(forwards, maps["prfeccentricity"][early])[0, 1] > 0.5


def test_recordings_know_the_surface_where_there_is_one(tiny_nsd, tmp_path):
    data = open_recordings(tiny_nsd)
    found = data.surface(1).sample(data.rois(1)["early"])
    assert 0 < np.nan_to_num(found["lh"]).mean() < 0.2
    shutil.copytree(tiny_nsd, tmp_path / "nsd", ignore=shutil.ignore_patterns("transforms"))
    assert open_recordings(tmp_path / "nsd").surface(2) is None


def test_betas_on_fsaverage_are_those_of_the_volume(tiny_nsd, tmp_path):
    """On request only, and said how much they are before; a few trials of them here."""
    root = tmp_path / "nsd"
    shutil.copytree(tiny_nsd, root, ignore=shutil.ignore_patterns("*.hdf5", "truth"))
    folder = root / "nsddata_betas/ppdata/subj02/func1pt8mm" / BETAS
    betas = nibabel.load(folder / "betas_session01.nii.gz")
    few = np.asarray(betas.dataobj)[..., :3]
    nibabel.save(nibabel.Nifti1Image(few, betas.affine), folder / "betas_session01.nii.gz")
    with pytest.raises(MissingError, match="need 983.1 MB in .*its disk has 1.0 kB free"):
        require_space(root, [2], 1, BETAS, free=1000)
    require_space(root, [2], 1, BETAS, free=10**9)
    write_surface_betas(root, [2], 1, BETAS)
    surface = open_recordings(tiny_nsd).surface(2)
    on = folder.parents[1] / "fsaverage" / BETAS
    for hemi in ("lh", "rh"):
        found = nibabel.load(on / f"{hemi}.betas_session01.mgh")
        assert found.shape == (FSAVERAGE, 1, 1, 3) and found.get_data_dtype() == ">f4"
        for trial in range(3):
            expected = surface.sample(few[..., trial] / 300)[hemi]
            np.testing.assert_allclose(found.get_fdata()[:, 0, 0, trial], expected, rtol=1e-4)
        assert nibabel.load(on / f"{hemi}.ncsnr.mgh").shape[0] == FSAVERAGE
    require_space(root, [2], 1, BETAS, free=0)  # all is there
    assert surface_bytes(1, 1) == 2 * 163842 * 750 * 4
