"""Simulated subjects who see rendered scenes: brains, responses and files as NSD has them.

May import scenes, recordings and errors.
"""

from neurovl.smallworld.subjects.simulation import simulate, truth

__all__ = ["simulate", "truth"]
