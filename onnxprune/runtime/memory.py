"""Whether sessions fit into memory: said before the machine swaps, or ends the process without a word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

from onnx import TensorProto

from ..errors import UnusableError
from ..model.cut import payload, tensor_nbytes
from ..model.external import region
from ..model.file import Model
from ..model.protos import reads

CGROUP = Path("/sys/fs/cgroup")
"""Where limits of a container stand, if it has some."""


def free() -> float:
    """Bytes of memory that can be taken, as far as the system tells; infinite where it does not."""
    found = [inf]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        most, taken = (
            int((CGROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current")
        )
        lines = (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        pages = sum(
            int(line.split()[1]) for line in lines if line.split()[0] in ("inactive_file", "active_file")
        )
        found.append(most - taken + pages)
    return min(found)


def taken(models: Iterable[Model]) -> int:
    """Bytes that sessions take at least: of weights that they cannot read where they lie."""
    found: dict[object, int] = {}
    for model in models:
        for tensor, size in _copied(model):
            # What both read from a file alike is copied once.
            owner = model.files if tensor.external_data else model
            found[id(owner), region(tensor, model.cuts.get(tensor.name))] = size
    return sum(found.values())


def taken_by_one(model: Model) -> int:
    """The same of the node that takes the most, where no two are open at the same time."""
    sizes = {tensor.name: size for tensor, size in _copied(model)}
    nodes = model.proto.graph.node
    return max((sum(sizes.get(name, 0) for name in set(reads(node))) for node in nodes), default=0)


def _copied(model: Model) -> Iterator[tuple[TensorProto, int]]:
    """Weights that a session cannot read where they lie, and how large they are."""
    for tensor in model.proto.graph.initializer:
        place = model.place(tensor)
        if place is None or place[1] % payload(tensor.data_type, 1):
            yield tensor, tensor_nbytes(tensor, model.cuts.get(tensor.name))


def fit(*models: Model) -> bool:
    """Whether sessions of models fit into memory at the same time."""
    there = free()
    return sum(model.weight_bytes for model in models) < there or taken(models) <= there


def require(what: str, *models: Model, in_turns: bool = False) -> None:
    """Refuse to open sessions that do not fit into memory.

    Parameters
    ----------
    what : str
        What they are opened for.
    in_turns : bool
        Whether they are of a few nodes each, one after the other, and not of models at the same time.

    Raises
    ------
    UnusableError
        With what they take and what there is.
    """
    if fit(*models):
        return
    needed, there = max(map(taken_by_one, models)) if in_turns else taken(models), free()
    if needed > there:
        raise UnusableError(
            f"{what} takes at least {needed / 1e9:.2f} GB of memory, and {max(there, 0) / 1e9:.2f} GB are free",
            "--no-verify leaves it out; weights in external data are read where they lie.",
        )
