"""TAO's prune as a step of a pipeline: folders in, folders out, under the names of its inputs there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..jobs.prune import prune
from .tao import settings


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
    chosen = settings({
        "model": model, "output": target, "normalizer": normalizer, "pruning_threshold": pth,
        "equalization_criterion": equalization_criterion, "pruning_granularity": pruning_granularity,
        "min_num_filters": min_num_filters or None, "network": model_app_name,
        "excluded_layers": excluded_layers,
    })  # fmt: skip
    if not model.is_file():
        raise UsageError(f"there is no model '{model}'")
    result = prune(model, preset="tao", verify=True, **chosen)
    target.parent.mkdir(parents=True, exist_ok=True)
    result.model.save(target)
    left, whole = result.after.parameters, result.before.parameters
    return {"model": str(target), "pruning_ratio": left / whole if whole else 1.0}
