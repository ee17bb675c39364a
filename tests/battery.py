"""The checks that every model of every table goes through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

import onnxprune
from onnxprune.checks.compare import difference
from onnxprune.checks.oracle import masked_model
from onnxprune.coupling.trace import Trace, retrace, trace
from onnxprune.jobs.replay import rewrite
from onnxprune.labels.sizes import Sizes
from onnxprune.model.file import Model
from onnxprune.model.loading import load, set_apart
from onnxprune.model.operators import Trait, traits_of
from onnxprune.model.protos import bodies
from onnxprune.scoring.score import score
from onnxprune.selection.cost import macs, parameters
from onnxprune.selection.decide import select
from onnxprune.selection.plan import Plan
from onnxprune.shapes.dimensions import free_dimensions, graph_inputs
from onnxprune.surgery.surgeon import rewrite_trace

from .building import TOLERANCE, Case, made_up
from .by_plan import masked_by_plan
from .reference_ops import OPERATORS

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Pruned:
    """A model after surgery, with all that led to it."""

    trace: Trace
    plan: Plan
    sizes: Sizes
    slim: Model


def random_ratios(traced: Trace, seed: int) -> dict[str, float]:
    """A different ratio for every group, from 5 to 95 percent."""
    rng = np.random.default_rng(seed)
    return {group.name: float(rng.uniform(0.05, 0.95)) for group in traced}


def prune(model: onnx.ModelProto, seed: int | None = None) -> Pruned:
    """Half of every group by l2, or with a seed random ratios and scores; to the nearest channel."""
    traced = trace(model)
    return prune_trace(traced, seed)


def prune_trace(traced: Trace, seed: int | None = None) -> Pruned:
    """Like :func:`prune`, after analysis."""
    scores = score(traced, criterion="l2" if seed is None else "random", seed=seed or 0)
    ratio = 0.5 if seed is None else random_ratios(traced, seed)
    plan = select(traced, scores, ratio=ratio, granularity=1, rounding="nearest")
    removed = plan.removed(traced)
    return Pruned(traced, plan, traced.sizes(removed), rewrite_trace(traced, removed))


def outputs(
    model: Model | onnx.ModelProto, feeds: Arrays, reference: bool = False
) -> dict[str, npt.NDArray[Any]]:
    """What onnxruntime computes, or the reference implementation."""
    return runner(model, reference)(feeds)


def runner(
    model: Model | onnx.ModelProto, reference: bool = False
) -> Callable[[Arrays], dict[str, npt.NDArray[Any]]]:
    """Function from inputs to outputs, of onnxruntime or of the reference implementation.

    Elements of a sequence are outputs of their own.
    """
    proto = model.proto if isinstance(model, Model) else model
    names = [value.name for value in proto.graph.output]
    if reference:
        session = ReferenceEvaluator(proto, new_ops=OPERATORS)
    else:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        # What meets few bits is not rounded further, whatever nodes the optimizer sees around it.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    wanted = [value.name for value in graph_inputs(proto)]

    def run(feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        found = session.run(names, {name: feeds[name] for name in wanted})
        results: dict[str, Any] = {}
        for name, value in zip(names, found, strict=True):
            several = isinstance(value, list)
            results |= {f"{name}[{k}]": v for k, v in enumerate(value)} if several else {name: value}
        return results

    return run


def check_equal(reference: Arrays, found: Arrays, limit: float, what: str) -> None:
    """Outputs agree to a relative L2 difference; integers and booleans bit by bit."""
    assert reference.keys() == found.keys()
    for name, expected in reference.items():
        assert expected.dtype == found[name].dtype, f"'{name}' changed its type"
        accepted = limit if expected.dtype.kind == "f" else 0.0
        relative = difference(name, expected, found[name]).relative
        assert relative <= accepted, f"{what}: output '{name}' is off by {relative:.1e}"


def settings(proto: onnx.ModelProto) -> range:
    """Sample settings worth running: a second one where a dimension is free."""
    return range(2 if free_dimensions(proto) else 1)


def check_exact(pruned: Pruned, limit: float = TOLERANCE, reference: bool = False) -> None:
    """The slim model equals the masked original when run, at every sample setting."""
    found = runner(pruned.slim, reference)
    for setting in settings(pruned.trace.model.proto):
        feeds = made_up(pruned.trace.graph, seed=setting, setting=setting)
        traced = retrace(pruned.trace, {name: array.shape for name, array in feeds.items()})
        sizes = traced.sizes(pruned.plan.removed(traced))
        oracle = runner(masked_model(traced, sizes, pruned.slim.proto).embedded(), reference)
        check_equal(oracle(feeds), found(feeds), limit, "inexact")


SMALL = 1e-2
"""Size of entries below which they are compared absolutely: activations are about one."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def check_inside(pruned: Pruned, limit: float = TOLERANCE, kinds: Sequence[str] = ()) -> None:
    """Float tensors inside the slim model equal the kept part of the masked original's.

    Outputs alone can agree for no reason: a network whose channels have died, or whose softmax
    is saturated, gives the same result whatever its first layers do.

    Parameters
    ----------
    kinds : sequence of str
        Operators whose outputs are compared; all by default.
    """
    reference = masked_model(pruned.trace, pruned.sizes, pruned.slim.proto).embedded()
    names = _shared_tensors(pruned, kinds)
    if not names:
        return
    feeds = made_up(pruned.trace.graph)
    expected = outputs(_exposed(reference, names), feeds)
    found = outputs(_exposed(pruned.slim.proto, names), feeds)
    for name in names:
        kept = expected[name]
        for axis, index in enumerate(pruned.sizes.indices(name)):
            kept = kept if index is None else kept.take(index, axis)
        off = difference(name, kept, found[name])
        # A tensor that is nothing but rounding, such as a mean of centred values, is no failure.
        nothing = off.max_abs <= limit * SMALL
        assert off.relative <= limit or nothing, f"inside: '{name}' is off by {off.relative:.1e}"


