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

DASHED = ("criterion", "normalizer", "policy", "group_policy", "rounding", "recover")
"""Settings whose values are names with ``_``."""


def spelled(setting: str, value: Any) -> Any:
    """Our word for a value of a setting; anything else as it is."""
    if not isinstance(value, str) or setting not in DASHED:
        return value
    own = SPELLINGS.get(setting, {})
    plain = value.replace("-", "_")
    if plain in own:
        return own[plain]
    return value if "." in value or ":" in value else plain
