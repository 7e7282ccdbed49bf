"""The small world's pictures: scene graphs, their paintings, captions and questions.

This is the one module others import; the parts live in the scene_*.py files beside it.
"""

from neurovl.datasets.scene_drawing import object_masks, render
from neurovl.datasets.scene_graph import (
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    Category,
    Scene,
    SceneObject,
    relations,
    scene_objects,
)
from neurovl.datasets.scene_sampling import make_scene
from neurovl.datasets.scene_text import captions, questions

__all__ = [
    "BACKGROUNDS", "CATEGORIES", "COLOURS", "Category", "Scene", "SceneObject", "captions",
    "make_scene", "object_masks", "questions", "relations", "render", "scene_objects",
]  # fmt: skip
