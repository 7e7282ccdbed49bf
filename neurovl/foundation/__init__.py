"""CLIP, VAE, unCLIP, language model, metric networks, annotators: loaded by hub id, folder or 'tiny'. Trains nothing."""
