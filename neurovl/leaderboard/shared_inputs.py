"""What all systems of the comparison share: voxels, features of pictures, and the language model that speaks of patch tokens."""

import copy
import shutil
from pathlib import Path

import numpy as np
import torch

from neurovl.baselines.decoder import FrozenParts
from neurovl.baselines.own_masks import read_voxels, subjects_in, write_voxels
from neurovl.baselines.picture_features import PictureFeatures, read_features, write_features
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import ConfigError
from neurovl.language import BrainLLM
from neurovl.recordings import Recordings
from neurovl.run import Run
from neurovl.settings.language import Language

PLACE = "leaderboard"
VOXELS, FEATURES, CAPTIONER = f"{PLACE}/voxels", f"{PLACE}/features", f"{PLACE}/captioner"


def can_compare(run: Run) -> bool:
    """Whether a run's data allow the comparison: it is of pictures, and of one partition of them."""
    return run.recordings.has_images and run.folds == 1


def prepare_voxels(run: Run) -> None:
    """RUN/leaderboard/voxels: z-scores of every trial at the voxels of the subject's own mask, on its own grid."""
    with run.stage(VOXELS, prepare_voxels, {"subjects": run.recordings.subjects}) as s:
        if not s.done:
            write_voxels(run.recordings, s.dir, run.profile.compute.at_a_time())


def prepare_features(run: Run) -> None:
    """RUN/leaderboard/features: what systems learn to predict, of every picture."""
    settings = {"image_size": run.profile.models.image_size}
    with run.stage(FEATURES, prepare_features, settings, models=("clip", "unclip")) as s:
        if not s.done:
            _embed(run, run.recordings, s.dir)


def prepare_new_features(run: Run, subject: str, pictures: list[str]) -> str:
    """RUN/leaderboard/features-SUBJECT: the same of some training pictures of a subject outside the run; the stage's name.

    Parameters
    ----------
    run : Run
        With the subject's recordings, see `Run.on_data`.
    subject : str
    pictures : list of str
    """
    place = f"{FEATURES}-{subject}"
    settings = {"image_size": run.profile.models.image_size, "pictures": pictures}
    with run.stage(place, prepare_new_features, settings, models=("clip", "unclip")) as s:
        if not s.done:
            view, trials = copy.copy(run.recordings), run.recordings.subject_trials(subject)
            view.trials = trials[trials.image_id.isin(pictures)]
            _embed(run, view, s.dir)
    return place


def _embed(run: Run, recordings: Recordings, folder: Path) -> None:
    from neurovl.foundation.clip import load_clip
    from neurovl.foundation.unclip import load_unclip
    from neurovl.foundation.vae import load_vae

    models, device = run.profile.models, run.profile.compute.device
    write_features(
        recordings,
        folder,
        load_clip(models.clip, device),
        load_vae(models.unclip, device, models.image_size),
        load_unclip(models.unclip, device),
    )


def train_captioner(run: Run) -> None:
    """RUN/leaderboard/captioner: a language model that speaks of the patch tokens of a true picture.

    It learns brief captions from CLIP's tokens of the training pictures and never meets a brain; for the systems that predict
    such tokens it stands for the frozen multimodal language model that each of them uses.
    """
    from neurovl.foundation.llm import load_llm
    from neurovl.language import Projector, fit_language
    from neurovl.language.talks import talks

    p, own = run.profile, run.profile.leaderboard
    settings = Language(
        steps=own.captioner_steps,
        batch_size=(own.captioner_batch_size,) * 2,
        lr=own.captioner_lr,
        precision=p.language.precision,
    )
    with run.stage(CAPTIONER, train_captioner, settings, (FEATURES,), ("llm",)) as s:
        if s.done:
            return
        features = features_of(run)
        pictures = training_pictures(run)
        taught = talks(run.recordings, pictures, run.annotations(), p.seed)
        brief = {image: [d for d in ds if d.type == "brief"] for image, ds in taught.items()}
        pictures = [image for image in pictures if brief[image]]
        if not pictures:
            raise ConfigError(
                f"no training picture of {run.recordings.name} has a caption that is short enough, expected some to learn from: "
                "leave out the systems that speak"
            )
        tokens = torch.from_numpy(features.of("patch_tokens", pictures)).half()
        llm, tokenizer = load_llm(p.models.llm, p.compute.device)
        torch.manual_seed(p.seed)
        width = llm.get_input_embeddings().embedding_dim
        model = BrainLLM(llm, tokenizer, Projector(tokens.shape[-1], width))
        fit_language(
            model,
            tokens,
            pictures,
            brief,
            settings,
            seed=p.seed,
            checkpoint=s.dir / "checkpoint",
            checkpointing=p.compute.checkpointing,
            device=p.compute.device,
        )
        model.cpu().float().save_pretrained(s.dir)
        shutil.rmtree(s.dir / "checkpoint", ignore_errors=True)


def training_pictures(run: Run) -> list[str]:
    """The pictures of the training trials of any subject, each once."""
    trials = run.recordings.trials
    return sorted(trials.image_id[trials.split == "train"].unique().tolist())


def features_of(run: Run) -> PictureFeatures:
    """The features that `prepare_features` wrote."""
    return run.once(FEATURES, lambda: read_features(run.folder / FEATURES))


def voxels_of(run: Run, split: str) -> dict[str, SubjectVoxels]:
    """The voxels of every subject that `prepare_voxels` wrote; subjects without trials of the split are left out."""
    folder = run.folder / VOXELS
    found = {s: read_voxels(folder, s, split) for s in subjects_in(folder)}
    return {subject: voxels for subject, voxels in found.items() if len(voxels)}


def speaker_of(run: Run) -> BrainLLM:
    """The language model that `train_captioner` trained; loaded once."""
    device = run.profile.compute.device
    return run.once(
        CAPTIONER, lambda: BrainLLM.from_pretrained(run.folder / CAPTIONER, device=device)
    )


def parts_of(run: Run) -> FrozenParts:
    """The frozen networks that systems may use."""
    from neurovl.training.devices import choose_device

    return FrozenParts(
        run.profile.models,
        choose_device(run.profile.compute.device),
        run.profile.seed,
        (lambda: speaker_of(run)) if run.has_captions else None,
        run.recordings.captions,
    )


def rows_for(run: Run, ids: np.ndarray, subject: str) -> list[int]:
    """Which of a subject's test pictures are painted and captioned, as rows among `ids`."""
    from neurovl.evaluation.embeddings import chosen_images

    wanted = chosen_images(list(ids), run.profile.leaderboard.images, run.profile.seed)
    return [list(ids).index(image) for image in wanted]
