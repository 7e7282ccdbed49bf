"""What a run folder holds, as tables: scores, answers, pictures, curves and provenance, each read when it is asked for.

Left out: the recordings and the networks of a run, which `Run` gives.
"""

import json
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from neurovl.errors import DataError
from neurovl.results import read_claims, read_named, read_results, read_texts
from neurovl.run.record import read_record

COMPARE = "neurovl compare --run RUN --systems all"  # the command that makes the next tables
_BOARD = (
    "data system condition task protocol subject metric value ci_low ci_high n chance ceiling paper note difference "
    "difference_low difference_high verdict rank rank_low rank_high normalised"
)
_SYSTEMS = (
    "system title reference lacking as_published n_models n_parameters train_seconds predict_seconds trials_per_subject "
    "settings peak_memory_gb"
)
_SAMPLES = "system condition protocol subject image_id file"
_CONTROLS = "system control task protocol subject metric value ci_low ci_high n chance note"
_SEARCH = "system trial settings score seconds chosen"
_WORDS = {
    *("data", "system", "condition", "control", "task", "protocol", "subject", "metric", "note"),
    *("verdict", "title", "reference", "as_published", "settings", "lacking", "image_id", "file"),
}

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from PIL.Image import Image


class RunTables:
    """The tables of a run folder.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    about : dict
        Content of run.json.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = read_record(folder)

    @property
    def source(self) -> str:
        """One line for the foot of a figure: data, profile and seed."""
        about = self.about
        return f"data: {about['data']} · profile: {about['profile']} · seed {about['seed']}"

    @cached_property
    def results(self) -> pd.DataFrame:
        """results.csv."""
        return read_results(self.folder / "results" / "results.csv")

    @cached_property
    def claims(self) -> pd.DataFrame:
        """claims.csv."""
        return read_claims(self.folder / "results" / "claims.csv")

    @cached_property
    def images(self) -> pd.DataFrame:
        """per_image.csv: the score of each picture."""
        file = self.folder / "results" / "per_image.csv"
        return read_named(file, ("image_id", "subject", "condition"))

    @cached_property
    def answers(self) -> pd.DataFrame:
        """answers.csv: what the language model said, and the truth."""
        return self._text("captions/answers.csv")

    @cached_property
    def confidence(self) -> pd.DataFrame:
        """confidence.csv: how sure each answer is that can be judged, and whether it is right; no rows where none was."""
        file = self.folder / "results" / "confidence.csv"
        return read_named(file) if file.is_file() else pd.DataFrame()

    @cached_property
    def samples(self) -> pd.DataFrame:
        """samples.csv: the reconstructed pictures."""
        return self._text("reconstructions/samples.csv")

    @cached_property
    def rois(self) -> pd.DataFrame:
        """rois.csv: heat of each concept in each ROI."""
        return pd.read_csv(self.folder / "localization" / "rois.csv")

    @cached_property
    def located(self) -> pd.DataFrame:
        """scores.csv: each concept's area under the ROC curve, what zeroing takes away, and the voxels shared with others."""
        return pd.read_csv(self.folder / "localization" / "scores.csv")

    @cached_property
    def region_words(self) -> pd.DataFrame:
        """regions.csv: how much each region answers to each concept; no rows where none was asked."""
        file = self.folder / "localization" / "regions.csv"
        return read_named(file) if file.is_file() else pd.DataFrame(columns=["subject", "method"])

    @cached_property
    def adaptation(self) -> pd.DataFrame:
        """Scores over the share of new subjects' training pictures, ours and then other systems'; no rows where none was adapted to."""
        places = ("adaptation", "leaderboard/new-subject")
        files = [f for one in places for f in sorted(self.folder.glob(f"{one}/*/curve.csv"))]
        parts = [pd.read_csv(f) for f in files]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def further(self, name: str) -> pd.DataFrame:
        """Scores of a further test set, such as 'imagery'; columns as in results.csv."""
        return read_results(self.folder / name / "results.csv")

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """leaderboard.csv: all systems under one protocol; like the next four without rows where none were compared."""
        return self._compared("board/leaderboard.csv", _BOARD)

    @cached_property
    def compared_systems(self) -> pd.DataFrame:
        """systems.csv: what each system is and costs."""
        return self._compared("board/systems.csv", _SYSTEMS)

    @cached_property
    def compared_samples(self) -> pd.DataFrame:
        """samples.csv: the first pictures of each system."""
        return self._compared("board/samples.csv", _SAMPLES)

    @cached_property
    def controls(self) -> pd.DataFrame:
        """controls.csv: scores of the systems where something was taken from them."""
        return self._compared("controls/controls.csv", _CONTROLS)

    @cached_property
    def search(self) -> pd.DataFrame:
        """search.csv: what was tried for each system on the pictures held out for that, and what was chosen."""
        return self._compared("search/search.csv", _SEARCH)

    @cached_property
    def importance(self) -> pd.DataFrame:
        """regions.csv: what share each head reads of each region; no rows where the stage was not run."""
        file = self.folder / "importance" / "regions.csv"
        return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["subject", "metric"])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Training curves of all encoders and folds, with a column `system`."""
        parts = []
        for path in sorted(self.folder.glob("**/encoders/*/curve.csv")):
            fold = path.relative_to(self.folder).parts[0]
            system = path.parent.name if fold == "encoders" else f"{path.parent.name} {fold}"
            parts.append(pd.read_csv(path).assign(system=system))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """One row an encoder: trained parameters, tokens, steps, seconds, peak memory."""
        rows = []
        for path in sorted(self.folder.glob("**/encoders/*/curve.csv")):
            about = json.loads((path.parent / "provenance.json").read_text())
            shape = json.loads((path.parent / "config.json").read_text())
            rows.append(
                {
                    "encoder": path.parent.relative_to(self.folder).as_posix(),
                    "parameters": _trained(path.parent / "model.safetensors"),
                    "tokens": shape["n_tokens"],
                    "steps": int(pd.read_csv(path).step.iloc[-1]),
                    "seconds": about["seconds"],
                    "peak memory (MB)": about["peak_memory_mb"],
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def language_curve(self) -> pd.DataFrame:
        """Loss of the language model: stage, step, loss."""
        return pd.read_csv(self.folder / "llm" / "curve.csv")

    @cached_property
    def provenance(self) -> pd.DataFrame:
        """One row a stage: seconds, peak memory, version, commit, device and when it ended."""
        rows = []
        for path in sorted(self.folder.glob("**/provenance.json")):
            about = json.loads(path.read_text())
            rows.append({"stage": path.parent.relative_to(self.folder).as_posix(), **about})
        columns = ["stage", "seconds", "peak_memory_mb", "version", "commit", "device", "finished"]
        return pd.DataFrame(rows).reindex(columns=columns).sort_values("finished")

    @cached_property
    def versions(self) -> pd.Series:
        """Versions of the packages that scored the run."""
        about = json.loads((self.folder / "results" / "provenance.json").read_text())
        return pd.Series({"python": about["python"], **about["packages"]}).dropna()

    def picture(self, file: str) -> "Image":
        """A reconstructed picture by its name in samples.csv."""
        return _opened(self.folder / "reconstructions" / file)

    def compared_picture(self, file: str) -> "Image":
        """A picture of the comparison by its name in `compared_samples`."""
        return _opened(self.folder / "leaderboard" / "board" / file)

    def heat(self, subject: str, concept: str, method: str = "gradcam") -> "Nifti1Image":
        """A concept's heatmap as a nibabel image; in simulations `method` may be 'truth' or 'ceiling' too."""
        import nibabel

        folder = "" if method == "gradcam" else method
        file = f"{subject}_{concept.replace(' ', '-')}.nii.gz"
        return nibabel.load(self.folder / "localization" / folder / file)

    def token_maps(self, subject: str) -> dict:
        """The importance of a subject's tokens for each head as nibabel images."""
        import nibabel

        start, end = f"{subject}_", "_tokens.nii.gz"
        files = sorted((self.folder / "importance").glob(f"{start}*{end}"))
        return {f.name.removeprefix(start).removesuffix(end): nibabel.load(f) for f in files}

    def _text(self, file: str) -> pd.DataFrame:
        return read_texts(self.folder / file)

    def _compared(self, file: str, columns: str) -> pd.DataFrame:
        path, expected = self.folder / "leaderboard" / file, columns.split()
        if not path.is_file():
            return pd.DataFrame(columns=expected)
        table = read_named(path, tuple(_WORDS & set(expected)))
        if lacking := [column for column in expected if column not in table]:
            raise DataError(
                f"leaderboard/{file} has no column {', '.join(lacking)}, expected {', '.join(expected)}: it is of another "
                f"version, make it again with {COMPARE}"
            )
        return table


def _opened(path: Path) -> "Image":
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def _trained(weights: Path) -> int:
    """Parameters of an encoder that training moves: all but its readout."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        names = file.keys()
        shapes = [file.get_slice(n).get_shape() for n in names if not n.startswith("readout")]
    return sum(math.prod(shape) for shape in shapes)
