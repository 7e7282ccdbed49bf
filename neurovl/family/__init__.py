"""The tiny family, made from scratch on rendered scenes: how each member is trained, scored and described.

May import language (its dialogues), foundation, training, smallworld, metrics and stages; nothing that decodes brains. Commands
and pages alone import it.
"""
