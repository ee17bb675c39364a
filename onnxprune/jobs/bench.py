"""How fast and how large: two models side by side, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import onnx

from ..checks.footprint import peak_memory
from ..checks.latency import RUNS
from ..checks.sessions import measure_sessions, opener
from ..cores import cores
from ..coupling.trace import Trace, retrace, trace
from ..data.dataset import DataSettings
from ..data.one_run import INPUTS, one_run
from ..labels.sizes import SizeView
from ..model.file import ModelLike
from ..model.loading import load
from ..model.operators import Trait, traits_of
from ..reports.comparison import BETWEEN, Bench, OperatorTimes
from ..runtime.custom import has_custom
from ..runtime.session import Arrays
from ..selection.cost import cost
from ..settings.described import described
from ..settings.table import DEFAULTS
from ..timing.kernels import KernelTimes, profile
from ..timing.machine import Machine


@described("data", "job", "pair", "bench", "machine")
def bench(
    dense: ModelLike,
    slim: ModelLike,
    *,
    data: Any = None,
    provider: str = DEFAULTS["provider"],
    slim_provider: str | None = DEFAULTS["slim_provider"],
    tf32: bool = DEFAULTS["tf32"],
    runs: int = RUNS,
    threads: int | None = DEFAULTS["threads"],
    batch: int | None = DEFAULTS["batch"],
    **settings: Unpack[DataSettings],
) -> Bench:
    """Measure latency and memory, where the time goes, and count parameters, MACs and bytes.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
    **settings
        Those of the stages ``data``, ``pair``, ``bench`` and ``machine`` in
        ``onnxprune.settings.table``. The first batch is run.
    """
    machine = Machine.of(provider, threads, batch)
    other = Machine.of(slim_provider or provider, threads, batch)
    original, result = load(dense), load(slim)
    traced, pruned = trace(original), trace(result)
    inputs: Any = {name: value for name, value in settings.items() if name in INPUTS}
    found = one_run(traced, machine.provider, data, machine.batch, **inputs)
    latency = measure_sessions(
        opener(original, machine, "the original", tf32=tf32),
        opener(result, other, "the slim model", tf32=tf32),
        found.feeds,
        runs,
        lambda pair: pair.ratio,
    )
    shapes = {name: array.shape for name, array in found.feeds.items()}
    traced, pruned = retrace(traced, shapes), retrace(pruned, shapes)
    custom = has_custom(original.proto) or has_custom(result.proto)
    return Bench(
        latency,
        before=cost(traced, traced.sizes(), original),
        after=cost(pruned, pruned.sizes(), result),
        activations=(peak_activations(traced), peak_activations(pruned)),
        memory=(peak_memory(original, found.feeds, machine), peak_memory(result, found.feeds, other)),
        batch=found.size,
        providers=(machine.provider, other.provider),
        threads=machine.threads,
        cores=cores(),
        operators=None if custom else _operators(traced, pruned, found.feeds, (machine, other)),
        tf32=tf32,
    )


def _operators(
    traced: Trace, pruned: Trace, feeds: Arrays, machines: tuple[Machine, Machine]
) -> OperatorTimes:
    """Where the time goes in both models, and which convolutions left the blocked layout."""
    before = profile(traced.graph, feeds, machines[0])
    after = profile(pruned.graph, feeds, machines[1])
    fast = _blocked(pruned, after)
    left = tuple(name for name in _blocked(traced, before) if name not in fast)
    return OperatorTimes(_milliseconds(before), _milliseconds(after), left)


def _milliseconds(found: KernelTimes) -> dict[str, float]:
    times = {op: us / 1e3 for op, us in found.by_operator().items()}
    return {**times, BETWEEN: found.between / 1e3}


def _blocked(traced: Trace, found: KernelTimes) -> list[str]:
    """Convolutions that run in the blocked layout."""
    computed = (traced.graph.nodes[k] for kernel in found.kernels if kernel.blocked for k in kernel.nodes)
    return [node.name for node in computed if Trait.CONVOLUTION in traits_of(node)]


def peak_activations(traced: Trace) -> int:
    """Most bytes of intermediate tensors that are alive at once, in the order of the main graph."""
    nodes = traced.graph.main.nodes
    last = {name: k for k, node in enumerate(nodes) for name in traced.graph.reads(node)}
    last |= {value.name: len(nodes) for value in traced.model.proto.graph.output}
    sizes = traced.sizes()
    ends: dict[int, int] = {}
    alive = peak = 0
    for k, node in enumerate(nodes):
        size = 0 if node.outputs[0] in traced.graph.derived else _bytes(traced, sizes, node.outputs)
        alive += size
        peak = max(peak, alive)
        end = max((last.get(name, k) for name in node.outputs), default=k)
        ends[end] = ends.get(end, 0) + size
        alive -= ends.pop(k, 0)
    return peak


def _bytes(traced: Trace, sizes: SizeView, names: Sequence[str]) -> int:
    dtypes = traced.shapes.first.dtypes
    total = 0
    for name in names:
        kind = dtypes.get(name)
        if kind and kind != onnx.TensorProto.STRING and traced.shapes.get(name) is not None:
            total += sizes.numel(name) * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    return total
