"""Maps of concepts and of what each head reads. Imports encoder and what lies below; never language, reconstruction or `run`."""
