"""What a model costs: parameters, multiply-accumulate operations, bytes.

Every cost is a sum of terms, one per stored tensor or node, so that what changes with a group of
channels can be counted anew by itself (see ``meter.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from onnx import TensorProto

from ..coupling.trace import Trace
from ..labels.sizes import SizeView
from ..model.file import Model, payload
from ..surgery.computed import Computed, find_computed

NOT_PARAMETERS = {TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}

Term = Callable[[SizeView], int]


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


def mac_terms(traced: Trace) -> list[Term]:
    """Multiply-accumulate operations of every node that has some."""
    return [cost for _, cost in traced.walk.facts.costs]


def parameter_terms(traced: Trace) -> list[Term]:
    """Stored numbers of every tensor; one with several names counts once."""
    return [count for dtype, count in _stored(traced) if dtype not in NOT_PARAMETERS]


def byte_terms(traced: Trace) -> list[Term]:
    """Bytes of every stored tensor."""
    return [partial(_bytes, dtype, count) for dtype, count in _stored(traced)]


def _bytes(dtype: int, count: Term, sizes: SizeView) -> int:
    return payload(dtype, count(sizes))


def _stored(traced: Trace) -> list[tuple[int, Term]]:
    """Element type and count of every stored tensor; of its largest part where uses differ."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, constant in traced.graph.constants.items():
        names[constant.name].append(name)
    found: list[tuple[int, Term]] = []
    for computed in find_computed(traced).values():
        if computed.replaces:
            found.append((computed.dtype, partial(_stored_once_cut, computed)))
            for root in computed.roots:
                found.append((root.dtype, partial(_stored_until_cut, computed, root.size)))
                del names[root.name]
    for uses in names.values():
        constant = traced.graph.constants[uses[0]]
        cut = [name for name in uses if name in traced.walk.axes]
        least = 0 if len(cut) == len(uses) else constant.size
        found.append((constant.dtype, partial(_largest, cut, least)))
    return found


def _stored_once_cut(computed: Computed, sizes: SizeView) -> int:
    left = sizes.numel(computed.name)
    return left if left < computed.size else 0


def _stored_until_cut(computed: Computed, size: int, sizes: SizeView) -> int:
    return size if sizes.numel(computed.name) == computed.size else 0


def _largest(names: list[str], least: int, sizes: SizeView) -> int:
    return max(least, *map(sizes.numel, names)) if names else least


def parameters(traced: Trace, sizes: SizeView) -> int:
    """Stored numbers in one view of the sizes."""
    return sum(term(sizes) for term in parameter_terms(traced))


def stored_bytes(traced: Trace, sizes: SizeView) -> int:
    """Bytes of all stored tensors in one view of the sizes."""
    return sum(term(sizes) for term in byte_terms(traced))


def macs(traced: Trace, sizes: SizeView) -> int:
    """Multiply-accumulate operations in one view of the sizes."""
    return sum(term(sizes) for term in mac_terms(traced))


def cost(traced: Trace, sizes: SizeView, model: Model) -> Cost:
    """Cost of the original or of a slim model."""
    return Cost(parameters(traced, sizes), macs(traced, sizes), model.nbytes())
