"""Whether the models of a profile are here and whole, what they are, and under which licence."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from neurovl.doctor.findings import Finding, readable
from neurovl.errors import MissingError, NeurovlError
from neurovl.foundation.model_facts import Facts, find_facts, find_folder, lacking, parameters
from neurovl.foundation.source import PACKAGE, TINY, alternatives, fetch_command, resolve
from neurovl.settings.sections import Profile

PARTS = ("clip", "unclip", "llm", "metric")


def examine_models(profile: Profile) -> list[Finding]:
    """One finding for each model that the profile names."""
    found = []
    for part in PARTS:
        spec = getattr(profile.models, part)
        own = find_folder(spec, part)
        small = part != "metric" or (own is not None and (own / "config.json").is_file())
        found += [examine_model(spec, part)] if small else _metric(spec)
    for name, spec in profile.models.llms.items():
        if name in profile.language.variants:
            found.append(examine_model(spec, "llm", f"models.llms.{name}"))
    for part in ("captioner", "detector"):
        spec = getattr(profile.models, part)
        if spec is not None:
            name, here = " or ".join(alternatives(spec)), find_folder(spec, part) is not None
            fix = "" if here else _fetch(spec, f"models.{part}", None)
            found.append(Finding(f"models.{part} {name}", here, fix))
    return found


def examine_model(spec: str | Sequence[str], part: str, setting: str | None = None) -> Finding:
    """A model by 'tiny', folder or hub id: here and whole, cut short, or absent with the command that fetches it.

    Parameters
    ----------
    spec : str or sequence of str
    part : str
        'clip', 'unclip', 'llm' or 'metric'.
    setting : str, optional
        Which setting of the profile names it; ``models.PART`` by default.
    """
    setting = setting or f"models.{part}"
    facts, name = find_facts(spec), " or ".join(alternatives(spec))
    folder = find_folder(spec, part)
    if folder is None and (file := _packaged(spec, part)) is not None:
        return Finding(f"{setting} {name}, {readable(file.stat().st_size)}{_about(facts)}", True)
    if folder is None:
        return Finding(f"{setting} {name}{_about(facts)}", False, _fetch(spec, setting, facts))
    place = "in the package" if folder.is_relative_to(TINY) else f"in {folder}"
    if folder.parent.name == "snapshots":
        place = "in the hub's cache"
    try:
        missing = lacking(spec, part)
        n = sum(parameters(spec, part).values())
    except NeurovlError as error:
        return Finding(f"{setting} {name} {place}", False, str(error))
    if missing:
        return Finding(
            f"{setting} {name} {place} lacks {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if len(missing) > 3 else ""),
            False,
            _fetch(spec, setting, facts)
            if facts or folder is None
            else "give a whole folder in the hub's format",
        )
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return Finding(
        f"{setting} {name} {place}: {n / 1e6:,.1f} M parameters, {readable(size)}"
        f"{_about(facts) if facts else ', ' + _licence(folder)}",
        True,
    )


def _packaged(spec: str | Sequence[str], part: str) -> Path | None:
    """The file of a model that an installed package holds."""
    for one in alternatives(spec):
        if one.startswith(PACKAGE):
            with contextlib.suppress(MissingError):
                return Path(resolve(one, part))
    return None


def _about(facts: Facts | None) -> str:
    if facts is None:
        return ""
    n = sum(facts.parameters.values())
    return f", {facts.title} ({n / 1e6:,.1f} M parameters, {facts.licence}{', gated' if facts.gated else ''})"


def _licence(folder: Path) -> str:
    """The licence that a model card states."""
    card = folder / "README.md"
    lines = card.read_text(errors="replace").splitlines()[:40] if card.is_file() else []
    stated = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("license:")), ""
    )
    return f"licence {stated}" if stated else "no licence stated"


def _fetch(spec: str | Sequence[str], setting: str, facts: Facts | None) -> str:
    first = alternatives(spec)[0]
    if first == "tiny":
        return "install neurovl again, or make it: neurovl foundation train --out DIR"
    if first.startswith(PACKAGE):
        return fetch_command(first)
    if first.startswith((".", "/", "~")):
        return "there is no such folder; give its path or a hub id"
    if facts is None:
        command = f"{fetch_command(first)} (accept its licence first where it has one)"
        return f"{command}, or name a local folder in {setting}"
    steps = []
    if first in facts.withdrawn and facts.hub not in alternatives(spec):
        steps.append(
            f"{first} was withdrawn from the hub in {facts.withdrawn[first]}: set {setting} to its copy {facts.hub}"
        )
    if facts.gated:
        steps.append(
            f"accept the {facts.licence} on the page of {facts.hub}, log in with hf auth login"
        )
    steps.append(fetch_command(facts.hub))
    return f"{', then '.join(steps)}; or name a local folder in {setting}"


def _metric(spec: str | Sequence[str]) -> list[Finding]:
    """The paper's metric networks, or one of the small world's own; a missing one of the paper's leaves its cells empty."""
    from neurovl.foundation.metric import caption_network, metric_family
    from neurovl.foundation.metric_networks import weights_file

    try:
        folder = None if spec == "paper" else str(find_folder(spec, "metric"))
        members = [*metric_family(spec, "meta"), caption_network(spec, "meta")]
    except NeurovlError as error:
        return [Finding(f"models.metric {spec}", False, str(error), needed=False)]
    found = []
    for member in filter(None, members):
        kind, _, name = member.name.partition(" ")
        if kind == "CLIP":
            name = name.replace("/", "-")
            spec_of = f"{name}/openai" if folder is None else f"{folder}/{name}"
            one = examine_model(spec_of, "clip", "models.metric")
            found.append(Finding(f"metric network {member.name}", one.ok, one.fix, needed=False))
            continue
        try:
            file = weights_file(member.load().url, folder)
            found.append(
                Finding(f"metric network {member.name}, {readable(file.stat().st_size)}", True)
            )
        except MissingError as error:
            fix = f"{error}; until then its cells stay empty"
            found.append(Finding(f"metric network {member.name}", False, fix, needed=False))
    return found
