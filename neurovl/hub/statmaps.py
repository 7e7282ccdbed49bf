"""Maps of a run as other programs read them: NIfTI files with the names of BIDS derivatives, and a JSON file beside each.

The names are those of statistical maps that nilearn's ``save_glm_to_bids`` and FitLins write, ``sub-01_space-func1pt8_contrast-dog_
stat-gradcam_statmap.nii.gz``, since the specification (BIDS 1.10, derivatives) has none of its own yet; the fields of the JSON are its
common ones, and what else a reader must know. A map stays in its subject's own functional space, which no template describes, so that
`SpatialReference` is ``orig``. Left out: making maps (`neurovl.localization`), and the names that the stages use among themselves.
"""

import json
import os
import re
import shutil
from pathlib import Path

from neurovl import __version__
from neurovl.errors import DataError, MissingError
from neurovl.files import replacing
from neurovl.localization.concept_maps import VOXEL_MAPS
from neurovl.recordings import Recordings
from neurovl.results import read_named
from neurovl.run import Run

BIDS = "1.10.0"
HEAT = "0 to 1 within the subject's mask: least and greatest heat; 0 elsewhere"
CHANCE = "p, of exchanged brains, over all voxels of the mask; 1 outside"
TIMES = "times an even spread over the subject's mask; 0 elsewhere"
METHODS = {
    "gradcam": "GradCAM of the cosine between the predicted CLIP embedding and the concept's, on the encoder's penultimate "
    "layer, mean over pictures and patch sizes (Selvaraju et al. 2017; Shen et al. 2024)",
    "integrated-gradients": "integrated gradients of the cosine between the predicted CLIP embedding and the concept's, mean over "
    "pictures, where positive (Sundararajan et al. 2017)",
    "rollout": "attention rollout to the class token, mean over pictures with the concept (Abnar and Zuidema 2020)",
    "occlusion": "presence of the concept in the predicted CLIP embedding that is lost without a patch, where positive",
    "occlusion-roi": "presence of the concept in the predicted CLIP embedding that is lost without a region, where positive",
    "pattern": "correlation over trials with the decoded presence of the concept, where positive (Haufe et al. 2014)",
    "contrast": "t of pictures with against without the concept, where positive (univariate GLM)",
    "word-responses": "response to the word's CLIP embedding by a voxelwise encoding model, where positive (Luo et al. 2024)",
    "searchlight": "cross-validated decoding of the concept from the ball around a voxel, where positive (Kriegeskorte et al. 2006)",
    "tuning": "weight of the concept in an encoding model of all concepts and the pictures' looks, where positive",
    "importance": "integrated gradients of what a head gains over the mean (Sundararajan et al. 2017)",
}


def statmap_name(
    subject: str, contrast: str, stat: str, space: str = "", description: str = ""
) -> str:
    """Name of a map's file.

    Parameters
    ----------
    subject, contrast, stat : str
        Letters and digits are kept, words joined: ``subj01`` becomes 01, ``traffic light`` trafficLight.
    space, description : str, optional
        Entities that are left out where they are empty.

    Raises
    ------
    DataError
        Nothing is left of a name.

    Examples
    --------
    >>> from neurovl.hub.statmaps import statmap_name
    >>> statmap_name("subj01", "traffic light", "gradcam", space="func1pt8")
    'sub-01_space-func1pt8_contrast-trafficLight_stat-gradcam_statmap.nii.gz'
    """
    parts = {
        "sub": _label(re.sub(r"^(sub-|subj(?=\d))", "", subject), subject),
        "space": space,
        "contrast": _label(contrast, contrast),
        "stat": _label(stat, stat),
        "desc": description,
    }
    return "_".join(f"{k}-{v}" for k, v in parts.items() if v) + "_statmap.nii.gz"


def _label(text: str, name: str) -> str:
    """Words joined as in camelCase, letters and digits of ASCII alone."""
    words = re.findall(r"[0-9A-Za-z]+", text)
    if not words:
        raise DataError(
            f"{name!r} has no letters from a to z and no digits, expected some to name a BIDS file by: give the file's name, "
            "with --out where the command has it"
        )
    return words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])


