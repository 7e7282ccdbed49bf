"""Simulated subjects who see rendered scenes: brains, responses and files as NSD has them."""

from neurovl.datasets.simulation.subjects import simulate, truth

__all__ = ["simulate", "truth"]
