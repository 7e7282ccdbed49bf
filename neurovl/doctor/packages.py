"""Packages against what neurovl was declared to need, and the Java programs behind METEOR and SPICE."""

import importlib.metadata
import re
import subprocess
from typing import TYPE_CHECKING

from neurovl.doctor.findings import Finding
from neurovl.errors import MissingError, NeurovlError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SHOWN = ("torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "nilearn")
EXTRAS = {
    "explore": "neurovl explore",
    "java": "METEOR and SPICE where the machine has no Java",
    "trackers": "trackers: [tensorboard] of a profile",
    "lora": "language.method: lora of a profile",
    "words": "a language model in a GGUF file, as in the profile words",
}  # what each is for


def examine_packages() -> list[Finding]:
    """Every declared requirement: one line for all that are met, one for each that is not.

    What an extra brings is needed by one command each, so its absence stops nothing.
    """
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in importlib.metadata.requires("neurovl") or ()]
    except importlib.metadata.PackageNotFoundError:
        return [
            Finding(
                "neurovl itself is not installed, only its files are here",
                False,
                "pip install -e .",
            )
        ]
    wanted = [one for one in declared if _is_part_of(one, "")]
    faults = {one.name: _fault(one) for one in wanted}
    missing = [
        Finding(fault, False, f'pip install "{one.name}{one.specifier}"')
        for one in wanted
        if (fault := faults[one.name])
    ]
    right = len(wanted) - len(missing)
    some = [
        f"{name} {importlib.metadata.version(name)}" for name in SHOWN if faults.get(name) == ""
    ]
    summary = f"{right} of {len(wanted)} packages as declared ({', '.join(some)})"
    return [Finding(summary, True), *missing, *_examine_extras(declared)]


def _examine_extras(declared: list) -> list[Finding]:
    """One note for each requirement of an extra that is not met."""
    return [
        Finding(f"{fault}, for {purpose}", False, f"pip install 'neurovl[{extra}]'", needed=False)
        for extra, purpose in EXTRAS.items()
        for one in declared
        if not _is_part_of(one, "") and _is_part_of(one, extra) and (fault := _fault(one))
    ]


def _is_part_of(requirement: "Requirement", extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _fault(requirement: "Requirement") -> str:
    """What is wrong with a package; empty where it is as declared."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"package {requirement.name}"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"package {requirement.name} {version}, expected {requirement.specifier}"


def examine_torchvision() -> Finding:
    """Whether torch and torchvision are of one build; torchvision does not load where they are not."""
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return Finding(
            f"torchvision does not load ({first[:120]})",
            False,
            "install the pair together: pip install --force-reinstall torch torchvision",
        )
    return Finding("torch and torchvision are of one build", True)


def examine_java() -> list[Finding]:
    """Java, and whether METEOR and SPICE start in it; a score that cannot be computed is an empty cell, no stop."""
    from neurovl.metrics.captions import find_java

    try:
        java = find_java()
    except MissingError as error:
        return [Finding("Java for the caption scores", False, str(error), needed=False)]
    version = _first_number(
        subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    )
    return [
        Finding(f"Java {version or 'of an unknown version'} for the caption scores", True),
        _program(java, "METEOR", "meteor", "meteor-1.5.jar", "-Xmx2G"),
        _spice(java, version),
    ]


def _program(java: str, name: str, folder: str, jar: str, memory: str) -> Finding:
    """Whether a jar starts and says who it is."""
    from neurovl.metrics.captions import jar_folder

    try:
        path = jar_folder(folder) / jar
    except NeurovlError as error:
        return Finding(name, False, str(error), needed=False)
    command = [java, memory, "-jar", str(path)]
    said = subprocess.run(command, capture_output=True, text=True)
    if name in (said.stdout + said.stderr).upper():
        return Finding(f"{name} starts", True)
    last = ((said.stderr or said.stdout).strip().splitlines() or ["it says nothing"])[-1]
    return Finding(
        f"{name} does not start ({last[:120]})",
        False,
        "install pycocoevalcap again, or another Java: pip install 'neurovl[java]'; until then its cells stay empty",
        needed=False,
    )


def _spice(java: str, version: int | None) -> Finding:
    from neurovl.metrics.captions import jar_folder

    starts = _program(java, "SPICE", "spice", "spice-1.0.jar", "-Xmx8G")
    if not starts.ok:
        return starts
    jars = jar_folder("spice") / "lib"
    absent = [
        jar
        for jar in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
        if not (jars / jar).is_file()
    ]
    if absent:
        return Finding(
            f"SPICE lacks {' and '.join(absent)}",
            False,
            "fetch them once: python -c 'from pycocoevalcap.spice.get_stanford_models import get_stanford_models as get; "
            "get()'; until then its cells stay empty",
            needed=False,
        )
    if version is not None and version > 8:
        return Finding(
            f"SPICE was written for Java 8, here is Java {version}",
            False,
            "where its cells stay empty, put a Java 8 first in PATH",
            needed=False,
        )
    return Finding("SPICE has its jars and Java 8", True)


def _first_number(text: str) -> int | None:
    """Java's main version: 17 of '17.0.15', 8 of '1.8.0_402'."""
    found = re.search(r'"?(?:1\.)?(\d+)[._"]', text)
    return int(found[1]) if found else None
