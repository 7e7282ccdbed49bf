"""The small world's pictures: scene graphs, their paintings, captions and questions.

May import errors alone. Others import this module, and grammar.
"""

from neurovl.smallworld.scenes.drawing import object_masks, render
from neurovl.smallworld.scenes.graph import (
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    Category,
    Scene,
    SceneObject,
    relations,
    scene_objects,
)
from neurovl.smallworld.scenes.sampling import make_scene
from neurovl.smallworld.scenes.text import captions, questions

__all__ = [
    "BACKGROUNDS",
    "CATEGORIES",
    "COLOURS",
    "Category",
    "Scene",
    "SceneObject",
    "captions",
    "make_scene",
    "object_masks",
    "questions",
    "relations",
    "render",
    "scene_objects",
]
