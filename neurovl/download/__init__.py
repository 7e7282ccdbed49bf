"""Bringing files from a server into a folder; knows servers, ranges and checksums, and no data set.

Imports errors, files and locks alone.
"""
