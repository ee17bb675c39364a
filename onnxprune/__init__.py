"""Remove channels from an exported ONNX model, and prove what was done.

    import onnxprune
    result = onnxprune.prune("resnet50.onnx", ratio=0.5, verify=True)
    result.model.save("slim.onnx")

The stages are functions between immutable values, and each is public:
``load -> trace -> score -> select -> rewrite -> verify``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a source checkout ``passes/`` is our sibling; in an installed wheel it is our child.
if not (_here := Path(__file__).parent).joinpath("passes").is_dir():
    __path__.append(str(_here.parent))

if TYPE_CHECKING:
    from .checks.report import Report as Report
    from .cleanup.log import Log as Log
    from .coupling.groups import Group as Group
    from .coupling.trace import Trace as Trace
    from .coupling.trace import trace as trace
    from .errors import BudgetError as BudgetError
    from .errors import ModelError as ModelError
    from .errors import OnnxPruneError as OnnxPruneError
    from .errors import PlanError as PlanError
    from .errors import SurgeryError as SurgeryError
    from .errors import UsageError as UsageError
    from .jobs.clean import clean as clean
    from .jobs.explain import explain as explain
    from .jobs.prune import prune as prune
    from .jobs.quantize import quantize as quantize
    from .jobs.replay import rewrite as rewrite
    from .jobs.retrained import verify_retrained as verify_retrained
    from .jobs.verify import verify as verify
    from .model.file import Model as Model
    from .model.loading import load as load
    from .reports.result import Result as Result
    from .scoring.registry import criterion as criterion
    from .scoring.registry import metric as metric
    from .scoring.registry import normalizer as normalizer
    from .scoring.registry import policy as policy
    from .scoring.score import score as score
    from .selection.decide import select as select
    from .selection.plan import Plan as Plan

__version__ = "0.2.0"

_HOMES = {
    "checks.report": ("Report",),
    "cleanup.log": ("Log",),
    "coupling.groups": ("Group",),
    "coupling.trace": ("Trace", "trace"),
    "errors": ("BudgetError", "ModelError", "OnnxPruneError", "PlanError", "SurgeryError", "UsageError"),
    "jobs.clean": ("clean",),
    "jobs.explain": ("explain",),
    "jobs.prune": ("prune",),
    "jobs.quantize": ("quantize",),
    "jobs.replay": ("rewrite",),
    "jobs.retrained": ("verify_retrained",),
    "jobs.verify": ("verify",),
    "model.file": ("Model",),
    "model.loading": ("load",),
    "reports.result": ("Result",),
    "scoring.registry": ("criterion", "metric", "normalizer", "policy"),
    "scoring.score": ("score",),
    "selection.decide": ("select",),
    "selection.plan": ("Plan",),
}

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_MODULE_OF, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import onnxprune`` loads nothing heavy."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'onnxprune' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
