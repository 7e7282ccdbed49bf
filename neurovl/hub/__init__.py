"""For others: encoders as folders ready for the hub, with a model card, the way back to embeddings of anybody's volumes; maps.

May import `run` and what lies below.
"""

from neurovl.hub.folder import export_encoder, push_encoder
from neurovl.hub.published import PublishedEncoder, load_published
from neurovl.hub.statmaps import export_maps

__all__ = ["PublishedEncoder", "export_encoder", "export_maps", "load_published", "push_encoder"]
