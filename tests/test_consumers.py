"""Who reads the channels of a group, and what a removed channel takes away."""

from __future__ import annotations

import numpy as np
import pytest

import onnxprune
from models.build import BUILDERS
from onnxprune.moments.consumers import Reading
from onnxprune.surgery.surgeon import rewrite_trace

from .conftest import DIGITS, Run


def test_the_groups_of_the_digits_network_are_read_by() -> None:
    traced = onnxprune.trace(DIGITS)
    found = {g.name: Reading(traced).of(g) for g in traced}
    read = {name: [c.node.name for c in r.consumers] for name, r in found.items()}
    assert read == {
        "/stem/conv/Conv": ["/stage1/first/conv/Conv", "/stage2/first/conv/Conv", "/stage2/skip/conv/Conv"],
        "/stage1/first/conv/Conv": ["/stage1/second/conv/Conv"],
        "/stage2/first/conv/Conv": ["/stage2/second/conv/Conv"],
        "/stage2/second/conv/Conv": [
            "/inverted/expand/conv/Conv", "/branches/point/Conv", "/branches/window/Conv",
        ],
        "/inverted/expand/conv/Conv": ["/inverted/project/conv/Conv"],
        "/branches/point/Conv": ["/head/Gemm"],
        "/branches/window/Conv": ["/head/Gemm"],
    }  # fmt: skip
    assert "/inverted/depthwise/conv/Conv" in [n.name for n in found["/inverted/expand/conv/Conv"].passes]
    (head,) = found["/branches/window/Conv"].consumers
    assert (head.axis, head.offset, head.entries, head.taken) == (1, 32, 64, 10)
    assert head.columns is not None
    np.testing.assert_array_equal(head.columns[0], np.r_[np.full(32, -1), np.arange(64)])


@pytest.mark.parametrize("name", BUILDERS)
def test_a_weight_loses_what_a_removed_channel_takes(name: str) -> None:
    traced = onnxprune.trace(BUILDERS[name]())
    reading = Reading(traced)
    for group in traced:
        sizes = traced.sizes(group.units[:1])
        for consumer in reading.of(group).consumers:
            made = [traced.walk.axes.get(n, ()) for n in consumer.node.outputs if n]
            shrinks = any(v is not None and not sizes.mask(v).all() for axes in made for v in axes)
            if not consumer.weight or shrinks:  # then it loses rows of outputs, too
                continue
            before = int(np.prod(sizes.original(consumer.weight)))
            assert before - sizes.numel(consumer.weight) == consumer.taken, f"{group.name}: {consumer}"


@pytest.mark.parametrize("name", BUILDERS)
def test_every_channel_ends_somewhere(name: str) -> None:
    """Channels that nothing reads would be free; what a layer reads of a group is cut with it."""
    traced = onnxprune.trace(BUILDERS[name]())
    for group in traced:
        readers = Reading(traced).of(group)
        assert readers.consumers, group.name
        slim = rewrite_trace(traced, group.units[:1])
        assert slim.proto.graph.node
        for consumer in readers.layers:
            assert consumer.columns is not None
            seen = np.unique(consumer.columns[consumer.columns >= 0])
            assert len(seen) == len(group), f"{group.name}: {consumer}"


def test_inspect_lists_them(run: Run) -> None:
    groups = run("inspect", DIGITS, "--json").document["groups"]
    (project,) = groups[4]["consumers"]
    assert project == {
        "node": "/inverted/project/conv/Conv", "op": "Conv", "tensor": "/inverted/Clip_1_output_0", "axis": 1,
        "offset": 0, "entries": 128, "weight": "inverted.project.conv.weight", "taken": 64, "problem": "",
    }  # fmt: skip
    assert "/inverted/depthwise/conv/Conv" in groups[4]["passes"]
    table = run("inspect", DIGITS).out.partition("\nread by ")[2].partition("\n\n")[0].splitlines()
    assert table[0].split() == ["channels", "of", "axis", "offset", "a", "channel", "takes"]
    assert table[-1].split() == ["/head/Gemm", "/branches/window/Conv", "1", "32", "10"]
