"""Passes by name: criteria, normalizers and policies, one idea per file.

Every module of this package is imported with it, and registers what it holds.
"""

import importlib
import pkgutil

from onnxprune.errors import blamed

for _module in pkgutil.iter_modules(__path__):
    with blamed(f"pass '{_module.name}'"):
        importlib.import_module(f"{__name__}.{_module.name}")
