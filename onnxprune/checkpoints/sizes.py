"""Sizes that modules hold as attributes, from the shapes of their weights before and after.

Pure Python over names and shapes: nothing here needs PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]

HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
"""What modules call their number of heads."""

HEAD_WIDTHS = ("head_dim", "attention_head_size", "dim_head", "d_head", "d_k", "key_dim", "val_dim")
"""What modules call the width of one head."""

ALL_HEADS = (
    "attn_dim",
    "attention_dim",
    "all_head_size",
    "inner_dim",
    "d_attn",
    "key_attn_dim",
    "val_attn_dim",
)
"""What modules call the width of all heads together."""

PROJECTIONS = re.compile(
    r"(^|[._])(?P<what>q|k|v|kv|qk|qkv|query|key|value)(_?(proj|lin|bias))?(\.\w+)*[._](weight|in_proj_weight)$"
)
"""Weights whose first axis are the channels of all heads, also those of layers inside of such a module."""

TOGETHER = {"kv": 2, "qk": 2, "qkv": 3}
"""How many projections one weight makes."""


@dataclass(frozen=True)
class Resized:
    """Shape of one entry before and after, and its kept rows.

    Attributes
    ----------
    rows : int array or None
        Kept indices of axis 0; None where all are kept.
    """

    before: Shape
    after: Shape
    rows: np.ndarray | None


def heads_left(heads: int, entries: Mapping[str, Resized]) -> tuple[int, int, int] | None:
    """Number of heads, and width of a head before and after, of a module with projections to heads.

    Parameters
    ----------
    entries : mapping
        Entries of the module, by names relative to it.

    Returns
    -------
    (heads, before, after), or None where nothing of the heads goes or the projections disagree. The
    widths are those of q, k and v together where one weight makes all three.
    """
    found = set()
    for name, entry in entries.items():
        projection = PROJECTIONS.search(name)
        if not projection or entry.before[0] % heads:
            continue
        width = entry.before[0] // heads
        if entry.rows is None:
            found.add((heads, width, width))
            continue
        together = TOGETHER.get(projection["what"], 1)
        part = width // together if width % together == 0 else width
        mask = np.zeros(entry.before[0], np.bool_)
        mask[entry.rows] = True
        parts = mask.reshape(-1, part)
        whole = (parts.all(1) | ~parts.any(1)).all()
        if whole and (heads * entry.after[0]) % entry.before[0] == 0:
            found.add((heads * entry.after[0] // entry.before[0], width, width))
        elif entry.after[0] % heads == 0:
            found.add((heads, width, entry.after[0] // heads))
        else:
            return None
    if len({(after, before == width) for after, before, width in found}) != 1:
        return None
    return found.pop()


def sizes_left(entries: Mapping[str, Resized], own: Sequence[str]) -> Iterator[dict[int, int]]:
    """Old size -> new size, where that is one: of a module's own entries first, then of all below it."""
    for names in (own, list(entries)):
        known: dict[int, set[int]] = {}
        for name in names:
            entry = entries[name]
            for before, after in zip(entry.before, entry.after, strict=True):
                known.setdefault(before, set()).add(after)
        yield {before: after.pop() for before, after in known.items() if len(after) == 1}


def group_count(groups: int, before: int, rows: np.ndarray | None) -> int:
    """Groups of a GroupNorm once some channels are gone: whole groups go, or every group gets smaller."""
    if rows is None:
        return groups
    counts = np.bincount(rows // (before // groups), minlength=groups)
    return int((counts > 0).sum())
