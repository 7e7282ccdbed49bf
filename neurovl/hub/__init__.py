"""Encoders for others: a folder ready for the hub, its model card, and the way back to embeddings of anybody's volumes.

May import `run` and what lies below.
"""

from neurovl.hub.folder import export_encoder, push_encoder
from neurovl.hub.published import PublishedEncoder, load_published

__all__ = ["PublishedEncoder", "export_encoder", "load_published", "push_encoder"]