def about_map(
    recordings: Recordings, subject: str, contrast: str, stat: str, sources: list[str], units: str
) -> dict:
    """What the JSON file beside a map says.

    Parameters
    ----------
    contrast : str
        The concept, or the head of the encoder.
    stat : str
        One of `METHODS`.
    sources : list of str
        Stages of the run that the map was made from.
    units : str
    """
    space = recordings.space or "the images of the data set"
    return {
        "Description": f"{contrast} in {subject}: {stat}",
        "Sources": [f"bids:run:{one}" for one in sources],
        "SpatialReference": "orig",
        "SpaceDescription": f"the subject's own functional space ({space}); not registered to any template or surface",
        "Units": units,
        "Method": METHODS[stat],
        "Subject": subject,
        "DataSet": recordings.name,
        "DataLicense": recordings.licence,
        "SimulatedData": recordings.simulated,
        "GeneratedBy": [{"Name": "neurovl", "Version": __version__}],
    }


def sources_of(run: Run, stat: str) -> list[str]:
    """Stages of the run that a map was made from."""
    if stat in VOXEL_MAPS:
        return ["tokens", "targets"]
    heads = run.patch_variants() if stat == "gradcam" else ["main"]
    return ["tokens", *(f"encoders/{one}" for one in heads)]


def sidecar(path: Path) -> Path:
    """Where the JSON file of a NIfTI file lies."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def write_sidecar(path: Path, about: dict) -> None:
    """Write the JSON file of a NIfTI file at its final name."""
    with replacing(sidecar(path)) as part:
        _write(part, about)


def export_maps(run: Run, out: str | Path) -> list[Path]:
    """Write the concept maps and the importance maps of a run as a BIDS derivative data set.

    Parameters
    ----------
    run : Run
    out : path
        A new or empty folder; it is whole or not there. Receives dataset_description.json and ``sub-*/func``.

    Returns
    -------
    list of Path
        The NIfTI files, relative to `out`.

    Raises
    ------
    DataError
        `out` holds files, or two maps would have the same name.
    MissingError
        The run has no maps.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> from neurovl.hub.statmaps import export_maps
    >>> evaluation.localize(run)
    >>> maps = export_maps(run, folder / "maps")
    >>> maps[0].parts[:2], all((folder / "maps" / one).is_file() for one in maps)
    (('sub-01', 'func'), True)
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(
            f"{out.name} is there and not empty, expected a new folder: choose another name with --out"
        )
    found = _maps(run)
    if not found:
        raise MissingError(
            f"{run.folder.name} has no maps in localization/ or importance/, expected some: neurovl evaluate --run RUN"
        )
    part = out.with_name(f".part-{os.getpid()}-{out.name}")
    try:
        for target, (source, about) in found.items():
            (part / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part / target)
            _write(sidecar(part / target), about)
        _write(
            part / "dataset_description.json",
            {
                "Name": f"Maps of concepts and importance by neurovl ({run.recordings.name})",
                "BIDSVersion": BIDS,
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "neurovl", "Version": __version__}],
                "DatasetLinks": {"run": os.path.relpath(run.folder, out)},
                "SimulatedData": run.recordings.simulated,
            },
        )
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return list(found)


def _maps(run: Run) -> dict[Path, tuple[Path, dict]]:
    """By their new names: the files of the run's maps, and what is to be said of each."""
    data, found = run.recordings, {}

    def add(source: Path, subject: str, contrast: str, stat: str, description: str = "") -> None:
        name = statmap_name(subject, contrast, stat, data.space, description)
        target = Path(name.split("_")[0], "func", name)
        if target in found:
            raise DataError(
                f"{source.name} and {found[target][0].name} would both be named {name}: rename the subject or the concept "
                "of one in the data"
            )
        if not source.is_file():
            raise MissingError(
                f"{source.name} is missing in {source.parent.name}/, expected the map of {contrast!r} that its table names: "
                f"remove {source.parent.name}/ and run neurovl evaluate --run RUN"
            )
        units = TIMES if stat == "importance" else CHANCE if description == "p" else HEAT
        sources = sources_of(run, stat)
        about = about_map(data, subject, contrast, stat, sources, units)
        found[target] = (source, about)

    for stat in METHODS:
        table = run.folder / "localization" / ("" if stat == "gradcam" else stat) / "scores.csv"
        for row in read_named(table).itertuples() if table.is_file() else ():
            file = f"{row.subject}_{row.concept.replace(' ', '-')}"
            add(table.with_name(f"{file}.nii.gz"), row.subject, row.concept, stat)
            if table.with_name(f"{file}_p.nii.gz").is_file():
                add(table.with_name(f"{file}_p.nii.gz"), row.subject, row.concept, stat, "p")
    for subject in data.subjects:
        for head in ("clip-head", "vae-head"):
            for ending, description in (("", ""), ("_tokens", "tokens")):
                source = run.folder / "importance" / f"{subject}_{head}{ending}.nii.gz"
                if source.is_file():
                    add(source, subject, head, "importance", description)
    return found


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
