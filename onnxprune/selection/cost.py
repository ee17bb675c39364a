"""What a model costs: parameters, multiply-accumulate operations, bytes.

Every cost is a sum of terms, one per stored tensor or node, so that what changes with a group of
channels can be counted anew by itself (see ``meter.py``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

from onnx import TensorProto

from ..coupling.trace import Trace
from ..labels.sizes import SizeView, Term
from ..labels.vector import NONE
from ..model.cut import payload
from ..model.file import Model
from ..model.node import Constant
from ..surgery.computed import Computed, find_computed
from ..surgery.slices import uses_of

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
    """Element type and count of every stored tensor, of all its versions where uses differ."""
    constants, uses = traced.graph.constants, uses_of(traced.graph)
    roots = {constant.name: constant for constant in constants.values()}
    found: list[tuple[int, Term]] = []
    for computed in find_computed(traced).values():
        if computed.replaces:
            found.append((computed.dtype, partial(_stored_once_cut, computed)))
            for root in computed.roots:
                found.append((root.dtype, partial(_stored_until_cut, computed, root.size)))
                del roots[root.name]
    for root in roots.values():
        found.append((root.dtype, _count(traced, root, dict.fromkeys(name for *_, name in uses[root.name]))))
    return found


def _count(traced: Trace, stored: Constant, names: Iterable[str]) -> Term:
    """Elements of a stored tensor that is read by some names; those of the same units count once."""
    units = [components.unit for components in traced.resolutions]
    found: dict[Hashable, str] = {}
    for name in names:
        axes = [v for v in traced.walk.axes.get(name, ()) if v is not None]
        key = tuple([v is NONE or unit[v].tobytes() for v in axes for unit in units])
        found.setdefault(key, name)
    if not found or (len(found) == 1 and not next(iter(found))):
        return partial(_fixed, stored.size)
    if len(found) == 1:
        return partial(_elements, next(iter(found.values())))
    return partial(_versions, tuple(found.values()), stored.size)


def _fixed(count: int, sizes: SizeView) -> int:
    return count


def _elements(name: str, sizes: SizeView) -> int:
    return sizes.numel(name)


def _versions(names: tuple[str, ...], whole: int, sizes: SizeView) -> int:
    """All versions of a stored tensor; a name without labels reads the whole."""
    kept = {version: sizes.numel(name) for name in names if (version := sizes.version(name)) is not None}
    return sum(kept.values()) + whole * any(sizes.version(name) is None for name in names)


def _stored_once_cut(computed: Computed, sizes: SizeView) -> int:
    left = sizes.numel(computed.name)
    return left if left < computed.size else 0


def _stored_until_cut(computed: Computed, size: int, sizes: SizeView) -> int:
    return size if sizes.numel(computed.name) == computed.size else 0


def parameters(traced: Trace, sizes: SizeView) -> int:
    """Stored numbers in one view of the sizes."""
    return sum(term(sizes) for term in parameter_terms(traced))


def macs(traced: Trace, sizes: SizeView) -> int:
    """Multiply-accumulate operations in one view of the sizes."""
    return sum(term(sizes) for term in mac_terms(traced))


def cost(traced: Trace, sizes: SizeView, model: Model) -> Cost:
    """Cost of the original or of a slim model."""
    return Cost(parameters(traced, sizes), macs(traced, sizes), model.nbytes())
