"""All systems of the comparison under one protocol: what they make of the test pictures, its scores, and their ranks.

Imports `evaluation`, `run`, `baselines` and what lies below.
"""
