"""Simulated subjects who see rendered scenes: brains, responses and files as NSD has them.

May import scenes, recordings and errors.
"""

from neurovl.smallworld.subjects.known_model import known_model
from neurovl.smallworld.subjects.simulation import simulate, truth

__all__ = ["known_model", "simulate", "truth"]
