"""Published decoders to compare with: one file a system, one interface (fit, predict).

Imports recordings and the ground; never `run`.
"""
