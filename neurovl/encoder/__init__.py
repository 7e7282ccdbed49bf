"""The decoder of all subjects: ViT3D, its linear readout, targets, batches, training, variants. Imports training, tokens and what lies below."""
