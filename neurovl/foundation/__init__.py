"""Foundation models, loaded and used: CLIP, VAE, unCLIP, the language model, the metric networks, the annotators.

May import training (its devices), and of what lies below that smallworld (SceneNet's names), settings and errors. Makes no
model: that is family's.
"""
