"""A subject that no training saw: what is read of it, and how an encoder takes it in. Imports `run` and what lies below."""
