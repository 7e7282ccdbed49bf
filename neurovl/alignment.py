"""Alignment of brains with CLIP and VAE embeddings: targets, loss, MixUp, training and prediction (paper section 3.1)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from .config import Alignment, EncoderShape
from .encoder import BrainEmbedding, BrainEncoder
from .errors import DataError
from .tokens import TokenStore
from .training import Schedule, batch_rows, choose_device, fit

MAX_TARGET_COSINE = 0.95


class Targets:
    """Embeddings of the pictures, kept in a folder: `clip` (n, E) float32 and `vae` (n, c, h, w) or None.

    Attributes
    ----------
    image_ids : list of str
    """

    def __init__(self, folder):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            stored = load_file(folder / "targets.safetensors")
            self.clip, self.vae = stored["clip"], stored.get("vae")
            self.image_ids = json.loads((folder / "image_ids.json").read_text())
        except (SafetensorError, OSError, ValueError, KeyError) as problem:
            raise DataError(
                f"{folder.name}/ cannot be read ({problem}), expected targets.safetensors and image_ids.json of one stage; "
                "remove the folder and make it again: neurovl train encoder --run RUN"
            ) from problem
        if self.vae is not None:
            self.vae = self.vae.float()
        self._row = {image: i for i, image in enumerate(self.image_ids)}

    def rows(self, image_ids) -> torch.Tensor:
        """Row of each image id."""
        return torch.tensor([self._row[str(i)] for i in image_ids])


def write_targets(recordings, folder: Path, clip, vae=None, batch: int = 200) -> None:
    """Embed every picture of a data set; where there are no pictures, its labels, else the mean of its captions.

    Parameters
    ----------
    recordings : Recordings
    folder : Path
        Receives targets.safetensors and image_ids.json.
    clip : foundation.clip.Clip
    vae : foundation.vae.LatentCodec, optional
        Not used where the data set has no pictures.

    Raises
    ------
    DataError
        Without pictures: two different labels have text embeddings with a cosine above 0.95.
    """
    from safetensors.torch import save_file
    from tqdm.auto import tqdm

    ids = list(dict.fromkeys(recordings.trials.image_id))
    clips, vaes = [], []
    for i in tqdm(range(0, len(ids), batch), desc="embedding pictures", disable=None):
        block = ids[i : i + batch]
        if recordings.has_images:
            images = [recordings.image(image) for image in block]
            clips.append(clip.embed_images(images))
            if vae is not None:
                vaes.append(vae.encode(images).half())
        else:
            clips.append(clip.embed_texts([label_text(recordings.label(image)) for image in block]))
    if not recordings.has_images and recordings.label(ids[0]) is not None:
        _require_distinct(recordings, ids, torch.cat(clips))
    tensors = {"clip": torch.cat(clips).contiguous()} | (
        {"vae": torch.cat(vaes).contiguous()} if vaes else {}
    )
    save_file(tensors, folder / "targets.safetensors")
    (folder / "image_ids.json").write_text(json.dumps([str(i) for i in ids]))


def _words(recordings, image_id, clip) -> torch.Tensor:
    """Text embedding of a picture that is not there: of its label, or the mean over its captions."""
    label = recordings.label(image_id)
    texts = recordings.captions(image_id) if label is None else [label_text(label)]
    if not texts:
        raise DataError(
            f"image {image_id} has neither picture nor caption nor label, expected one of them as a target; "
            "add the picture to stimuli/ or a row to captions.tsv"
        )
    return clip.embed_texts(texts).mean(0)


def label_text(label: str) -> str:
    """The sentence that stands for a category name as a target."""
    return (
        f"a picture of a {label} on a plain background"
        if label != "scrambled"
        else "a scrambled picture"
    )


def _require_distinct(recordings, ids, embeds: torch.Tensor) -> None:
    first = {recordings.label(image): i for i, image in reversed(list(enumerate(ids)))}
    names = sorted(first)
    unit = nn.functional.normalize(embeds[[first[n] for n in names]], dim=-1)
    cosine = (unit @ unit.T).fill_diagonal_(-1)
    if float(cosine.max()) > MAX_TARGET_COSINE:
        a, b = divmod(int(cosine.argmax()), len(names))
        raise DataError(
            f"the text embeddings of {names[a]!r} and {names[b]!r} have cosine {float(cosine.max()):.3f}, expected at most "
            f"{MAX_TARGET_COSINE}; the CLIP model cannot tell these words apart: choose another one in the profile"
        )


def alignment_loss(
    predicted: BrainEmbedding, clip: torch.Tensor, vae: torch.Tensor | None, settings: Alignment
) -> dict:
    """L = ||z_clip - E_c(x)||^2 + alpha ||z_vae - E_v(x)||^2, averaged over the batch (paper Eq. 2)."""

    def error(a, b):
        squared = (a.float() - b).square().flatten(1)
        return (squared.sum(1) if settings.reduction == "sum" else squared.mean(1)).mean()

    parts = {"clip": error(predicted.clip, clip)}
    if predicted.vae is not None:
        parts["vae"] = error(predicted.vae, vae)
    return {"loss": parts["clip"] + settings.alpha * parts.get("vae", 0.0), **parts}


def partners(subjects, targets) -> np.ndarray:
    """For every trial the trials of the same subject with the same target, itself included, shape (n, most partners).

    A picture is a target of its own, so these are its repeats; where the targets are category names, they are the trials
    of the category. Rows with fewer partners are filled by repeating them, so that each is about equally likely.

    Parameters
    ----------
    subjects : sequence of str, length n
    targets : sequence of int, length n
        Equal numbers for equal targets.
    """
    groups = (
        pd.DataFrame({"s": np.asarray(subjects), "t": np.asarray(targets)})
        .groupby(["s", "t"], sort=False)
        .indices
    )
    width = max(len(g) for g in groups.values())
    table = np.empty((len(subjects), width), int)
    for group in groups.values():
        table[group] = np.resize(group, width)
    return table


def fit_encoder(
    store: TokenStore,
    targets: Targets,
    *,
    layout: str,
    shape: EncoderShape,
    settings: Alignment,
    seed: int,
    subjects=None,
    use_vae: bool = True,
    checkpoint: Path | None = None,
    device: str = "auto",
    describe: str = "encoder",
) -> tuple[BrainEncoder, list[dict]]:
    """Train one encoder on the training trials of the subjects.

    Parameters
    ----------
    layout : str
        Layout of the tokens: 'p5', 'flat', ...
    subjects : list of str, optional
        All by default.
    use_vae : bool
        Whether the VAE head is trained.

    Returns
    -------
    BrainEncoder, list of dict
        The trained encoder and its training curve.
    """
    trials = store.trials[store.trials.split == "train"]
    if subjects is not None:
        trials = trials[trials.subject.isin(subjects)]
    index = trials.index.to_numpy()
    voxels = torch.from_numpy(store.rows(index)).half()
    rows_of = targets.rows(trials.image_id)
    same = torch.unique(targets.clip, dim=0, return_inverse=True)[1]
    mates = torch.from_numpy(partners(trials.subject, same[rows_of]))
    vae = targets.vae if use_vae else None
    n_tokens, token_size = store.shape(layout)
    torch.manual_seed(seed)
    encoder = BrainEncoder(
        n_tokens,
        token_size,
        targets.clip.shape[1],
        None if vae is None else list(vae.shape[1:]),
        layout,
        **shape.__dict__,
    )
    seen = rows_of.unique()
    encoder.start_at(targets.clip[seen].mean(0), None if vae is None else vae[seen].mean(0))
    place = choose_device(device)

    def loss_at(model, step):
        rows = torch.from_numpy(batch_rows(len(index), settings.batch_size, step, seed))
        x = voxels[rows].float()
        if settings.mixup:
            other = mates[rows, torch.randint(mates.shape[1], (len(rows),))]
            x = torch.lerp(voxels[other].float(), x, torch.rand(len(rows), 1))
        tokens = store.cut(x, layout)
        if settings.token_dropout:
            tokens = tokens * (torch.rand(*tokens.shape[:2], 1) >= settings.token_dropout)
        target = rows_of[rows]
        wanted = None if vae is None else vae[target].to(place)
        return alignment_loss(
            model(tokens.to(place)), targets.clip[target].to(place), wanted, settings
        )

    steps = max(1, settings.epochs * len(index) // settings.batch_size)
    schedule = Schedule(steps, settings.lr, settings.weight_decay, precision=settings.precision)
    curve = fit(
        encoder,
        loss_at,
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        device=device,
        describe=describe,
    )
    return encoder, curve


@torch.no_grad()
def predict(encoder: BrainEncoder, tokens: torch.Tensor, batch_size: int = 256) -> BrainEmbedding:
    """Embeddings of tokens (n, N, C), computed in batches, on the CPU as float32."""
    place = next(encoder.parameters()).device
    parts = [encoder(block.to(place)) for block in tokens.split(batch_size)]
    whole = {}
    for name in ("clip", "vae", "hidden"):
        values = [getattr(p, name) for p in parts]
        whole[name] = None if values[0] is None else torch.cat(values).float().cpu()
    return BrainEmbedding(**whole)


def held_out_voxels(store: TokenStore, subject: str, protocol: str) -> tuple[list[str], np.ndarray]:
    """Test pictures of a subject and their stored voxels (n, V).

    Parameters
    ----------
    protocol : str
        'average': the mean of all repeats; 'single': the first repeat (paper section 4.2).
    """
    own = store.trials[store.trials.subject == subject].reset_index(drop=True)
    test = own[own.split == "test"]
    ids = sorted(test.image_id.unique())
    groups = test.sort_values("repeat").groupby("image_id").groups
    chosen = [
        np.asarray(groups[i])[:1] if protocol == "single" else np.asarray(groups[i]) for i in ids
    ]
    return ids, np.stack([store.voxels(subject, rows).mean(0) for rows in chosen])
