"""Graphs that come back byte for byte, because nothing in them can go."""

from __future__ import annotations

import onnx
import pytest

import onnxprune

from .building import Builder, between, net, positive, tokens

UNTOUCHED: dict[str, Builder] = {
    "channels are the output": net("y = Conv (x, W)", W=(8, 3, 3, 3)),
    "every feature map is an output": net("""
        h = Conv (x, W1)
        g = Conv (h, W2)
        y = Conv (g, W3)""", outputs="y, g, h", W1=(8, 3, 1, 1), W2=(8, 8, 1, 1), W3=(4, 8, 1, 1)),
    "softmax over channels": between("r = Softmax <axis=1> (h)"),
    "position of the largest channel": between("""
        p = ArgMax <axis=1> (h)
        f = Cast <to=1> (p)
        r = Mul (h, f)"""),
    "operators that nobody knows": net("""
        h = Conv (x, W1)
        r = example.Shuffle (h)
        g = Conv (r, W2)
        y = example.Shuffle (g)""", outputs="float[N,4,8,8] y", W1=(8, 3, 1, 1), W2=(4, 8, 1, 1)),
    "an unknown operator beside the data": between("""
        a = example.Gate (h)
        r = Mul (h, a)""", outputs="float[N,4,8,8] y"),
    "kernel from outside": net("""
        h = Conv (x, W1)
        y = Conv (h, w)""", inputs="float[N,3,8,8] x, float[4,8,1,1] w", W1=(8, 3, 1, 1)),
    "sum with an input": between("r = Add (h, z)", inputs="float[N,3,8,8] x, float[N,8,8,8] z"),
    "channels picked by data": between("r = Gather <axis=1> (h, k)",
        inputs="float[N,3,8,8] x, int64[8] k"),
    "no weights": net("""
        a = Relu (x)
        y = GlobalAveragePool (a)"""),
    "a single node": net("y = Identity (x)"),
    "constants alone": net("""
        a = Add (b, c)
        y = Mul (x, a)""", b=positive(3, 1, 1), c=positive(3, 1, 1)),
    "channels become pixels": net("""
        h = Conv (x, W1)
        y = DepthToSpace <blocksize=2> (h)""", W1=(4, 3, 3, 3)),
    "one channel": between("r = Relu (h)", W1=(1, 3, 3, 3), B1=(1,), W2=(4, 1, 1, 1)),
    "tokens sorted by channel": tokens("r, i = TopK <axis=2> (h, k)", k=[8]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOUCHED)
def test_model_comes_back_byte_for_byte(name: str) -> None:
    model = UNTOUCHED[name]()
    result = onnxprune.prune(model, ratio=0.5, granularity=1)
    assert not result.plan.constants
    assert result.model.proto.SerializeToString() == model.SerializeToString()


def test_everything_excluded() -> None:
    model = between("r = Relu (h)")()
    result = onnxprune.prune(model, ratio=0.5, granularity=1, exclude=["*"])
    assert result.model.proto.SerializeToString() == model.SerializeToString()


def test_input_is_not_changed() -> None:
    model = between("r = Relu (h)")()
    before = model.SerializeToString()
    result = onnxprune.prune(model, ratio=0.5, granularity=1)
    assert model.SerializeToString() == before
    assert result.model.proto.SerializeToString() != before


def test_notes_survive() -> None:
    """Documentation, metadata and names of what is not cut, and of what is."""
    model = between("r = Relu (h)")()
    model.doc_string, model.producer_name, model.domain = "what it is", "someone", "example"
    model.metadata_props.add(key="classes", value="cat, dog")
    model.graph.doc_string = "a graph"
    model.graph.node[1].doc_string = "a rectifier"
    model.graph.initializer[0].doc_string = "filters"
    slim = onnxprune.prune(model, ratio=0.5, granularity=1).model.proto
    stripped = onnx.ModelProto()
    stripped.CopyFrom(slim)
    for dense, cut in zip(model.graph.initializer, stripped.graph.initializer, strict=True):
        cut.dims[:], cut.raw_data = dense.dims, dense.raw_data
    assert stripped == model