def _shared_tensors(pruned: Pruned, kinds: Sequence[str]) -> list[str]:
    """Float tensors that both models compute under one name, of static shape or uncut."""
    static, dtypes = pruned.trace.shapes.static, pruned.trace.shapes.first.dtypes
    slim = {name for node in pruned.slim.proto.graph.node for name in node.output}
    return [
        name
        for node in pruned.trace.graph.main.nodes
        for name in node.outputs
        if name in slim
        and node.op != "Constant"
        and (not kinds or node.kind in kinds)
        and dtypes.get(name) == onnx.TensorProto.FLOAT
        and Trait.RANDOM not in traits_of(node)
        and name not in pruned.trace.shapes.first.sequences
        and all(i is None or static(name, k) for k, i in enumerate(pruned.sizes.indices(name)))
    ]


def _exposed(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Copy of a model that also gives what it computes on the way."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    float_ = onnx.TensorProto.FLOAT
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(n, float_, None) for n in names)
    return copy


def check_zeroed(pruned: Pruned, limit: float = TOLERANCE) -> None:
    """The slim model equals the original with removed weights set to zero by their plan alone.

    An oracle that shares no code with the masked original.
    """
    zeroed = masked_by_plan(pruned.trace.model.proto, pruned.plan.to_dict())
    feeds = made_up(pruned.trace.graph)
    check_equal(outputs(zeroed, feeds), outputs(pruned.slim, feeds), limit, "not zeroing")


def check_valid(pruned: Pruned) -> None:
    """The slim model passes the full checker and keeps the names of inputs and outputs.

    Stored tensors are inputs where they have to be, before version 4 of the format, and nowhere else.
    """
    slim, dense = pruned.slim.proto, pruned.trace.model.proto
    checked = onnx.ModelProto()
    checked.CopyFrom(slim)
    set_apart(checked)
    onnx.checker.check_model(checked, full_check=True)
    named = dense.graph.input if dense.ir_version < 4 or slim == dense else graph_inputs(dense)
    assert [v.name for v in slim.graph.input] == [v.name for v in named]
    assert list(slim.graph.output) == list(dense.graph.output)
    assert slim.opset_import == dense.opset_import


def check_constants(pruned: Pruned) -> None:
    """Every tensor that the plan lists is in the slim model, sliced as listed; no other is cut."""
    dense, slim = _stored(pruned.trace.model), _stored(pruned.slim)
    listed = pruned.plan.constants
    for name, entry in listed.items():
        source = pruned.trace.graph.value(entry.get("copy_of", name))
        assert list(source.shape) == entry["shape"]
        for axis, keep in entry["keep"].items():
            assert keep == sorted(set(keep)), f"'{name}': kept indices are not ascending"
            source = source.take(keep, axis=int(axis))
        np.testing.assert_array_equal(slim[name], source, f"'{name}' is not the slice in the plan")
    for name in dense.keys() & slim.keys() - listed.keys():
        assert dense[name].tobytes() == slim[name].tobytes(), f"'{name}' changed, but is not listed"


