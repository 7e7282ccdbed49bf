"""One run folder as one object: recordings, token store, targets, encoders, language model, reconstructor, tables.

Nothing is opened before it is asked for, so a run without its data still captions and paints.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch

from neurovl.encoder.signal import Signal
from neurovl.encoder.targets import Targets
from neurovl.encoder.variants import expand
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder, load_encoder
from neurovl.language import BrainLLM, Chat, Speaking
from neurovl.language.confidence import Confidence
from neurovl.language.conversations import GREEDY
from neurovl.language.dialogues import PROMPTS
from neurovl.language.llm_variants import language_variant
from neurovl.localization.concept_maps import find_maps
from neurovl.localization.heat import Heat
from neurovl.reconstruction.reconstructor import Reconstructor
from neurovl.recordings import Recordings, open_recordings, require_both_splits
from neurovl.run.mapped_pictures import mapped_pictures
from neurovl.run.record import read_record
from neurovl.run.tables import RunTables
from neurovl.settings.sections import Profile
from neurovl.stages import Stage, provenance_key, stage
from neurovl.tokens.store import TokenStore
from neurovl.training.devices import choose_device, choose_precision

CONFIDENCE, SIGNAL = "confidence.json", "signal.safetensors"  # in the folder calibration
Value = TypeVar("Value")


@dataclass
class Run:
    """A run folder; one fold of it where the data set has several. `open_run` opens one.

    Attributes
    ----------
    root : Path
        The run folder.
    profile : Profile
        The settings that it was started with.
    data_folder : Path
        Where its recordings lie.
    fold : int
        Which train/test partition.
    folds : int
        How many there are.

    Examples
    --------
    >>> image_id = run.test_images(subject=1)[0]
    >>> z = run.encode(subject=1, image_id=image_id)
    >>> z.clip.shape
    torch.Size([1, 64])
    >>> picture = run.reconstructor()(z, prompt=run.prompt(z))
    >>> picture.size
    (64, 64)
    >>> heat = run.locate("person", subject=1)
    >>> heat.to_nifti().shape == data.mask(1).shape
    True
    """

    root: Path
    profile: Profile
    data_folder: Path
    fold: int = 0
    folds: int = 1
    _found: dict = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        """Where the stages of this fold lie."""
        return self.root / f"fold{self.fold}" if self.folds > 1 else self.root

    @cached_property
    def recordings(self) -> Recordings:
        """The run's data, both splits in them."""
        wanted = self.profile.preprocessing
        return require_both_splits(
            open_recordings(
                self.data_folder,
                wanted.subjects,
                self.fold,
                wanted.split,
                wanted.betas,
                wanted.max_missing_voxels,
            )
        )

    @cached_property
    def data(self) -> dict[str, str]:
        """Name and checksum of the recordings, as stages record them."""
        return {"name": self.recordings.name, "checksum": self.recordings.checksum()}

    def on_data(self, recordings: Recordings) -> "Run":
        """The same run with other recordings, which its further stages record."""
        other = replace(self, _found={})
        other.recordings = recordings
        return other

    def all_folds(self) -> "list[Run]":
        """The run for each train/test partition of its data set."""
        others = range(self.folds)
        return [self if k == self.fold else replace(self, fold=k, _found={}) for k in others]

    def stage(
        self,
        name: str,
        work: Callable,
        settings: object,
        inputs: tuple[str, ...] | Mapping[str, str] = (),
        models: tuple[str, ...] = (),
        of_all_folds: bool = False,
    ) -> AbstractContextManager[Stage]:
        """A stage below the run folder, done again only when something changed that it rests on.

        Parameters
        ----------
        name : str
            Its folder, such as 'encoders/main'.
        work : callable
            The function that computes it, whose code counts with all that it uses.
        settings : dataclass or dict
            Those that its result depends on.
        inputs : tuple of str, or mapping of str to str
            Stages of this fold that it reads; or the keys of any stages by name.
        models : tuple of str
            Foundation models that it loads, as `Models.spec` names them.
        of_all_folds : bool
            It lies in the run folder itself.
        """
        from neurovl.foundation.identity import model_identity

        known = self.profile.models
        loaded = {m: model_identity(known.spec(m), m) for m in models}
        if not isinstance(inputs, Mapping):
            inputs = {one: provenance_key(self.folder / one) for one in inputs}
        folder = (self.root if of_all_folds else self.folder) / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        return stage(
            folder,
            {"settings": settings, "models": loaded},
            inputs,
            work=work,
            name=name,
            seed=self.profile.seed,
            profile=self.profile.name,
            data=self.data,
            device=self.profile.compute.device,
        )

    @cached_property
    def store(self) -> TokenStore:
        """The token store."""
        return TokenStore(self.folder / "tokens")

    @cached_property
    def targets(self) -> Targets:
        """Embeddings of the pictures."""
        return Targets.load(self.folder / "targets")

    @cached_property
    def tables(self) -> RunTables:
        """Scores, answers, pictures, curves and provenance."""
        return RunTables(self.root)

    def variants(self) -> list[str]:
        """Names of the encoders of the profile, see `encoder.variants.describe`."""
        return expand(self.profile.alignment.variants, self.store)

    def variants_of(self, name: str) -> list[str]:
        """The encoders that one name of `alignment.variants` stands for; 'patches' and 'per-subject' are several."""
        return expand([name], self.store)

    def patch_variants(self) -> list[str]:
        """The main encoder and those with other patch sizes, whose maps are averaged."""
        return ["main", *(name for name in self.variants() if name in self.store.plans)]

    @property
    def has_captions(self) -> bool:
        """Whether the pictures have captions, from which the language model learns."""
        first = self.recordings.trials.image_id.iloc[0]
        return self.recordings.has_images and bool(self.recordings.captions(first))

    def encoder(self, variant: str = "main", device: str = "cpu") -> BrainEncoder:
        """A trained encoder: 'main', 'p4', 'flat', 'no-vae', 'per-subject-subj01', ...; on 'cpu', 'cuda', 'mps' or 'auto'."""
        return load_encoder(self.folder / "encoders" / variant).to(choose_device(device))

    def llm(self, variant: str = "main") -> BrainLLM:
        """The language model that reads brain tokens, or a variant of it such as 'flat'; loaded once.

        Its weights are in 16 bits where it was trained in 16 bits, and where it is large.
        """
        device, stage = self.profile.compute.device, language_variant(variant).stage
        half = choose_precision(self.profile.language.precision, device) == "bf16"
        about = {"device": device, "weights": "bf16" if half else "auto"}
        return self.once(stage, lambda: BrainLLM.from_pretrained(self.folder / stage, **about))

    def reconstructor(self) -> Reconstructor:
        """The diffusion model with the profile's settings; loaded once."""
        return self.once("reconstructor", self._reconstructor)

    def _reconstructor(self) -> Reconstructor:
        settings, models = self.profile.reconstruction, self.profile.models
        return Reconstructor.from_pretrained(
            models.unclip,
            device=self.profile.compute.device,
            steps=settings.steps,
            guidance=settings.guidance,
            noise_level=settings.noise_level,
            clip_norm=None if settings.rescale == "none" else self.training_clip_norm(),
            image_size=models.image_size,
            precision=settings.precision,
        )

    def training_clip_norm(self) -> float:
        """Mean length of the training pictures' CLIP embeddings."""
        trials, targets = self.store.trials, self.targets
        train = trials.image_id[trials.split == "train"].unique()
        return float(targets.clip[targets.rows(train)].norm(dim=-1).mean())

    def encode(
        self,
        subject: str | int,
        image_id: str | int,
        repeat: int | None = None,
        variant: str = "main",
    ) -> BrainEmbedding:
        """What an encoder reads of a subject who saw a picture: of the mean over repeats, or of one, counted from 0."""
        encoder = self.once(variant, lambda: self.encoder(variant))
        tokens = self.store.tokens(subject, image_id, repeat, encoder.layout)
        with torch.no_grad():
            return encoder(tokens)

    def picture_tokens(self, image_ids: Iterable[str]) -> torch.Tensor:
        """CLIP's patch tokens of true pictures, float32 (n, P, W): what a language model reads that never meets a brain."""
        from neurovl.foundation.clip import load_clip

        clip = load_clip(self.profile.models.clip, self.profile.compute.device)
        return clip.image_tokens([self.recordings.image(image) for image in image_ids])[1]

    def confidence(self) -> tuple[Confidence, Signal] | None:
        """How sure the language model's answers are, and the signal of brains that it reads; None where the run is not calibrated."""
        folder = self.folder / "calibration"
        if not (folder / CONFIDENCE).is_file():
            return None
        return self.once(
            "calibration",
            lambda: (Confidence.load(folder / CONFIDENCE), Signal.load(folder / SIGNAL)),
        )

    def chat(self, z: BrainEmbedding, speaking: Speaking = GREEDY) -> Chat:
        """A conversation about one brain's picture, each answer judged by `confidence` where the run has one."""
        found = self.confidence()
        if found is None:
            return self.llm().chat(z, speaking)
        sure, signal = found
        return self.llm().chat(z, speaking, sure, signal.of(z)[0].tolist())

    def prompt(self, z: BrainEmbedding) -> str:
        """The language model's prompt for the diffusion model."""
        return self.llm().chat(z).ask(PROMPTS["reconstruction"][0])

    def word_for(self, request: str, z: BrainEmbedding) -> str:
        """The word for what a request about a brain's picture means, such as 'the animal on the left'.

        One word stands for itself, and so does a category of the test pictures; of anything else the language model says it.
        """
        known = self.once("categories", self._categories)
        if " " not in request.strip() or request in known:
            return request.strip()
        return self.llm().chat(z).ask(PROMPTS["localization"][0].format(request)).strip(" .")

    def _categories(self) -> set[str]:
        trials = self.store.trials
        ids = trials.image_id[trials.split == "test"].unique()
        return {name for image in ids for name in self.categories(image)}

    def annotations(self) -> dict[str, dict]:
        """Captions and objects of the pictures by the profile's captioner and detector; empty where it names none."""
        from neurovl.foundation.annotators import read_annotations

        models, file = self.profile.models, self.folder / "annotations" / "annotations.jsonl"
        if models.captioner is None or models.detector is None or not file.is_file():
            return {}
        return read_annotations(file)

    def test_images(self, subject: str | int) -> list[str]:
        """A subject's test pictures."""
        trials, name = self.store.trials, self.store.subject_name(subject)
        return sorted(trials.image_id[(trials.subject == name) & (trials.split == "test")].unique())

    def categories(self, image_id: str) -> list[str]:
        """What a picture holds, as words to locate."""
        return sorted({o["category"] for o in self.recordings.objects(image_id)})

    def locate(
        self,
        concept: str,
        subject: str | int,
        image_id: str | int | None = None,
        method: str = "gradcam",
    ) -> Heat:
        """Where a concept lies in a subject, from one test picture or from all that hold the concept.

        Parameters
        ----------
        method : str
            'gradcam', the paper's: what the encoder reads; 'tuning': which voxels answer to the concept, over the training
            pictures; or any other of `localization.concept_maps.find_maps`.

        Raises
        ------
        DataError
            No test picture of the subject holds the concept, or the subject did not see the picture.
        ConfigError
            The method is unknown.
        """
        pictures = mapped_pictures(self, [concept], subject, image_id)
        return find_maps(method, pictures)[concept]

    def __getstate__(self) -> dict:
        """What another process gets: what was found once may be large or on a device, and is found there again."""
        return self.__dict__ | {"_found": {}}

    def once(self, name: str, find: Callable[[], Value]) -> Value:
        """What `find` gives, found once for this object."""
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]

    def forget(self, name: str) -> None:
        """Let go of what `once` found, so that its memory is free."""
        self._found.pop(name, None)


def open_run(run: str | Path, fold: int = 0) -> Run:
    """Open a run folder.

    Parameters
    ----------
    run : path
        As given, or below the folder above where a notebook was started in a folder of its own.
    fold : int
        Which train/test partition, where the data set has several.

    Raises
    ------
    MissingError, ConfigError
        It is no run folder, or one of another version.

    Examples
    --------
    >>> neurovl.open_run(run.root).store.subjects
    ['subj01']
    """
    root = find_run(run)
    record = read_record(root)
    data = Path(os.path.normpath(root / record["data_folder"]))
    return Run(root, record["settings"], data, fold, record["folds"])


def find_run(run: str | Path) -> Path:
    """The run folder as given, or below the folder above where a notebook was started in its own folder."""
    run = Path(run)
    if run.is_absolute() or run.exists() or not (Path("..") / run).exists():
        return run
    return Path("..") / run
