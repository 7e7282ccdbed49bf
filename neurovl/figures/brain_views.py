"""Views of maps that a reader turns or cuts in a published page: no kernel, no server, no script from elsewhere.

On the cortex where the data set knows the way to the surface, drawn by the page ``cortex_view.html`` with the browser's WebGL: the
two hemispheres of fsaverage5 and all maps in half a megabyte, where nilearn's own views of surfaces take plotly or niivue along,
1.4 and 2.3 MB each time. Elsewhere nilearn's slices, in the subject's own space. Left out: figures that stand still (``cortex.py``).
"""

import base64
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Colormap, to_rgb

from neurovl.figures.cortex import GROUPS, NONE, SIDES, on_cortex, outlined
from neurovl.figures.page_tables import Html
from neurovl.recordings import Recordings

if TYPE_CHECKING:
    from nibabel import Nifti1Image

GAP = 4.0  # mm between the inflated hemispheres
FINE = 90  # voxels of the longest axis, at least: nilearn's cross is one voxel wide
ICON = re.compile(r'<link rel="icon".*?>', re.DOTALL)  # the one address in nilearn's page


def brain_view(
    maps: "dict[str, Nifti1Image]",
    recordings: Recordings,
    subject: str | int,
    limits: tuple[float, float] = (0, 1),
    label: str = "heat, 0 to 1",
    colours: str | Colormap = "inferno",
    source: str = "",
) -> Html:
    """Maps on a cortex that can be turned; without a surface, the first of them on slices through any place that is clicked.

    Parameters
    ----------
    maps : dict of str to nibabel image
        In the subject's own functional space.
    recordings : Recordings
    subject : str or int
    limits : tuple of float
        Values of the two ends of the colour scale.
    label : str
        What the colours say.
    colours : str or matplotlib colormap
    source : str
        What the data are.

    Returns
    -------
    Html

    Examples
    --------
    >>> heat = run.locate("person", subject=1)
    >>> view = neurovl.figures.brain_view({"person": heat.to_nifti()}, data, subject=1)
    >>> "<iframe" in view.data, len(view.data) < 1_000_000
    (True, True)
    """
    if recordings.surface(subject) is None:
        name, image = next(iter(maps.items()))
        return _sliced(name, image, recordings.mask(subject), limits, colours, source)
    places, faces, sulci = _both()
    numbers, names = outlined(recordings, subject)
    group = np.concatenate([numbers[hemi] for hemi in SIDES])
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    crossed = edges[group[edges[:, 0]] != group[edges[:, 1]]]
    borders = np.zeros(len(group), np.uint8)
    borders[crossed] = group[crossed]
    volumes = {name: np.asarray(image.dataobj) for name, image in maps.items()}
    values = [
        np.concatenate([both[hemi] for hemi in SIDES])
        for both in on_cortex(volumes, recordings, subject).values()
    ]
    shades = plt.get_cmap(colours)(np.linspace(0, 1, 255), bytes=True)[:, :3]
    given = {
        "names": list(maps),
        "label": label,
        "source": source,
        "limits": [f"{one:.2g}" for one in limits],
        "width": float(np.ptp(places, 0).max()),
        "outlines": [
            {"name": n, "rgb": [round(255 * c) for c in to_rgb(GROUPS[n][1])]} for n in names
        ],
        "places": _coded((places * 100).round().astype("<i2")),
        "faces": _coded(faces.astype("<u2")),
        "sulci": _coded(_levels(sulci, tuple(np.quantile(sulci, [0.05, 0.95])))),
        "groups": _coded(borders),
        "shades": _coded(np.ascontiguousarray(shades)),
        "maps": [_coded(_levels(one, limits)) for one in values],
    }
    page = Path(__file__).with_name("cortex_view.html").read_text(encoding="utf-8")
    data = json.dumps(given).replace("<", "\\u003c")  # no name closes the script
    title = f"{', '.join(maps)} on the cortex of {recordings.subject_name(subject)}"
    return _framed(page.replace("/*GIVEN*/null", data), title, 450)


def _both() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places (20484, 3), faces (40960, 3) and depth of sulci of both inflated hemispheres, side by side."""
    from nilearn import datasets, surface

    found = datasets.fetch_surf_fsaverage("fsaverage5")
    places, faces, sulci = [], [], []
    for side, sign in (("left", -1), ("right", 1)):
        mesh = surface.load_surf_mesh(found[f"infl_{side}"])
        at = np.asarray(mesh.coordinates, float)
        at = at - (at.min(0) + at.max(0)) / 2
        at[:, 0] += sign * (np.ptp(at[:, 0]) + GAP) / 2
        faces.append(np.asarray(mesh.faces) + sum(map(len, places)))
        places.append(at)
        sulci.append(surface.load_surf_data(found[f"sulc_{side}"]))
    return np.concatenate(places), np.concatenate(faces), np.concatenate(sulci)


def _levels(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Values as steps of the colour scale from 1 to 255; 0 where there is none."""
    low, high = limits
    steps = 1 + np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1) * 254
    return np.where(np.isnan(values), 0, steps.round()).astype(np.uint8)


def _coded(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _framed(page: str, title: str, height: int, ground: str = "none") -> Html:
    """A page within the page, that neither takes nor gives styles."""
    inner = html.escape(page, quote=True)
    return Html(
        f'<iframe title="{html.escape(title, quote=True)}" srcdoc="{inner}" width="100%" height="{height}" '
        f'loading="lazy" style="border: 0; background: {ground}" sandbox="allow-scripts"></iframe>'
    )


def _sliced(
    name: str,
    image: "Nifti1Image",
    mask: np.ndarray,
    limits: tuple[float, float],
    colours: str | Colormap,
    source: str,
) -> Html:
    """nilearn's view of slices; the mask is the ground that they are drawn on."""
    import nibabel
    from nilearn import plotting

    within = tuple(slice(max(at.min() - 2, 0), at.max() + 3) for at in np.nonzero(mask))
    times = -(-FINE // max(one.stop - one.start for one in within))
    step = np.eye(4)
    step[:3, :3] /= times
    step[:3, 3] = [one.start - (times - 1) / (2 * times) for one in within]

    def fine(values: np.ndarray) -> nibabel.Nifti1Image:
        finer = np.kron(values[within].astype(np.float32), np.ones((times,) * 3, np.float32))
        return nibabel.Nifti1Image(finer, image.affine @ step)

    values = np.asarray(image.dataobj)
    page = plotting.view_img(
        fine(np.where(mask & (np.abs(values) <= NONE), 2 * NONE, values) * mask),
        bg_img=fine(mask),
        threshold=NONE,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        symmetric_cmap=False,
        black_bg=False,
        resampling_interpolation="nearest",
        title=name,
    ).html
    foot = f'<p style="font: 12px sans-serif; text-align: right">{html.escape(source)}</p></body>'
    page = ICON.sub("", page).replace("</body>", foot)
    return _framed(page, f"{name} in the subject's own space", 400, "#fff")
