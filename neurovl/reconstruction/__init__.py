"""Pictures from embeddings. Imports foundation and what lies below; never language, localization or `run`."""
