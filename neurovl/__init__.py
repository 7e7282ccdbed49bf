"""Brain recordings to language and pictures: one Vision Transformer 3D for every subject.

What may be imported from here stands in ``__init__.pyi``, which editors and type checkers read too. Each name is imported
when it is first used, so that `import neurovl` is instant.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
