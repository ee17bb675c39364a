"""Where the time of a model goes: one profile, kernel by kernel, and the nodes that each computes.

onnxruntime fuses nodes and changes the memory layout before it runs anything. So the nodes of a copy
get numbered names, which its fused nodes keep; those in the blocked layout are named after their
outputs; and what it put in between is found in the graph that it writes.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import onnx

from ..errors import ModelError
from ..model.file import Model
from ..model.graph import Graph
from ..model.protos import bodies, skeleton
from ..runtime.custom import has_custom
from ..runtime.session import OPTIMIZED, Arrays, open_session, run
from .machine import Machine

RUNS, WARM_UP = 20, 3
"""Profiled runs of which the faster half counts, and those before them."""

PROFILING = 2.0
"""Most microseconds that the profiler adds to a kernel: measured 1.4 to 2.2 on networks of kernels that
hardly take longer."""

SECONDS = 10.0
"""After how long there are no more."""

NUMBER = re.compile(r"(_\d+)+$")
"""What providers put behind the names of kernels that compute many nodes: it differs from model to model."""

TAG = re.compile(r"node<(\d+)>")
BLOCKED = re.compile(r"^(.*)_nchwc(?:_token_\d+)?$")


@dataclass(frozen=True, slots=True)
class TimedKernel:
    """What onnxruntime runs at once.

    Attributes
    ----------
    op : str
        Operator type in the optimized graph.
    us : float
        Microseconds, without those that the profiler adds.
    nodes : tuple of int
        Indices of the nodes that it computes, the last one first; empty where that is not known.
    added : bool
        Whether onnxruntime put it in, to change the layout of what the node makes or reads.
    blocked : bool
        Whether it works in the blocked layout: a convolution, or what reads its results as they lie.
    stays : float
        Share of its time that does not depend on channels, as slim models show.
    """

    op: str
    us: float
    nodes: tuple[int, ...] = ()
    added: bool = False
    blocked: bool = False
    stays: float = 0.0


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """All kernels of a model.

    Attributes
    ----------
    between : float
        Microseconds of a run that no kernel takes: the fastest run without the profiler less the
        kernels, but no more than the profile shows.
    """

    kernels: tuple[TimedKernel, ...]
    between: float
    machine: Machine

    @property
    def us(self) -> float:
        """Microseconds of a run."""
        return self.between + sum(kernel.us for kernel in self.kernels)

    @property
    def unknown(self) -> list[TimedKernel]:
        """Kernels of which the nodes are not known."""
        return [kernel for kernel in self.kernels if not kernel.nodes]

    def by_operator(self) -> dict[str, float]:
        """Microseconds of every operator, the longest first."""
        found: dict[str, float] = defaultdict(float)
        for kernel in self.kernels:
            op = kernel.op if kernel.nodes else NUMBER.sub("", kernel.op)
            found[f"{op} (blocked)" if kernel.blocked else op] += kernel.us
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def profile(graph: Graph, feeds: Arrays, machine: Machine) -> KernelTimes:
    """Run a model with the profiler, and without.

    Raises
    ------
    ModelError
        If it does not run, or has operators that onnxruntime does not have.
    """
    if has_custom(graph.model.proto):
        raise ModelError("operators of the model's own run outside of onnxruntime: nothing can be timed")
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        timed = machine.timed(folder)
        with (
            open_session(_numbered(graph.model), machine.provider, tf32=True, timed=timed) as profiled,
            open_session(graph.model, machine.provider, tf32=True, timed=machine.timed()) as session,
        ):
            whole = min(_repeat(session, profiled, feeds, machine)) * 1e6
            events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
        optimized = _optimized(Path(folder) / OPTIMIZED)
    times, between = _fastest(events)
    spent = sum(us for _, us in times.values())
    added = min(max(spent - whole, 0.0) / max(len(times), 1), PROFILING)
    plain = {name: (op, max(us - added, us / 10)) for name, (op, us) in times.items()}
    kernels = tuple(_laid_out(graph, list(_attributed(graph, plain, optimized))))
    spent = sum(kernel.us for kernel in kernels)
    return KernelTimes(kernels, min(max(whole - spent, 0.0), between), machine)


def _repeat(session: Any, profiled: Any, feeds: Arrays, machine: Machine) -> list[float]:
    """Seconds of every run after the first ones; the session that is profiled takes turns with it."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < WARM_UP + RUNS and (len(times) < WARM_UP + 1 or time.perf_counter() < end):
        run(profiled, feeds)
        start = machine.clock()
        run(session, feeds)
        times.append(machine.clock() - start)
    return times[WARM_UP:]


def _numbered(model: Model) -> Model:
    """A copy whose nodes are named by the indices that they have in the view of the graph."""
    proto = skeleton(model.proto)
    proto.graph.initializer.extend(model.proto.graph.initializer)
    _name(proto.graph, 0)
    return model.derived(proto)


def _name(graph: onnx.GraphProto, index: int) -> int:
    """Name nodes, nested ones before the node that holds them; returns the next index."""
    for node in graph.node:
        for _, body in bodies(node):
            index = _name(body, index)
        node.name = f"node<{index}>"
        index += 1
    return index


