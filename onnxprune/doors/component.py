"""TAO's prune as a step of a pipeline: folders in, folders out, under the names of its inputs there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..jobs.prune import prune
from ..selection.cost import Cost
from .tao import arguments, listed

SETTINGS = {
    "--normalizer": ("normalizer", str),
    "--policy": ("policy", str),
    "--granularity": ("granularity", int),
    "--threshold": ("threshold", float),
    "--min-channels": ("min_channels", int),
}
"""Flags of ours, and the settings and types of their values."""


def prune_folder(
    unpruned_model_dir: str,
    pruned_model_dir: str,
    *,
    model_app_name: str = "",
    unprunned_model_subfolder: str = "",
    unprunned_model_name: str = "model.onnx",
    prunned_model_subfolder: str = "",
    prunned_model_name: str = "",
    key: str = "",
    equalization_criterion: str = "union",
    pth: float = 0.1,
    normalizer: str = "max",
    excluded_layers: str = "",
    pruning_granularity: int = 8,
    min_num_filters: int = 0,
) -> dict[str, Any]:
    """Prune one model of a folder into another folder, which is made.

    Parameters
    ----------
    model_app_name : str
        TAO's name of the kind of network; it decides about a default alone.
    unprunned_model_name, prunned_model_name : str
        Files; the second is called like the first by default.
    key : str
        Not used: it opens files that only TAO reads.
    excluded_layers : str
        Names, with commas or spaces between them.
    min_num_filters : int
        0 for TAO's default.

    Returns
    -------
    ``model``, the file that was written, and ``pruning_ratio``, the parameters left over those before.

    Raises
    ------
    UsageError
        If there is no such model, it is none of ONNX, or a value is impossible.
    SurgeryError
        If the result fails the checks; nothing is written then.
    """
    model = Path(unpruned_model_dir, unprunned_model_subfolder, unprunned_model_name)
    name = prunned_model_name or model.name
    target = Path(pruned_model_dir, prunned_model_subfolder, name if "." in name else f"{name}.onnx")
    given, _ = arguments({
        "model": model, "output": target, "normalizer": normalizer, "pruning_threshold": pth,
        "equalization_criterion": equalization_criterion, "pruning_granularity": pruning_granularity,
        "min_num_filters": min_num_filters or None, "network": model_app_name, "key": key,
    })  # fmt: skip
    if not model.is_file():
        raise UsageError(f"there is no model '{model}'")
    settings: dict[str, Any] = {"exclude": listed(excluded_layers)}
    for flag, value in pairwise(given):
        if flag in SETTINGS:
            setting, kind = SETTINGS[flag]
            settings[setting] = kind(value)
    result = prune(model, preset="tao", verify=True, **settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    result.model.save(target)
    return {"model": str(target), "pruning_ratio": _ratio(result.before, result.after)}


def _ratio(before: Cost, after: Cost) -> float:
    return after.parameters / before.parameters if before.parameters else 1.0
