"""Toy subjects whose voxels are linear in a latent code that also makes all features of the pictures."""

import numpy as np

from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels

SHAPES = {
    "clip_image": (6,),
    "clip_text": (6,),
    "clip_texts": (3, 6),
    "image_tokens": (5, 6),
    "patch_tokens": (4, 8),
    "text_states": (7, 5),
    "vae": (4, 4, 4),
    "palette": (3, 4, 4),
}
GRID = (5, 6, 5)


class ToyBrains:
    """Two subjects with masks of their own, three repeats, all features of `SHAPES`.

    Attributes
    ----------
    train, test : dict of str to SubjectVoxels
        Single trials by subject; pictures of `test` are in no training trial.
    features : PictureFeatures
    """

    def __init__(self, n_train=120, n_test=40, repeats=3, noise=1.0, seed=0, n_latent=4):
        rng = np.random.default_rng(seed)
        n = n_train + n_test
        ids = [f"img{k:03d}" for k in range(n)]
        latent = rng.normal(size=(n, n_latent))
        arrays = {}
        for name, shape in SHAPES.items():
            made = latent @ rng.normal(size=(n_latent, int(np.prod(shape)))) + 1
            arrays[name] = made.reshape(n, *shape).astype(np.float32)
        self.features = PictureFeatures(ids, arrays)
        self.train, self.test = {}, {}
        for subject in ("subj01", "subj02"):
            mask = rng.random(GRID) < 0.4
            early = np.arange(int(mask.sum())) % 2 == 0
            rois = {"early": early, "ventral": ~early, "lateral": ~early, "parietal": ~early}
            weights = rng.normal(size=(n_latent, int(mask.sum())))
            rows = [(i, r) for r in range(repeats) for i in range(n)]
            pictures, repeat = (np.array(column) for column in zip(*rows, strict=True))
            x = latent[pictures] @ weights + noise * rng.normal(size=(len(rows), int(mask.sum())))
            x = (x - x.mean(0)) / x.std(0)
            every = SubjectVoxels(
                subject, x.astype(np.float16), np.array(ids)[pictures], repeat, mask, rois
            )
            self.train[subject] = every.only(ids[:n_train])
            self.test[subject] = every.only(ids[n_train:])


def identified(said: np.ndarray, true: np.ndarray) -> float:
    """Two-way identification, mean over pictures; chance is one half."""
    from neurovl.metrics import two_way

    return float(two_way(said.reshape(len(said), -1), true.reshape(len(true), -1)).mean())
