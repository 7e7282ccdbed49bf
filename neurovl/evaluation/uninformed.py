"""Brains that hold nothing of a picture: what decoding and confidence must come to nothing on."""

import numpy as np

SCRAMBLED, NOISE = UNINFORMED = ("scrambled", "noise")


def uninformed(kind: str, voxels: np.ndarray, measured: np.ndarray, seed: int) -> np.ndarray:
    """Volumes like given ones in the size of their values, without a picture in them, float32 (n, V).

    Parameters
    ----------
    kind : str
        'scrambled': each volume's own values, permuted among the voxels that the subject measured; 'noise': white noise with
        the volumes' standard deviation.
    voxels : array, shape (n, V)
        z-scores.
    measured : bool array, shape (V,)
    seed : int
    """
    rng, out = np.random.default_rng([seed, 61]), np.zeros(voxels.shape, np.float32)
    own = voxels[:, measured]
    out[:, measured] = (
        rng.permuted(own, axis=1)
        if kind == SCRAMBLED
        else own.std() * rng.standard_normal(own.shape)
    )
    return out
