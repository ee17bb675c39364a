"""What a model costs: parameters, multiply-accumulate operations, bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from onnx import TensorProto

from .model import Model, payload
from .sizes import Sizes
from .trace import Trace

NOT_PARAMETERS = {TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a model.

    Attributes
    ----------
    parameters : int
        Stored numbers, without indices, masks and sizes.
    macs : int
        Multiply-accumulate operations of convolutions and matrix products, at the first sample
        setting of free dimensions; a loop body counts as one iteration, a condition as all of
        its branches.
    bytes : int
        File size, external data included.
    """

    parameters: int
    macs: int
    bytes: int

    def to_dict(self) -> dict[str, int]:
        """As JSON types."""
        return asdict(self)


def parameters(traced: Trace, sizes: Sizes) -> int:
    """Stored numbers in one view of the sizes; a tensor with several names counts once."""
    return sum(n for dtype, n in _stored(traced, sizes).values() if dtype not in NOT_PARAMETERS)


def stored_bytes(traced: Trace, sizes: Sizes) -> int:
    """Bytes of all stored tensors in one view of the sizes."""
    return sum(payload(dtype, n) for dtype, n in _stored(traced, sizes).values())


def _stored(traced: Trace, sizes: Sizes) -> dict[str, tuple[int, int]]:
    """Element type and count of every stored tensor; of its largest part where uses differ."""
    largest: dict[str, tuple[int, int]] = {}
    for name, constant in traced.graph.constants.items():
        count = sizes.numel(name) if name in traced.walk.axes else constant.size
        if count > largest.get(constant.name, (0, -1))[1]:
            largest[constant.name] = constant.dtype, count
    return largest


def macs(traced: Trace, sizes: Sizes) -> int:
    """Multiply-accumulate operations in one view of the sizes."""
    return sum(cost(sizes) for _, cost in traced.walk.facts.costs)


def cost(traced: Trace, sizes: Sizes, model: Model) -> Cost:
    """Cost of the original or of a slim model."""
    return Cost(parameters(traced, sizes), macs(traced, sizes), model.nbytes())
