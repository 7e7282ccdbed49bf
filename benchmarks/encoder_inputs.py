"""What the encoder's benchmark reads: random trials of simulated heads as a token store and as whole volumes."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from encoder_models import flops
from safetensors.torch import save_file

from neurovl.encoder.targets import Targets
from neurovl.encoder.variants import Variant, describe
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.recordings.base import Recordings
from neurovl.settings.profile_files import load_profile
from neurovl.smallworld.subjects.anatomy import make_anatomy
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

SEED = 0
SUBJECTS = (1, 2, 5, 7)


@dataclass(frozen=True)
class Size:
    """A profile, and how much of it is measured: trials a subject, batch, turns of so many counted steps."""

    profile: str
    trials: int
    batch: int
    turns: int
    steps: int
    clip_width: int = 64
    vae_shape: tuple[int, int, int] = (4, 16, 16)
    inference: dict[int, int] = field(default_factory=lambda: {1: 20, 32: 10, 256: 5})  # turns


class Trials(Recordings):
    """Random betas of simulated heads; every picture is seen twice."""

    name = "benchmark"

    def __init__(self, folder: Path, scale: float, n_trials: int):
        heads = {s: make_anatomy(s, scale, SEED) for s in SUBJECTS}
        self._masks = {f"subj{s:02d}": heads[s].nsdgeneral for s in SUBJECTS}
        self._affines = {f"subj{s:02d}": heads[s].affine for s in SUBJECTS}
        k = np.arange(n_trials)
        tables = [
            pd.DataFrame({"subject": s, "session": 1, "trial": k, "repeat": k % 2}).assign(
                image_id=(1000 * i + k // 2).astype(str), split="train"
            )
            for i, s in enumerate(self._masks)
        ]
        super().__init__(folder, list(self._masks), pd.concat(tables))

    def mask(self, subject):
        return self._masks[subject]

    def affine(self, subject):
        return self._affines[subject]

    def session_voxels(self, subject, session, voxels):
        rng = np.random.default_rng([SEED, int(subject[-2:])])
        n_trials = len(self.subject_trials(subject))
        return rng.normal(0, 300, (n_trials, len(voxels))).astype(np.int16)


class Volumes:
    """The store's trials as float32 volumes on the padded grid, zero outside the kept patches: `rows` as of a store."""

    def __init__(self, store: TokenStore, file: Path):
        plan = store.plans[store.layouts[0]]
        self.patch = plan.patch
        self.grid = tuple(n * p for n, p in zip(plan.candidates, plan.patch, strict=True))
        self.n_voxels = int(np.prod(self.grid))
        inside = np.ravel_multi_index(np.unravel_index(store.region, store.target), self.grid)
        out = np.lib.format.open_memmap(file, "w+", np.float32, (len(store.trials), self.n_voxels))
        for rows in np.array_split(np.arange(len(out)), len(out) // 16):
            out[rows[:, None], inside] = store.voxels_at(rows)
        out.flush()
        self.values = np.load(file, mmap_mode="r")

    def voxels_at(self, index) -> np.ndarray:
        return self.values[np.asarray(index)]


class World:
    """Everything that the trainings of one size read, in a folder, and the systems that read it."""

    def __init__(self, size: Size, folder: Path):
        self.size, self.profile = size, load_profile(size.profile)
        self.profile = replace(
            self.profile, alignment=replace(self.profile.alignment, batch_size=size.batch)
        )
        simulation, preprocessing = self.profile.simulation, self.profile.preprocessing
        trials = Trials(folder, simulation.scale if simulation else 1.0, size.trials)
        write_store(
            trials,
            folder,
            patches=preprocessing.patches[:1],
            target=preprocessing.target,
            off_mask=preprocessing.off_mask,
        )
        self.store = TokenStore(folder)
        self.volumes = Volumes(self.store, folder / "volumes.npy")
        ids = sorted(set(self.store.trials.image_id))
        rng = torch.Generator().manual_seed(SEED)
        clip = torch.randn(len(ids), size.clip_width, generator=rng)
        vae = torch.randn(len(ids), *size.vae_shape, generator=rng).half()
        save_file({"clip": clip, "vae": vae}, folder / "targets.safetensors")
        (folder / "image_ids.json").write_text(json.dumps(ids))
        self.targets = Targets.load(folder)
        self.paper_way: Variant = describe("plain", self.profile, self.store)
        self.main: Variant = describe("main", self.profile, self.store)
        self.n_tokens, self.token_size = self.store.shape(self.store.layouts[0])
        self.n_patches = int(np.prod(self.store.plans[self.store.layouts[0]].candidates))

    def flops(self, every_patch: bool = False, last_layer: str = "class token"):
        """(forward, backward) for a sample, see `encoder_models.flops`."""
        n = self.n_patches if every_patch else self.n_tokens
        outputs = self.size.clip_width + int(np.prod(self.size.vae_shape))
        return flops(n, self.token_size, self.paper_way.shape, outputs, last_layer)

    def encoder(self, kind=BrainEncoder) -> BrainEncoder:
        torch.manual_seed(SEED)
        return kind(
            self.n_tokens,
            self.token_size,
            self.size.clip_width,
            self.size.vae_shape,
            self.store.layouts[0],
            **self.paper_way.shape.network(),
        )
