"""Words of other tools for values of settings, accepted wherever a value is given.

A word that differs from ours in ``-`` and ``_`` alone needs no entry.
"""

from __future__ import annotations

from typing import Any

SPELLINGS: dict[str, dict[str, str]] = {
    "criterion": {"L2": "l2", "PR_L2": "l2", "PR_GM": "fpgm", "PR_NN": "nuclear"},
    "normalizer": {"off": "none", "L2": "tao_l2", "tss_norm": "tss", "softmax_norm": "softmax"},
    "rounding": {"round_up": "up", "round_down": "down", "round": "nearest"},
}
"""Setting -> word of NVIDIA TAO or NetsPresso -> ours. TAO's normalizer ``L2`` is not our ``l2``: it
multiplies by the number of filters, too."""


def spelled(setting: str, value: Any) -> Any:
    """Our word for a value of a setting; anything else as it is."""
    known = SPELLINGS.get(setting, {})
    return known.get(value.replace("-", "_"), value) if isinstance(value, str) else value
