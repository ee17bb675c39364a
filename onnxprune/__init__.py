"""Remove channels from an exported ONNX model, and prove what was done.

    import onnxprune
    result = onnxprune.prune("resnet50.onnx", ratio=0.5, verify=True)
    result.model.save("slim.onnx")

The stages are functions between immutable values, and each is public:
``load -> trace -> score -> select -> rewrite -> verify``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# In a source checkout ``passes/`` is our sibling; in an installed wheel it is our child.
if not (_here := Path(__file__).parent).joinpath("passes").is_dir():
    __path__.append(str(_here.parent))

if TYPE_CHECKING:
    from .errors import BudgetError as BudgetError
    from .errors import ModelError as ModelError
    from .errors import OnnxPruneError as OnnxPruneError
    from .errors import PlanError as PlanError
    from .errors import SurgeryError as SurgeryError
    from .errors import UsageError as UsageError
    from .groups import Group as Group
    from .jobs_clean import clean as clean
    from .jobs_explain import explain as explain
    from .loading import load as load
    from .log import Log as Log
    from .model import Model as Model
    from .pipeline import prune as prune
    from .plan import Plan as Plan
    from .registry import criterion as criterion
    from .registry import normalizer as normalizer
    from .registry import policy as policy
    from .report import Report as Report
    from .result import Result as Result
    from .scoring import score as score
    from .select import select as select
    from .staged import rewrite as rewrite
    from .trace import Trace as Trace
    from .trace import trace as trace
    from .verify import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "cleaning": ("Log", "clean"),
    "errors": (
        "BudgetError", "ModelError", "OnnxPruneError", "PlanError", "SurgeryError", "UsageError",
    ),
    "explain": ("explain",),
    "groups": ("Group",),
    "loading": ("load",),
    "model": ("Model",),
    "pipeline": ("Result", "prune"),
    "plan": ("Plan",),
    "registry": ("criterion", "normalizer", "policy"),
    "rewrite": ("rewrite",),
    "scoring": ("score",),
    "select": ("select",),
    "trace": ("Trace", "trace"),
    "verify": ("Report", "verify"),
}  # fmt: skip

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_MODULE_OF, "__version__"])


class _Package(ModuleType):
    """Keeps ``onnxprune.verify`` the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import onnxprune`` loads nothing heavy."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'onnxprune' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