def _stored(model: Model) -> dict[str, npt.NDArray[Any]]:
    return dict(_stored_in(model, model.proto.graph))


def _stored_in(model: Model, graph: onnx.GraphProto) -> Iterator[tuple[str, Any]]:
    yield from ((tensor.name, model.array(tensor)) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            yield node.output[0], model.array(node.attribute[0].t)
        for _, body in bodies(node):
            yield from _stored_in(model, body)


def check_cost(pruned: Pruned) -> None:
    """What the plan says that the slim model costs is what analysis of the slim model says."""
    again = trace(pruned.slim)
    assert macs(again, again.sizes()) == macs(pruned.trace, pruned.sizes)
    planned, found = parameters(pruned.trace, pruned.sizes), parameters(again, again.sizes())
    # Fixes leave out a state of zeros, and pack zero points anew: that is less than was planned.
    dense, slim = _stored(pruned.trace.model), _stored(pruned.slim)
    mended = [*(dense.keys() - slim.keys()), *(slim.keys() - dense.keys() - pruned.plan.constants.keys())]
    fixed = any((dense | slim)[name].dtype != np.int64 for name in mended)
    assert found == planned or (fixed and found < planned)
    check_size(pruned)


def check_size(pruned: Pruned) -> None:
    """The file that is written is no larger than its input.

    Surgery alone can put more in than goes; then nothing goes, and every group says why.
    """
    dense, more = pruned.trace.model, pruned.slim.nbytes() - pruned.trace.model.nbytes()
    if more <= 0:
        return
    result = onnxprune.prune(dense, plan=pruned.plan)
    assert serialized(result.model) == serialized(dense)
    reasons = {(group.status, group.reason) for group in result.plan.groups if group.status != "blocked"}
    assert {status for status, _ in reasons} == {"kept"}
    assert any(reason.startswith(f"the file would become {more} bytes larger") for _, reason in reasons)
    assert result.after == result.before


def serialized(model: Model) -> bytes:
    """Bytes of a model."""
    return model.proto.SerializeToString(deterministic=True)


def check_repeatable(build: onnx.ModelProto, seed: int | None = None) -> None:
    """Two runs, and a replay of the plan from JSON, give the same bytes."""
    first, second = prune(build, seed), prune(build, seed)
    text = json.dumps(first.plan.to_dict())
    assert text == json.dumps(second.plan.to_dict())
    assert serialized(first.slim) == serialized(second.slim)
    replayed = rewrite(build, Plan.from_dict(json.loads(text)))
    assert serialized(replayed) == serialized(first.slim)


def check_untouched(model: onnx.ModelProto) -> None:
    """At ratio 0 the model comes back byte for byte."""
    traced = trace(model)
    plan = select(traced, score(traced), ratio=0.0)
    slim = rewrite_trace(traced, plan.removed(traced))
    assert not plan.constants
    assert serialized(slim) == load(model).proto.SerializeToString(deterministic=True)


def check_facts(case: Case, traced: Trace) -> None:
    """Groups, blocked groups with their reasons, and unknown operators are those of the row."""
    if case.groups is not None:
        assert tuple(map(len, traced)) == case.groups, str(traced)
    if case.unknown is not None:
        assert sorted(traced.obstacles()) == sorted(case.unknown), traced.walk.facts.blocked
    reasons = {g.name: g.reason for g in traced.blocked}
    for name, part in case.blocked.items():
        assert part in reasons.get(name, ""), f"'{name}' is not blocked by '{part}': {traced}"
    if case.groups is not None:
        rest = {n: r for n, r in reasons.items() if n not in case.blocked}
        assert all(r.startswith("graph output") for r in rest.values()), rest


def check_slim(case: Case, pruned: Pruned) -> None:
    """Stored tensors have the shapes that the row says."""
    found = {name: array.shape for name, array in _stored(pruned.slim).items()}
    assert {name: found[name] for name in case.slim} == dict(case.slim)
