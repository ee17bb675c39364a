"""How fast and how large: two models side by side, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import onnx

from ..checks.latency import RUNS, measure_latency
from ..coupling.trace import Trace, retrace, trace
from ..data.dataset import DataSettings, runnable
from ..labels.sizes import SizeView
from ..model.file import ModelLike
from ..model.loading import load
from ..reports.comparison import Bench
from ..runtime.providers import choose_provider
from ..runtime.session import open_session
from ..selection.cost import cost
from ..settings.described import described
from ..settings.table import DEFAULTS


@described("data", "job", "pair", "bench")
def bench(
    dense: ModelLike,
    slim: ModelLike,
    *,
    data: Any = None,
    provider: str = DEFAULTS["provider"],
    slim_provider: str | None = DEFAULTS["slim_provider"],
    tf32: bool = DEFAULTS["tf32"],
    runs: int = RUNS,
    **settings: Unpack[DataSettings],
) -> Bench:
    """Measure latency, and count parameters, MACs, bytes and the memory of activations.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
    **settings
        Those of the stages ``data``, ``pair`` and ``bench`` in ``onnxprune.settings.table``. The first
        batch is run.
    """
    original, result = load(dense), load(slim)
    providers = choose_provider(provider), choose_provider(slim_provider or provider)
    traced, pruned = trace(original), trace(result)
    with (
        open_session(original, providers[0], "the original", tf32=tf32) as before,
        open_session(result, providers[1], "the slim model", tf32=tf32) as after,
    ):
        batch = runnable(before, traced, data, **settings).first
        latency = measure_latency(before, after, batch.feeds, runs)
    shapes = {name: array.shape for name, array in batch.feeds.items()}
    traced, pruned = retrace(traced, shapes), retrace(pruned, shapes)
    return Bench(
        latency,
        cost(traced, traced.sizes(), original),
        cost(pruned, pruned.sizes(), result),
        (peak_activations(traced), peak_activations(pruned)),
        batch.size,
        providers,
    )


def peak_activations(traced: Trace) -> int:
    """Most bytes of intermediate tensors that are alive at once, in the order of the main graph."""
    nodes = traced.graph.main.nodes
    last = {name: k for k, node in enumerate(nodes) for name in _read(traced, node)}
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


def _read(traced: Trace, node: Any) -> Sequence[str]:
    return [*node.inputs, *traced.graph.captured(node)]


def _bytes(traced: Trace, sizes: SizeView, names: Sequence[str]) -> int:
    dtypes = traced.shapes.first.dtypes
    total = 0
    for name in names:
        kind = dtypes.get(name)
        if kind and kind != onnx.TensorProto.STRING and traced.shapes.get(name) is not None:
            total += sizes.numel(name) * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    return total
