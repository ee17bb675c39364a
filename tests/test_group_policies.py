"""NetsPresso's group policies on a grouped Conv and on a Reshape that splits channels.

The expected channels are computed here from the weights, block by block.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from models.build import BUILDERS, Net
from onnxprune.coupling.trace import Trace
from onnxprune.selection.cost import macs

from .conftest import exact
from .full import in_turn, sampled

POLICIES = ("sum", "average", "count", "none")
AXES = (-1, -2, 0, 1)


def one_of_each(_: int, axis: int | None) -> bool:
    """The outer and the inner axis have two numbers each."""
    return axis in (None, -1, 0)


def split_channels(blocks: int = 12, inner: int = 64) -> onnx.ModelProto:
    """Channels as [blocks, inner] between two Reshapes, with an operator for which f(0) is not 0."""
    net = Net("split_channels", 5)
    n = blocks * inner
    x = net.input("x", 1, 4, 2, 2)
    x = net.node("Conv", x, net.weight("wide.weight", n, 4, 1, 1), net.bias("wide.bias", n), name="wide")
    x = net.node("Sigmoid", net.reshape(x, 1, blocks, inner, 4))
    x = net.reshape(x, 1, n, 2, 2)
    return net.build(net.node("Conv", x, net.weight("head.weight", 3, n, 1, 1), name="head"))


def grouped(groups: int = 4, inner: int = 8, outer: int = 6) -> onnx.ModelProto:
    """A grouped Conv between two plain ones."""
    net = Net("grouped", 6)
    x = net.input("x", 1, 3, 5, 5)
    x = net.node(
        "Relu",
        net.node(
            "Conv",
            x,
            net.weight("first.weight", groups * inner, 3, 1, 1),
            net.bias("first.bias", groups * inner),
            name="first",
        ),
    )
    w = net.weight("grouped.weight", groups * outer, inner, 3, 3)
    x = net.node(
        "Relu", net.node("Conv", x, w, net.bias("grouped.bias", groups * outer), name="grouped", group=groups)
    )
    return net.build(net.node("Conv", x, net.weight("head.weight", 3, groups * outer, 1, 1), name="head"))


def norms(model: onnx.ModelProto, weight: str, blocks: int) -> np.ndarray:
    """Filter norms, shape (blocks, inner)."""
    array = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == weight)
    return np.sqrt((array.astype(np.float64) ** 2).reshape(len(array), -1).sum(1)).reshape(blocks, -1)


def expected(scores: np.ndarray, policy: str, ratio: float, whole_blocks: bool) -> set[int]:
    """Kept channels by the definitions, channel (g, k) at position g * K + k."""
    blocks, inner = scores.shape
    channel = np.arange(blocks * inner).reshape(blocks, inner)
    if whole_blocks:
        count = blocks - round(ratio * blocks)
        return set(channel[np.argsort(-scores.mean(1), kind="stable")[:count]].reshape(-1).tolist())
    if policy in ("sum", "average"):
        count = inner - round(ratio * inner)
        return set(channel[:, np.argsort(-scores.sum(0), kind="stable")[:count]].reshape(-1).tolist())
    gone = round(ratio * inner)
    if policy == "count":
        lowest = np.argsort(scores.reshape(-1), kind="stable")[: round(ratio * scores.size)]
        gone = int(np.bincount(lowest // inner, minlength=blocks).min())
    order = np.argsort(-scores, axis=1, kind="stable")[:, : inner - gone]
    return {int(channel[g, k]) for g in range(blocks) for k in order[g]}


def kept_filters(result: onnxprune.Result, weight: str) -> set[int]:
    """Kept indices of the first axis of a weight, from the plan."""
    entry = result.plan.constants[weight]
    return set(entry["keep"].get("0", range(entry["shape"][0])))


def halved(model: onnx.ModelProto, policy: str, axis: int | None) -> onnxprune.Result:
    return onnxprune.prune(
        model,
        ratio=0.5,
        group_policy=policy,
        reshape_channel_axis=axis,
        granularity=1,
        normalizer="none",
        verify=True,
        provider="cpu",
    )


@pytest.mark.parametrize("axis", sampled(AXES, one_of_each))
@pytest.mark.parametrize("policy", POLICIES)
def test_reshape(policy: str, axis: int) -> None:
    model = split_channels()
    result = halved(model, policy, axis)
    whole = axis in (0, -2)
    kept = kept_filters(result, "wide.weight")
    assert kept == expected(norms(model, "wide.weight", 12), policy, 0.5, whole)
    per_block = np.bincount(np.array(sorted(kept)) // 64, minlength=12)
    assert set(per_block.tolist()) == ({0, 64} if whole else {per_block[0]})
    if policy != "count":
        assert len(kept) == 384
        assert (per_block > 0).sum() == (6 if whole else 12)
    assert exact(result)
    assert result.trace.notes == ()


@pytest.mark.parametrize("axis", sampled([None, *AXES], one_of_each))
@pytest.mark.parametrize("policy", POLICIES)
def test_grouped_convolution(policy: str, axis: int | None) -> None:
    model = grouped()
    result = halved(model, policy, axis)
    whole = axis in (0, -2)
    kept = kept_filters(result, "first.weight")
    outputs = kept_filters(result, "grouped.weight")
    if not whole:
        assert kept == expected(norms(model, "first.weight", 4), policy, 0.5, False)
        assert outputs == expected(norms(model, "grouped.weight", 4), policy, 0.5, False)
    else:
        assert kept == {c for g in {c // 8 for c in kept} for c in range(8 * g, 8 * g + 8)}
        assert len(kept) == 16
    node = next(n for n in result.model.proto.graph.node if n.name == "grouped")
    assert onnx.helper.get_node_attr_value(node, "group") == (2 if whole else 4)
    assert exact(result)


def test_blocks_of_a_kernel_keep_their_own_inputs() -> None:
    """The plan names the kept input channels of every block, and they are the producer's."""
    result = onnxprune.prune(grouped(), ratio=0.5, group_policy="none", granularity=1)
    kept = np.array(sorted(kept_filters(result, "first.weight")))
    blocks = [(kept[kept // 8 == g] - 8 * g).tolist() for g in range(4)]
    assert result.plan.constants["grouped.weight"]["keep"]["1"] == {"blocks": blocks}
    assert len(set(map(tuple, blocks))) > 1, "the blocks differ, or this shows nothing"
    replayed = onnxprune.rewrite(grouped(), result.plan)
    assert replayed.proto == result.model.proto
    again = onnxprune.Plan.from_dict(result.plan.to_dict())
    assert onnxprune.verify(grouped(), replayed, plan=again, provider="cpu").exact


def test_a_sum_over_blocks_weighs_more_than_an_average_in_a_global_ranking() -> None:
    """Sum and average rank alike inside one axis and differ by the number of blocks outside."""
    tables = [
        onnxprune.score(onnxprune.trace(grouped(), group_policy=policy), normalizer="none")
        for policy in ("sum", "average")
    ]
    np.testing.assert_allclose(tables[0]["first"].merged, 4 * tables[1]["first"].merged)


@pytest.mark.parametrize(("name", "policy"), in_turn(sorted(BUILDERS), ["count", "none"], step=2))
def test_every_builder_stays_exact(name: str, policy: str) -> None:
    """Legal or not: what is removed is removed exactly, at a random ratio per group."""
    model = BUILDERS[name]()
    traced = onnxprune.trace(model, group_policy=policy, reshape_channel_axis=-1)
    random = np.random.default_rng(7)
    result = onnxprune.prune(
        model,
        criterion="random",
        group_policy=policy,
        reshape_channel_axis=-1,
        granularity=1,
        ratio={g.name: float(random.uniform(0.05, 0.95)) for g in traced},
        verify=True,
        provider="cpu",
    )
    assert result.report is not None
    assert bool(result.report), str(result.report)


def blocks_of(traced: Trace) -> dict[str, int]:
    return {g.name: int(g.blocks.max()) + 1 for g in traced if g.blocks is not None}


def test_heads_keep_their_own_dimensions() -> None:
    """Query, key and value of a head shrink together, every head by itself."""
    traced = onnxprune.trace(BUILDERS["transformer"](), group_policy="none", reshape_channel_axis=-1)
    assert list(blocks_of(traced).values()) == [4]


def two_projections() -> onnx.ModelProto:
    """Query and key of three heads, each from a convolution of its own."""
    net = Net("two_projections", 2)
    x = net.input("x", 1, 5, 2, 2)

    def heads(name: str) -> str:
        y = net.node("Conv", x, net.weight(f"{name}.weight", 12, 5, 1, 1), name=name)
        return net.reshape(y, 1, 3, 4, 4)

    query = net.node("Transpose", heads("query"), perm=[0, 1, 3, 2])
    return net.build(net.node("MatMul", query, heads("key"), name="scores"))


def test_channels_behind_two_splits_are_one_channel() -> None:
    """Dimension d of head h of the query meets that of the key: the policy merges their scores."""
    model = two_projections()
    traced = onnxprune.trace(model, group_policy="none", reshape_channel_axis=-1)
    scores = onnxprune.score(traced, normalizer="none", policy="union")
    both = [norms(model, f"{name}.weight", 3).reshape(-1) for name in ("query", "key")]
    np.testing.assert_allclose(scores["query"].merged, np.maximum(*both))
    result = onnxprune.prune(
        model,
        ratio=0.5,
        reshape_channel_axis=-1,
        group_policy="none",
        granularity=1,
        verify=True,
        provider="cpu",
    )
    assert kept_filters(result, "query.weight") == kept_filters(result, "key.weight")
    assert exact(result)


@pytest.mark.parametrize("first", [12, 16])
def test_blocks_that_two_groups_share(first: int) -> None:
    """A grouped Conv over a Concat: equal numbers per block would tie two groups of channels."""
    net = Net("two_groups", 3)
    x = net.input("x", 1, 3, 4, 4)
    parts = [
        net.node("Conv", x, net.weight(f"part{k}.weight", n, 3, 1, 1), name=f"part{k}")
        for k, n in enumerate((first, 32 - first))
    ]
    x = net.node("Relu", net.node("Concat", *parts, axis=1))
    x = net.node("Conv", x, net.weight("g", 24, 8, 1, 1), name="grouped", group=4)
    model = net.build(net.node("Conv", x, net.weight("r", 3, 24, 1, 1), name="reader"))
    traced = onnxprune.trace(model, group_policy="none")
    assert blocks_of(traced) == {"grouped": 4}, "its outputs are in one group"
    (note,) = traced.notes
    assert note.endswith("because its blocks are coupled in another way, too")
    for ratio in (0.3, 0.6):
        result = onnxprune.prune(
            model, ratio=ratio, group_policy="none", granularity=1, verify=True, provider="cpu"
        )
        assert exact(result)


def shared_scale(axis: int) -> onnx.ModelProto:
    """A parameter along the inner channels, or along the blocks."""
    net = Net("shared_scale", 8)
    x = net.input("x", 1, 4, 2, 2)
    x = net.node("Conv", x, net.weight("wide.weight", 24, 4, 1, 1), name="wide")
    x = net.reshape(x, 1, 4, 6, 4)
    shape = [1, 1, 1, 1]
    shape[axis] = (1, 4, 6, 4)[axis]
    x = net.node("Mul", x, net.gain("scale", *shape), name="scaled")
    x = net.reshape(x, 1, 24, 2, 2)
    return net.build(net.node("Conv", x, net.weight("head.weight", 3, 24, 1, 1), name="head"))


def test_fallback_is_said() -> None:
    """A scale along the inner channels is shared by all blocks: they keep the same ones."""
    traced = onnxprune.trace(shared_scale(2), group_policy="none", reshape_channel_axis=-1)
    assert blocks_of(traced) == {}
    (note,) = traced.notes
    assert note.endswith("every block keeps the same inner channels, because all blocks share 'scale'")
    plain = onnxprune.prune(shared_scale(2), ratio=0.5, reshape_channel_axis=-1, granularity=1)
    fallen = onnxprune.prune(
        shared_scale(2), ratio=0.5, reshape_channel_axis=-1, granularity=1, group_policy="none"
    )
    assert fallen.plan.constants == plain.plan.constants


def test_a_scale_along_the_blocks_is_no_obstacle() -> None:
    traced = onnxprune.trace(shared_scale(1), group_policy="none", reshape_channel_axis=-1)
    assert blocks_of(traced) == {"wide": 4}
    result = onnxprune.prune(
        shared_scale(1),
        ratio=0.4,
        reshape_channel_axis=-1,
        group_policy="none",
        granularity=1,
        verify=True,
        provider="cpu",
    )
    assert exact(result)


def mixed_blocks(op: str) -> onnx.ModelProto:
    """Operators that mix the blocks at the same inner place, or leave them apart."""
    net = Net(op, 9)
    x = net.input("x", 1, 4, 2, 2)
    x = net.node("Conv", x, net.weight("wide.weight", 24, 4, 1, 1), name="wide")
    x = net.reshape(x, 1, 4, 6, 4)
    if op == "Softmax":
        x = net.node("Softmax", x, axis=1)
    elif op == "ReduceSum":
        x = net.node("Add", x, net.node("ReduceSum", x, net.integers(1), keepdims=1))
    elif op == "Gram":
        y = net.node("Transpose", x, perm=[0, 3, 1, 2])  # blocks are rows, not a batch
        x = net.node("MatMul", y, net.node("Transpose", x, perm=[0, 3, 2, 1]))
        return net.build(x)
    x = net.reshape(x, 1, 24, 2, 2)
    return net.build(net.node("Conv", x, net.weight("head.weight", 3, 24, 1, 1), name="head"))


@pytest.mark.parametrize("op", ["Softmax", "ReduceSum", "Gram"])
def test_operators_across_blocks_need_the_same_channels(op: str) -> None:
    model = mixed_blocks(op)
    traced = onnxprune.trace(model, group_policy="none", reshape_channel_axis=-1)
    assert blocks_of(traced) == {}
    assert traced.notes
    result = onnxprune.prune(
        model,
        ratio=0.5,
        group_policy="none",
        reshape_channel_axis=-1,
        granularity=1,
        verify=True,
        provider="cpu",
    )
    assert exact(result)


def test_an_axis_that_lives_with_the_blocks_is_not_the_axis_of_blocks() -> None:
    """Six channels go with the two blocks, and stand before them in one tensor."""
    net = Net("beside", 4)
    x = net.input("x", 1, 3, 1, 1)
    a = net.node("Conv", x, net.weight("a.weight", 16, 3, 1, 1), name="a")
    b = net.node("Conv", x, net.weight("b.weight", 6, 3, 1, 1), name="b")
    a = net.reshape(a, 1, 2, 8)
    b = net.node("Softmax", net.reshape(b, 1, 2, 3), axis=2)
    b = net.node("Mul", b, net.node("ReduceSum", a, net.integers(2), keepdims=1))
    y = net.node("Mul", net.reshape(b, 1, 6, 1, 1), net.reshape(a, 1, 1, 2, 8))
    model = net.build(net.node("MatMul", net.reshape(y, 1, 6, 16), net.weight("w", 16, 3), name="last"))
    result = onnxprune.prune(
        model,
        ratio=0.5,
        group_policy="none",
        reshape_channel_axis=-1,
        granularity=1,
        verify=True,
        provider="cpu",
    )
    assert blocks_of(result.trace) == {"a": 2}
    kept = kept_filters(result, "a.weight")
    assert {k % 8 for k in kept if k < 8} != {k % 8 for k in kept if k >= 8}
    assert exact(result)


def test_sizes_follow_the_places() -> None:
    """MACs of a grouped Conv count the kept input channels of one block."""
    traced = onnxprune.trace(grouped(), group_policy="none")
    scores = onnxprune.score(traced)
    plan = onnxprune.select(traced, scores, ratio={"first": 0.5}, granularity=1)
    sizes = traced.sizes(plan.removed(traced))
    assert sizes.size("grouped.weight", 1) == 4
    assert sizes.shape("grouped.weight") == (24, 4, 3, 3)
    assert macs(traced, sizes) == 25 * 16 * 3 + 9 * 24 * 4 * 9 + 9 * 3 * 24


def test_uneven_blocks_are_refused() -> None:
    result = onnxprune.prune(grouped(), ratio=0.5, group_policy="none", granularity=1)
    data = result.plan.to_dict()
    data["groups"][0]["keep"] = data["groups"][0]["keep"][1:]
    plan = onnxprune.Plan.from_dict(data)
    with pytest.raises(onnxprune.PlanError, match="its blocks keep different numbers of channels"):
        onnxprune.rewrite(grouped(), plan)
