"""What can be set in a run, and how profiles are read. Imports errors alone."""
