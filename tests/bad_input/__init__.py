"""A corpus of broken inputs: healthy data sets, ways to break them, the cases, and one judge for all."""
