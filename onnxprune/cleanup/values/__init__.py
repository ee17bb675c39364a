"""What the channels of a model can be: bounds per channel, through every operator.

``analyse_values`` runs over the same labels and in the same order as the walk of the rules. For
each axis of each tensor it holds the least and the greatest value of every slice, so a channel is
*zero*, *constant* or *anything* in one representation, and a range that is assumed of an input is
only another start. One file per operator family, one function per behaviour (``values(v, n)``).

A rule here answers two questions: which values do the outputs have, and along which axes of the
inputs does the operator *mix* entries, so that one of them acts on the others. An operator without
a rule gives anything and mixes everything; removing an entry that is not zero then changes the
answer, and it stays.
"""

from __future__ import annotations

import importlib
import pkgutil

from .analysis import analyse_values
from .registry import VALUE_RULES, find_values, values
from .state import Mix, Values

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["VALUE_RULES", "Mix", "Values", "analyse_values", "find_values", "values"]
