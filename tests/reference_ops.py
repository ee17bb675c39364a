"""Reference implementations of operators that onnxruntime runs on CUDA alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun

Array = npt.NDArray[np.float32]


class Contributed(OpRun):
    """An operator of com.microsoft."""

    op_domain = "com.microsoft"


def gelu(x: Array) -> Array:
    """Gelu by the hyperbolic tangent; which form is used makes no difference to the tests."""
    y: Array = (0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x**3))).astype(x.dtype)
    return y


def softmax(x: Array) -> Array:
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)
    return y


class BiasAdd(Contributed):
    def _run(self, x: Array, bias: Array, skip: Array) -> tuple[Array]:
        return (x + bias + skip,)


class BiasDropout(Contributed):
    def _run(self, x: Array, bias: Array, residual: Array, *_: Any, **__: Any) -> tuple[Array]:
        return (x + bias + residual,)


class BiasSplitGelu(Contributed):
    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        left, right = np.split(x + bias, 2, axis=-1)
        return (left * gelu(right),)


class BiasSoftmax(Contributed):
    def _run(self, x: Array, bias: Array, axis: int = -1, is_inner_broadcast: int = 0) -> tuple[Array]:
        return (softmax(x + bias),)


class GemmFastGelu(Contributed):
    def _run(self, x: Array, W: Array, bias: Array) -> tuple[Array]:
        return (gelu(x @ W + bias),)


class TorchEmbedding(Contributed):
    def _run(self, W: Array, indices: Any, *_: Any) -> tuple[Array]:
        return (W[indices],)


def pointwise_conv(x: Array, W: Array, group: int) -> Array:
    """A convolution [N, H, W, C] with kernels of size 1."""
    parts = zip(np.split(x, group, axis=-1), np.split(W[:, :, 0, 0], group), strict=True)
    return np.concatenate([a @ w.T for a, w in parts], axis=-1).astype(x.dtype)


class NhwcConv(Contributed):
    def _run(self, x: Array, W: Array, B: Array, group: int = 1) -> tuple[Array]:
        return (pointwise_conv(x, W, group or 1) + B,)


class NhwcFusedConv(Contributed):
    def _run(
        self, x: Array, W: Array, B: Array, Z: Array, group: int = 1, activation: str = ""
    ) -> tuple[Array]:
        return (np.maximum(pointwise_conv(x, W, group or 1) + B + Z, 0),)


class GroupNorm(Contributed):
    def _run(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        groups: int = 1,
        activation: int = 0,
        channels_last: int = 1,
    ) -> tuple[Array]:
        blocks = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
        mean = blocks.mean(axis=(1, 3), keepdims=True)
        spread = np.sqrt(blocks.var(axis=(1, 3), keepdims=True) + 1e-5)
        return ((((blocks - mean) / spread).reshape(x.shape) * gamma + beta).astype(x.dtype),)


class SkipGroupNorm(Contributed):
    def _run(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        skip: Array,
        bias: Array,
        groups: int = 1,
        activation: int = 0,
        channels_last: int = 1,
    ) -> tuple[Array, Array]:
        total = x + skip.reshape(len(x), 1, 1, -1) + bias
        return (*GroupNorm._run(None, total, gamma, beta, groups), total)  # type: ignore[arg-type]


class MultiHeadAttention(Contributed):
    """Packed layouts [batch, steps, heads, 2 or 3, size] only."""

    def _run(
        self,
        q: Array,
        k: Array | None = None,
        v: Array | None = None,
        *_: Any,
        num_heads: int = 1,
        scale: float = 0.0,
    ) -> tuple[Array]:
        if k is None:
            q, k, v = (q[:, :, :, i] for i in range(3))
        else:
            q = q.reshape(*q.shape[:2], num_heads, -1)
            k, v = k[:, :, :, 0], k[:, :, :, 1]
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) * (scale or q.shape[-1] ** -0.5)
        y = np.einsum("bhqk,bkhd->bqhd", softmax(scores), v)
        return (y.reshape(*y.shape[:2], -1).astype(q.dtype),)


class RelativePositionBias(Contributed):
    """Buckets are distances; how they are counted makes no difference to the tests."""

    def _run(self, table: Array, queries: Any, keys: Any, max_distance: int = 0) -> tuple[Array]:
        steps = np.abs(np.arange(int(queries))[:, None] - np.arange(int(keys)))
        return (table[steps].transpose(2, 0, 1)[None],)


class NhwcMaxPool(Contributed):
    """Windows of size 2 only."""

    def _run(self, x: Array, kernel_shape: Any = (), strides: Any = ()) -> tuple[Array]:
        n, h, w, c = x.shape
        return (x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4)),)


class QLinearReduceMean(Contributed):
    def _run(
        self, x: Any, scale: Array, zero: Any, y_scale: Array, y_zero: Any, axes: Any = (), keepdims: int = 1
    ) -> tuple[Any]:
        numbers = (x.astype(np.float32) - zero) * scale
        mean = numbers.mean(axis=tuple(axes), keepdims=bool(keepdims))
        return (np.clip(np.rint(mean / y_scale) + y_zero, 0, 255).astype(np.uint8),)


OPERATORS: list[type[OpRun]] = [
    BiasAdd, BiasDropout, BiasSplitGelu, BiasSoftmax, GemmFastGelu, TorchEmbedding, NhwcConv,
    NhwcFusedConv, GroupNorm, SkipGroupNorm, MultiHeadAttention, RelativePositionBias, NhwcMaxPool,
    QLinearReduceMean,
]  # fmt: skip
