"""Readers of data sets, converters to a table, download, and the simulated data set."""
