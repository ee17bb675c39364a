"""What a criterion sees: one layer of a group."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coupling.trace import Trace
from ..errors import UsageError
from ..labels.facts import Kernel
from ..labels.vector import Floats


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Stored parameters of a BatchNormalization; ``variance`` includes epsilon."""

    scale: Floats
    bias: Floats
    mean: Floats
    variance: Floats


@dataclass(frozen=True)
class Layer:
    """One layer of a group, or one tensor that the model computes on calibration data.

    Attributes
    ----------
    kernel : Kernel
        The node, its weight, and the axis of the channels.
    computed : array or None
        The computed tensor on one batch, channels first; None for a stored weight.
    """

    trace: Trace
    kernel: Kernel
    seed: int = 0
    computed: npt.NDArray[Any] | None = None

    @cached_property
    def stored(self) -> npt.NDArray[np.floating]:
        """Weight (or computed tensor) as it lies in memory, of shape (before, channels, behind)."""
        array: npt.NDArray[Any] | None = self.computed
        axis = 0
        if array is None:
            decode = self.trace.walk.facts.decoded.get(self.kernel.tensor)
            array = np.asarray(decode() if decode else self.trace.graph.value(self.kernel.tensor))
            axis = self.kernel.axis
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32)
        before, behind = array.shape[:axis], array.shape[axis + 1 :]
        return array.reshape(math.prod(before), array.shape[axis], math.prod(behind))

    @cached_property
    def weight(self) -> npt.NDArray[np.floating]:
        """The same of shape (channels, everything else): mostly a copy where channels are not first."""
        array = np.moveaxis(self.stored, 1, 0)
        return array.reshape(len(array), math.prod(array.shape[1:]))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.trace.walk.shape(self.kernel.tensor)[self.kernel.axis]

    @property
    def activation(self) -> npt.NDArray[np.floating]:
        """What the layer computes on one batch, channels first.

        Raises
        ------
        UsageError
            If the criterion that asks is not registered with ``data=True``.
        """
        if self.computed is None:
            raise UsageError("a criterion that reads activations must be registered with data=True")
        return self.computed.astype(np.result_type(self.computed, np.float32))

    @cached_property
    def batch_norm(self) -> BatchNorm | None:
        """The BatchNormalization that reads the layer's output, if its parameters are stored."""
        graph = self.trace.graph
        for node in graph.consumers.get(self.kernel.node.output, ()):
            names = node.inputs[1:5]
            if node.op == "BatchNormalization" and node.inputs[0] == self.kernel.node.output:
                if not all(map(self.trace.walk.stored, names)):
                    continue
                values = [np.asarray(graph.value(n)).astype(np.float64) for n in names]
                if len(values[0]) == self.channels:
                    scale, bias, mean, variance = values
                    return BatchNorm(scale, bias, mean, variance + node.attr("epsilon", 1e-5))
        return None

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers that depend on the seed and the weight's name alone."""
        return np.random.default_rng([self.seed, zlib.crc32(self.kernel.tensor.encode())])
