"""The apps, and the options that several verbs share."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from neurovl.errors import ConfigError, NeurovlError
from neurovl.files import replacing

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Brain recordings to language and pictures.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train one part of a run.")
download_app = typer.Typer(no_args_is_help=True, help="Fetch open data.")
foundation_app = typer.Typer(no_args_is_help=True, help="The tiny family of foundation models.")
app.add_typer(train_app, name="train")
app.add_typer(download_app, name="download")
app.add_typer(foundation_app, name="foundation")

Data = Annotated[
    Path | None,
    typer.Option(
        help="NSD folder, Haxby folder or a folder with trials.tsv; simulated NSD if not given."
    ),
]
Out = Annotated[Path, typer.Option(help="Run folder.")]
RunDir = Annotated[Path, typer.Option("--run", help="Run folder.")]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", help="smoke, demo, haxby, paper or a YAML file; by default what fits the data."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed; by default the profile's.")]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or mps; by default the profile's.")
]
Subject = Annotated[str, typer.Option(help="Subject, e.g. 1.")]
ImageId = Annotated[str, typer.Option("--image-id", help="Image id, as in RUN/tokens/trials.csv.")]
Single = Annotated[
    bool,
    typer.Option("--single-trial", help="The first repeat alone instead of the mean of repeats."),
]
Source = Annotated[Path, typer.Option("--data", help="The data set's folder; it is only read.")]
Table = Annotated[Path, typer.Option("--out", help="New folder for the table.")]
Stimulus = Annotated[
    str | None, typer.Option(help="Column that names the picture; by default stim_file etc.")
]
Mask = Annotated[str | None, typer.Option(help="Masks, such as 'masks/{subject}_mask.nii.gz'.")]
Roi = Annotated[
    list[str] | None,
    typer.Option(help="A region: NAME='rois/{subject}_*FFA*.nii.gz'; repeatable."),
]
Stimuli = Annotated[
    Path | None, typer.Option(help="Folder of the pictures; by default DATA/stimuli.")
]
TestImages = Annotated[
    str | None, typer.Option(help="Test pictures: a text file, or names with commas.")
]
TestWhere = Annotated[
    str | None, typer.Option(help="Test pictures by a column, such as trial_type=test.")
]
TestShared = Annotated[
    bool, typer.Option("--test-shared", help="Test the pictures that every subject saw.")
]
TestRepeated = Annotated[
    int | None, typer.Option(help="Test the pictures that subjects saw so often or more.")
]
TestFraction = Annotated[
    float | None, typer.Option(help="Test this share of the pictures, drawn with --seed.")
]
Atlas = Annotated[
    str | None, typer.Option(help="Atlases below DATA, such as 'atlas/{subject}.nii.gz'.")
]
Labels = Annotated[
    str | None, typer.Option(help="Of the atlas: V1:1,V2:2, or a .tsv with index and name.")
]
SplitSeed = Annotated[int, typer.Option("--seed", help="Seed of --test-fraction.")]
Zscore = Annotated[
    str, typer.Option(help="Scale voxels within each session, or over a subject's sessions.")
]


def say(text: str) -> None:
    """Print a line for the user."""
    typer.echo(text)


def numbers(text: str) -> tuple[int, ...]:
    """'1,2,5' as numbers."""
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdigit() for p in parts):
        raise NeurovlError(
            f"subjects are {text!r}, expected numbers separated by commas: give some, such as 1,2,5,7"
        )
    return tuple(int(p) for p in parts)


def words(text: str) -> tuple[str, ...]:
    """'imagery, synthetic' as words."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def one_of(option: str, value: str | None, known: tuple[str | None, ...]) -> str | None:
    """A value of an option that has only some."""
    if value not in known:
        words = " or ".join(one for one in known if one)
        raise ConfigError(f"{option} is {value!r}, expected {words}: choose one")
    return value


def pairs(texts: list[str], option: str, example: str) -> dict[str, str]:
    """{'task': 'things'} from 'task=things'."""
    found = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value) or key in found:
            raise ConfigError(
                f"{option} is {text!r}, expected NAME=VALUE once: write it as {example}"
            )
        found[key] = value
    return found


def selected(text: str | None) -> dict[str, str]:
    """Entities of BIDS names from '--select task=things,space=T1w'."""
    return pairs(text.split(",") if text else [], "--select", "task=things")


def region_patterns(texts: list[str] | None) -> dict[str, str]:
    """Patterns of regions from what --roi was given."""
    return pairs(texts or [], "--roi", "FFA='rois/{subject}_FFA.nii.gz'")


@contextlib.contextmanager
def output(path: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """A name beside `path` to write to, which gets its final name at the end; refused before work begins."""
    if not path.name.endswith(endings) or not path.parent.is_dir() or path.is_dir():
        raise ConfigError(
            f"--out is {path}, expected a file that ends in {' or '.join(endings)} in a folder that is there: choose "
            "another name"
        )
    with replacing(path) as part:
        yield part
