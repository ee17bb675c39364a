"""The rules: what every operator does to labels, sizes and costs.

One file per operator family, one function per behaviour, stacked names. A rule is a function
``rule(c, n)`` of the walk and a node: it reads labels, records facts, and sets the labels of the
outputs. Names in rules are the operator schema's own, so a rule reads against the ONNX page. The
first line of its docstring is what ``onnxprune ops`` prints.

To add one: write it beside its family, register it, add a case to the table of that family in ``tests/``.
"""

from __future__ import annotations

import importlib
import pkgutil

from .registry import RULES, Rule, find, rule

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["RULES", "Rule", "find", "rule"]
