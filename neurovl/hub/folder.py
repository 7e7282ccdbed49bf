"""A trained encoder as a folder for the hub: weights, patch plan and card; and its upload."""

import json
import shutil
from pathlib import Path

from neurovl.encoder.vit3d import load_encoder
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.hub.card import model_card
from neurovl.hub.facts import TrainedEncoder
from neurovl.hub.published import load_published, require_fit
from neurovl.stages import stage

WEIGHTS = ("config.json", "model.safetensors")
ABOUT = ("data.json", "README.md")  # what tells an export from other folders


def export_encoder(
    run: str | Path, out: str | Path, system: str = "main", fold: int = 0, repo: str | None = None
) -> Path:
    """Write a trained encoder with all that others need to use it and to judge it.

    Parameters
    ----------
    run : path
        The run folder. The recordings themselves are not needed.
    out : path
        Receives config.json, model.safetensors, plan.json, plan.npz, README.md (the model card), data.json (name,
        checksum, licence and terms of the recordings), provenance/ and provenance.json. Written beside and renamed.
    system : str
        Which encoder of the run.
    fold : int
        Of which train/test partition, where the data set has several.
    repo : str, optional
        'owner/name' that the folder is meant for; the card names it.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    MissingError, DataError, ConfigError
        The encoder is not there, cannot be read, is not of the tokens or data that lie in the run, or is adapted to a
        new subject; `out` holds other files; the name is none of a repository.

    Examples
    --------
    >>> from neurovl.hub import export_encoder
    >>> made = export_encoder(run.root, folder / "mine", repo="me/my-encoder")
    >>> sorted(path.name for path in made.iterdir() if path.is_file())[:4]
    ['README.md', 'config.json', 'data.json', 'model.safetensors']
    """
    if repo is not None:
        _require_name(repo)
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not _is_export(out):
        raise DataError(
            f"{out.name}/ holds other files, expected a new folder or one that neurovl export encoder wrote; choose another "
            "name with --out"
        )
    facts = TrainedEncoder.read(run, system, fold)
    encoder = load_encoder(facts.folder)
    require_fit(encoder, facts.store, facts.folder.name)
    settings = {"system": system, "fold": fold, "repo": repo}
    with stage(
        out,
        settings,
        facts.keys,
        seed=facts.record["seed"],
        profile=facts.record["profile"],
        data=facts.record["data"],
        device="cpu",
        work=export_encoder,
    ) as s:
        if not s.done:
            for name in WEIGHTS:
                shutil.copyfile(facts.folder / name, s.dir / name)
            shutil.copyfile(facts.store.folder / "plan.npz", s.dir / "plan.npz")
            plan = json.loads((facts.store.folder / "plan.json").read_text())
            _write(s.dir / "plan.json", plan | {"axes": facts.axes})
            _write(s.dir / "data.json", facts.data)
            (s.dir / "provenance").mkdir(exist_ok=True)
            for name, record in facts.records.items():
                _write(s.dir / "provenance" / f"{name}.json", record)
            card = model_card(facts, encoder, repo)
            (s.dir / "README.md").write_text(card, encoding="utf-8")
    return out


def push_encoder(
    folder: str | Path, repo: str, *, private: bool = False, accept_terms: bool = False
) -> str:
    """Upload a folder that `export_encoder` wrote to the Hugging Face hub, in one commit; log in first: hf auth login.

    Parameters
    ----------
    repo : str
        'owner/name'; made where it is not there yet.
    private : bool
        Make it a private one; a public one that is there is refused.
    accept_terms : bool
        You say that the terms of the recordings allow to publish what is made from them. Not asked for simulated ones.

    Returns
    -------
    str
        Address of the repository.

    Raises
    ------
    ConfigError
        Terms that were not accepted, a name that is none, or a hub that refuses or cannot be reached.
    MissingError, DataError
        The folder is no export, or cannot be read.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    _require_name(repo)
    folder = Path(folder)
    if not _is_export(folder):
        raise MissingError(
            f"{folder.name}/ is no folder with data.json and README.md, expected one that neurovl export encoder wrote; write "
            "it: neurovl export encoder --run RUN --out DIR"
        )
    load_published(folder)
    data = json.loads((folder / "data.json").read_text())
    if not (data["simulated"] or accept_terms):
        raise ConfigError(
            f"nothing was sent to {repo}: the weights are made from recordings of people ({data['name']}, licence: "
            f"{data['licence']}; terms: {data['terms']}), expected your word that these terms allow to publish them; read the "
            f"terms and {folder.name}/README.md, then call again with --accept-terms"
        )
    api = HfApi()
    try:
        place = api.create_repo(repo, private=private or None, exist_ok=True)
        is_open = private and not api.model_info(repo).private
        if not is_open:
            words = f"Encoder of neurovl, trained on {data['name']}"
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=words)
    except (
        OSError,
        ValueError,
        *HfHubHTTPError.__bases__,
    ) as problem:  # and those of its HTTP library
        words = " ".join(str(problem).split())
        raise ConfigError(
            f"the hub did not take {repo} ({type(problem).__name__}: {words[:200]}), expected a hub that can be reached "
            "and an account that may write there: hf auth login, then call again"
        ) from problem
    if is_open:
        raise ConfigError(
            f"{repo} is there and public, expected a private one; nothing was sent: choose another name, or make it "
            "private on the hub"
        )
    return str(place)


def _require_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError("it has no owner")
    except HFValidationError as problem:
        raise ConfigError(
            f"{repo!r} is no name of a repository on the hub ({problem}), expected owner/name; correct it"
        ) from problem


def _is_export(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ABOUT)


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