def _fastest(events: Sequence[Mapping[str, Any]]) -> tuple[dict[str, tuple[str, float]], float]:
    """Kernel -> operator and microseconds, the mean of its faster half of the runs; and between them.

    The profiler counts whole microseconds, so the least alone would be too coarse.
    """
    runs = sorted((e["ts"], e["dur"]) for e in events if e.get("name") == "model_run")[WARM_UP:]
    kernels = _alone([e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")])
    per_run: dict[str, list[float]] = defaultdict(list)
    ops: dict[str, str] = {}
    between, place = float("inf"), 0
    for start, duration in runs:
        sums: dict[str, float] = defaultdict(float)
        while place < len(kernels) and kernels[place][0] <= start + duration:
            begin, time_alone, event = kernels[place]
            place += 1
            if begin >= start:
                name = event["name"].removesuffix("_kernel_time")
                sums[name] += time_alone
                ops[name] = event["args"].get("op_name", "")
        for name, total in sums.items():
            per_run[name].append(total)
        between = min(between, max(duration - sum(sums.values()), 0.0))
    return {name: (ops[name], _faster_half(times)) for name, times in per_run.items()}, between


def _faster_half(times: list[float]) -> float:
    return fmean(sorted(times)[: (len(times) + 1) // 2])


def _alone(events: list[Mapping[str, Any]]) -> list[tuple[float, float, Mapping[str, Any]]]:
    """(start, microseconds without those of kernels inside, event), in the order of their starts."""
    events.sort(key=lambda e: (e["ts"], -e["dur"]))
    alone = [float(event["dur"]) for event in events]
    around: list[int] = []
    for k, event in enumerate(events):
        while around and events[around[-1]]["ts"] + events[around[-1]]["dur"] <= event["ts"]:
            around.pop()
        if around and event["ts"] + event["dur"] <= events[around[-1]]["ts"] + events[around[-1]]["dur"]:
            alone[around[-1]] -= event["dur"]
        around.append(k)
    return [(event["ts"], max(own, 0.0), event) for event, own in zip(events, alone, strict=True)]


def _optimized(path: Path) -> dict[str, onnx.NodeProto]:
    """Nodes of the optimized graph by name, where it was written."""
    if not path.exists():
        return {}
    return {node.name: node for node in onnx.load(path, load_external_data=False).graph.node}


def _attributed(
    graph: Graph, times: Mapping[str, tuple[str, float]], optimized: Mapping[str, onnx.NodeProto]
) -> Iterator[TimedKernel]:
    """Kernels with the nodes that they compute.

    A node without a kernel is taken to be fused into the first one behind it that has one.
    """
    last = {name: _computed(graph, name) for name in times}
    claimed = {index for index in last.values() if index is not None}
    for name, (op, us) in times.items():
        index = last[name]
        if index is not None:
            nodes = tuple(_fused(graph, index, claimed))
            claimed.update(nodes)
            yield TimedKernel(op, us, nodes, blocked=op == "Conv" and BLOCKED.match(name) is not None)
        else:
            beside = _beside(graph, optimized.get(name))
            yield TimedKernel(op, us, () if beside is None else (beside,), added=beside is not None)


def _laid_out(graph: Graph, kernels: Sequence[TimedKernel]) -> Iterator[TimedKernel]:
    """The same kernels, in the order in which they run, and which of the others are in that layout, too.

    Those are what reads results of kernels in it, where nothing was put in behind them.
    """
    restored = {kernel.nodes[0] for kernel in kernels if kernel.added}
    laid: set[int] = set()
    for kernel in kernels:
        names = [name for index in kernel.nodes for name in graph.nodes[index].inputs]
        makers = {graph.producers[name].index for name in names if name in graph.producers}
        if not kernel.added and not makers.isdisjoint(laid):
            kernel = replace(kernel, blocked=True)
        if kernel.blocked:
            laid.update(index for index in kernel.nodes if index not in restored)
        yield kernel


def _computed(graph: Graph, name: str) -> int | None:
    """Index of the node that a kernel computes, by its name."""
    if tagged := TAG.search(name):
        return int(tagged[1])
    blocked = BLOCKED.match(name)
    if blocked is None:
        return None
    # A BatchNormalization becomes a depthwise convolution, and is called so.
    found = graph.producers.get(blocked[1]) or graph.producers.get(blocked[1].removesuffix("_bn"))
    return None if found is None else found.index


def _fused(graph: Graph, index: int, claimed: set[int]) -> Iterator[int]:
    """A node, and those before it that no other kernel computes."""
    pending, seen = [index], {index}
    while pending:
        current = pending.pop()
        yield current
        for name in graph.nodes[current].inputs:
            node = graph.producers.get(name)
            if node is None or name in graph.derived or node.index in claimed or node.index in seen:
                continue
            seen.add(node.index)
            pending.append(node.index)


def _beside(graph: Graph, node: onnx.NodeProto | None) -> int | None:
    """Index of the node whose output one of the optimized graph makes or reads."""
    for name in (*node.output, *node.input) if node is not None else ():
        if name in graph.producers:
            return graph.producers[name].index
    return None
