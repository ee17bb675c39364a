"""What nobody reads any more, once constants and inputs are replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import onnx

from ..model.protos import graphs


def drop_unused(main: onnx.GraphProto, orphans: Iterable[str]) -> None:
    """Remove nodes and constants that only fed what was replaced, and nothing else.

    Parameters
    ----------
    main : GraphProto
        Changed in place, with the graphs nested in it.
    orphans : iterable of str
        Tensors that have lost a reader.
    """
    found = list(graphs(main))
    nodes = [proto for graph in found for proto in graph.node]
    uses = Counter(name for proto in nodes for name in proto.input)
    uses.update(value.name for graph in found for value in graph.output)
    names, dead = _unread(nodes, uses, orphans)
    number = iter(range(len(nodes)))
    for graph in found:
        _keep(graph.node, [next(number) not in dead for _ in graph.node])
        listed = {value.name for value in graph.input}
        stays = [t.name in listed or t.name not in names or uses[t.name] > 0 for t in graph.initializer]
        _keep(graph.initializer, stays)


def _unread(
    nodes: Sequence[onnx.NodeProto], uses: Counter[str], orphans: Iterable[str]
) -> tuple[set[str], set[int]]:
    """Tensors that have lost a reader, and the nodes that make none that is read; ``uses`` follows."""
    producer = {name: k for k, proto in enumerate(nodes) for name in proto.output if name}
    names, dead = set[str](), set[int]()
    pending = list(orphans)
    while pending:
        name = pending.pop()
        names.add(name)
        k = producer.get(name)
        if k is None or k in dead or any(uses[o] for o in nodes[k].output if o):
            continue
        dead.add(k)
        for source in nodes[k].input:
            uses[source] -= 1
            if not uses[source]:
                pending.append(source)
    return names, dead


def _keep(field: Any, wanted: Sequence[bool]) -> None:
    """Delete the entries of a repeated field that are not wanted."""
    for position in reversed([k for k, keep in enumerate(wanted) if not keep]):
        del field[position]
