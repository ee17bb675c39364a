"""The NetsPresso model compressor: its methods, modes and options.

Options, defaults and words are those of PyNetsPresso.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError, unknown_name
from .tao import placed

METHODS = {"PR_L2": "l2", "PR_GM": "fpgm", "PR_NN": "nuclear", "PR_ID": ""}
"""Methods that remove channels, and our criteria."""

OTHERS = {
    "PR_SNP": "its score is not public",
    "FD_TK": "it splits layers in place of removing channels",
    "FD_CP": "it splits layers in place of removing channels",
    "FD_SVD": "it splits layers in place of removing channels",
}
"""Methods that are not to be had here, and why."""

RATIO = 0.5
"""What automatic compression and recommendations remove by default."""

FLAGS = {
    "policy": "--policy",
    "layer_norm": "--normalizer",
    "group_policy": "--group-policy",
    "reshape_channel_axis": "--reshape-channel-axis",
    "step_size": "--granularity",
    "step_op": "--rounding",
}


def arguments(options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Arguments of ``onnxprune prune`` for options of the model compressor, and what a user should know.

    Parameters
    ----------
    options : mapping
        ``model``, ``output``; ``compression_method``, ``recommendation_method`` and its ``ratio``;
        ``values``, a TOML file by layer; ``data``; ``reverse``; the keys of ``FLAGS``. None and what is
        missing are the compressor's defaults.

    Raises
    ------
    UsageError
        If a method or an option is not to be had here.
    """
    method = str(options.get("compression_method") or "PR_L2").upper().replace("-", "_")
    if method in OTHERS:
        raise UsageError(f"compression method {method}: {OTHERS[method]}", f"Here are {', '.join(METHODS)}.")
    if method not in METHODS:
        raise unknown_name("compression method", method, METHODS)
    if options.get("reverse"):
        raise UsageError("reverse: what it means is not public", "Leave it out.")
    recommended = str(options.get("recommendation_method") or "").upper()
    if recommended not in ("", "SLAMP"):
        known = "VBMF ranks decompositions" if recommended == "VBMF" else "nobody knows it"
        raise UsageError(
            f"recommendation method {recommended}: {known}", "For removing channels it is SLAMP."
        )
    given = [
        str(options["model"]),
        "-o",
        placed(str(options["model"]), str(options["output"])),
        "--preset",
        "netspresso",
    ]
    for name, flag in FLAGS.items():
        if options.get(name) is not None:
            given += [flag, str(options[name]).lower()]
    if options.get("data"):
        given += ["--data", str(options["data"]), "--recover", "none"]
    elif method == "PR_NN":
        raise UsageError("PR_NN scores feature maps: found no data", "Give samples with --data.")
    target, notes = _target(method, recommended, options)
    return given + target, notes


def _target(method: str, recommended: str, options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What goes, and by which score."""
    values, ratio = options.get("values"), options.get("ratio")
    if method == "PR_ID":
        if not values or recommended:
            raise UsageError("PR_ID takes indices by layer", "Give them with --values FILE.toml.")
        return ["--remove", str(values)], []
    criterion = ["--criterion", METHODS[method]]
    if values:
        if recommended or ratio is not None:
            raise UsageError("found ratios by layer and a recommendation, expected one of them")
        return [*criterion, "--ratio", str(values)], []
    share = RATIO if ratio is None else ratio
    told = "layer_norm has no effect here: SLAMP has a score of its own"
    notes = [told] if options.get("layer_norm") else []
    slamp = ["--normalizer", "lamp", "--scope", "global", "--ratio", str(share)]
    return [*criterion, *slamp], notes
