"""Single-trial betas, masks and regions on disk: series of volumes, streamed, on any grid."""

from neurovl.recordings.betas.stream import Betas, open_betas

__all__ = ["Betas", "open_betas"]
