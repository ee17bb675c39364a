"""PyTorch's attention, once it has lost heads. This file needs PyTorch, and is imported by ``modules.py`` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .sizes import Resized


class SlimAttention(nn.MultiheadAttention):
    """``torch.nn.MultiheadAttention`` that has lost heads: its heads are narrower than its inputs together.

    The weights are called as before. PyTorch's own ties the width of all heads to that of the inputs.
    """

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> Any:
        """Attention of ``query`` to ``key`` and ``value``, as PyTorch's own."""
        turned = not self.batch_first and query.dim() == 3
        q, k, v = map(self._heads, self._projected(query, key, value, turned))
        mask = self._mask(attn_mask, key_padding_mask, q.dtype)
        scores = (q * self.slim_scale) @ k.transpose(-2, -1)
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        dropped = nn.functional.dropout(weights, self.dropout, self.training)
        result = (dropped @ v).transpose(-3, -2).flatten(-2)
        result = nn.functional.linear(result, self.out_proj.weight, self.out_proj.bias)
        if turned:
            result = result.transpose(0, 1)
        if not need_weights:
            return result, None
        return result, weights.mean(-3) if average_attn_weights else weights

    def _mask(self, attn_mask: Any, key_padding_mask: Any, dtype: torch.dtype) -> Any:
        """What is added to the scores, shaped to broadcast over them; None for nothing."""
        mask = _added(attn_mask, dtype)
        if mask is not None and mask.dim() == 3:
            mask = mask.reshape(-1, self.num_heads, *mask.shape[1:])
        if key_padding_mask is None:
            return mask
        padded = _added(key_padding_mask, dtype)[..., None, None, :]
        return padded if mask is None else mask + padded

    def _projected(self, query: Any, key: Any, value: Any, turned: bool) -> Iterable[Any]:
        """Channels of q, k and v, the batch first."""
        if key is query and value is query and self.in_proj_weight is not None:
            x = query.transpose(0, 1) if turned else query
            packed = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
            return packed.chunk(3, -1)
        given = [x.transpose(0, 1) if turned else x for x in (query, key, value)]
        return (self._project(x, part) for part, x in enumerate(given))

    def _project(self, x: Any, part: int) -> Any:
        """Channels of q, k or v."""
        if self.in_proj_weight is not None:
            weight = self.in_proj_weight.chunk(3)[part]
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[part]
        bias = self.in_proj_bias.chunk(3)[part] if self.in_proj_bias is not None else None
        return nn.functional.linear(x, weight, bias)

    def _heads(self, x: Any) -> Any:
        """Channels, head by head."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)


def _added(mask: Any, dtype: torch.dtype) -> Any:
    """A mask as what is added to scores: minus infinity where a boolean one is true."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


def lose_heads(part: Any, entries: Mapping[str, Resized]) -> None:
    """PyTorch's attention, once heads are gone."""
    width = part.head_dim
    found = entries.get("in_proj_weight") or entries["q_proj_weight"]
    mask = np.ones(found.before[0], np.bool_)
    if found.rows is not None:
        mask[:] = False
        mask[found.rows] = True
    parts = mask.reshape(-1, width)
    if (parts.all(1) | ~parts.any(1)).all():
        part.num_heads = part.num_heads * found.after[0] // found.before[0]
    else:
        part.head_dim = width * found.after[0] // found.before[0]
    part.slim_scale = width**-0.5
    part.embed_dim, part._qkv_same_embed_dim = entries["out_proj.weight"].after[0], False
    part.__class__ = SlimAttention
