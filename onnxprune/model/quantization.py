"""What quantised numbers stand for."""

from __future__ import annotations

import numpy as np

MICROSOFT = "com.microsoft"


def dequantize(
    x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None, axis: int = 0, block: int = 0
) -> np.ndarray:
    """Numbers that quantised values stand for.

    Parameters
    ----------
    scale, zero : numpy.ndarray
        One number, one for each index of ``axis``, one for each block of them, or any shape that
        broadcasts against ``x``.
    block : int
        Number of indices that share an entry; 0 where ``scale`` holds no blocks.
    """
    values = x.astype(np.float32)
    if zero is not None:
        values -= _spread(zero.astype(np.float32), x.shape, axis, block)
    dtype = scale.dtype if scale.dtype.kind == "f" else np.float32
    return (values * _spread(scale.astype(np.float32), x.shape, axis, block)).astype(dtype)


def quantize(x: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 0, block: int = 0) -> np.ndarray:
    """Integers that stand for numbers, of the type of ``zero``; other arguments as above."""
    steps = np.rint(x.astype(np.float32) / _spread(scale.astype(np.float32), x.shape, axis, block))
    limits = np.iinfo(zero.dtype)
    shifted = steps + _spread(zero.astype(np.float32), x.shape, axis, block)
    return np.clip(shifted, limits.min, limits.max).astype(zero.dtype)


def _spread(vector: np.ndarray, shape: tuple[int, ...], axis: int, block: int) -> np.ndarray:
    """Scales in a shape that broadcasts against the quantised tensor."""
    if vector.size == 1:
        return vector.reshape(())
    if block:
        window = (slice(None),) * (axis % len(shape)) + (slice(shape[axis]),)
        return np.repeat(vector, block, axis)[window]
    if vector.ndim > 1:
        return vector
    return vector.reshape([-1 if k == axis % len(shape) else 1 for k in range(len(shape))])


def unpack(data: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned integers of 2, 4 or 8 bits from the bytes of the last axis, lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (data[..., None] >> shifts) & np.uint8(2**bits - 1)
    return parts.reshape(*data.shape[:-1], -1)


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Bytes of unsigned integers along the last axis: the inverse of ``unpack``."""
    each = 8 // bits
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % each)]
    parts = np.pad(values, padding).reshape(*values.shape[:-1], -1, each)
    shifted = parts << np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(shifted, axis=-1))
