"""Two toy subjects whose voxels are linear in the pictures' targets: as much of a token store as training asks."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from neurovl.encoder.targets import Targets

N_VOXELS, N_LATENT, E, VAE = 60, 5, 6, (2, 2, 2)


class ToyStore:
    """Voxels (n, V) of all trials; tokens of 9 columns, some of them empty.

    Attributes
    ----------
    own : dict of str to bool array (V,)
        Voxels that each subject measured.
    latent : array, shape (n_pictures, 5)
        What the pictures' targets and the voxels are linear in.
    """

    layouts, subjects = ["p3", "flat"], ["a", "b"]
    plans = {"p3": SimpleNamespace()}
    n_voxels = N_VOXELS

    def __init__(self, n_train=80, n_test=30, repeats=3, noise=1.0, seed=0):
        rng = np.random.default_rng(seed)
        n = n_train + n_test
        self.latent = rng.normal(size=(n, N_LATENT))
        self.spread = rng.normal(size=(N_LATENT, E + int(np.prod(VAE))))
        self.values = self.latent @ self.spread + 3
        every = np.arange(N_VOXELS)
        self.own = {"a": every < 45, "b": every >= 12}
        rows, voxels = [], []
        for subject in self.subjects:
            weights = rng.normal(size=(N_LATENT, N_VOXELS))
            for repeat in range(repeats):
                for k in rng.permutation(n):
                    split = "train" if k < n_train else "test"
                    rows.append((subject, 1, len(rows), f"img{k}", repeat, split))
                    x = 0.5 + self.latent[k] @ weights + noise * rng.normal(size=N_VOXELS)
                    voxels.append(np.where(self.own[subject], x, 0))
        names = ["subject", "session", "trial", "image_id", "repeat", "split"]
        self.trials = pd.DataFrame(rows, columns=names)
        self.x = np.array(voxels, np.float32)
        order = np.append(rng.permutation(N_VOXELS), np.full(12, N_VOXELS))
        self._columns = torch.from_numpy(rng.permutation(order).reshape(8, 9))

    def targets(self, folder) -> Targets:
        clip = torch.from_numpy(self.values[:, :E]).float().contiguous()
        vae = torch.from_numpy(self.values[:, E:]).reshape(-1, *VAE).half().contiguous()
        save_file({"clip": clip, "vae": vae}, folder / "targets.safetensors")
        ids = [f"img{k}" for k in range(len(clip))]
        (folder / "image_ids.json").write_text(json.dumps(ids))
        return Targets.load(folder)

    def voxels_at(self, index):
        return self.x[np.asarray(index)].copy()

    def voxels(self, subject, rows):
        return self.voxels_at(np.flatnonzero(self.trials.subject == subject)[rows])

    def columns(self, layout=None):
        return self._columns

    def shape(self, layout=None):
        return tuple(self._columns.shape)

    def cut(self, voxels, layout=None):
        padded = np.append(np.asarray(voxels, np.float32), np.zeros((len(voxels), 1)), axis=1)
        return torch.from_numpy(padded[:, self._columns.numpy()]).float()
