"""Operators that onnxruntime's optimizers write in place of several of ONNX."""

from __future__ import annotations

import numpy as np

from ..labels.vector import NONE
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .conv import kernels
from .join_and_take import pad
from .matmul import contract
from .norm import block_statistics
from .registry import pinned, rule
from .views import refold

MS = "com.microsoft"

rule("ExpandDims", domain=MS, traits=Trait.VIEW)(refold)
rule("Pad", domain=MS, traits=Trait.SIZED_BY_VALUES)(pad)


@rule("Gelu", "QuickGelu", "ScaledSiLU", domain=MS, traits=Trait.UNARY | Trait.LIKE_FIRST)
@rule("SampleOp", domain=MS, traits=Trait.UNARY)
def unary(c: Walk, n: Node) -> None:
    """Carries the labels of its input."""
    c.same(n, n.output)


@rule("BiasAdd", "BiasGelu", "FastGelu", "GatedAdd", domain=MS, traits=Trait.COMBINES | Trait.LIKE_FIRST)
def broadcast(c: Walk, n: Node) -> None:
    """Couples its inputs entry by entry, with numpy broadcasting."""
    c.out(n.output, c.elementwise(n.inputs))


@rule("BiasDropout", domain=MS, traits=Trait.RANDOM | Trait.LIKE_FIRST)
def bias_dropout(c: Walk, n: Node) -> None:
    """Couples data, bias and residual entry by entry."""
    labels = c.elementwise(n.inputs[:3])
    for name in n.outputs:
        c.out(name, labels)


@rule("BiasSplitGelu", domain=MS, traits=Trait.NONE)
def bias_split_gelu(c: Walk, n: Node) -> None:
    """The left half of the channels is gated by the right half: both go together."""
    *rest, wide = c.elementwise(n.inputs)
    if wide is NONE:
        c.out(n.output, [*rest, NONE])
        return
    left, right = np.split(wide, 2)
    c.unify(left, right)
    c.out(n.output, [*rest, left])


@rule("BiasSoftmax", domain=MS, along="pinned", traits=Trait.LIKE_FIRST)
def bias_softmax(c: Walk, n: Node) -> None:
    """Pins the axes that it normalizes along, carries the others."""
    data, bias = n.inputs
    rank = c.rank(data)
    axes = range(n.attr("axis", 1) % rank, rank)
    c.freeze([bias], f"{n} adds it to what it normalizes")
    c.out(n.output, c.fixed(data, axes, f"{n} normalizes along it"))


@rule("GemmFastGelu", domain=MS, traits=Trait.NONE)
def gemm_fast_gelu(c: Walk, n: Node) -> None:
    """A linear layer with its activation."""
    X, W, bias = n.take(3)
    contract(c, X, -1, W, 0)
    O = c.axis(W, 1)
    c.kernel(n, W, 1)
    c.meet(bias, 0, O)
    c.out(n.output, [*c.labels(X)[:-1], O])
    c.macs(lambda z: z.output(n) * z.size(W, 0))


@rule("NhwcConv", "NhwcFusedConv", domain=MS, traits=Trait.SATURATES)
def nhwc_conv(c: Walk, n: Node) -> None:
    """Like Conv, with the channels on the last axis of input and output."""
    X, W, B, Z = n.take(4)
    batch, *_, C = c.fixed(X, range(1, c.rank(X) - 1), f"{n} slides a window along it")
    O = kernels(c, n, C, W, B)
    c.meet(Z, -1, O)
    c.out(n.output, [batch, *[NONE] * (c.rank(X) - 2), O])


@rule("NhwcMaxPool", domain=MS, traits=Trait.NONE)
def nhwc_pool(c: Walk, n: Node) -> None:
    """Carries batch and channels, which are on the last axis."""
    X = n.inputs[0]
    c.out(n.output, c.fixed(X, range(1, c.rank(X) - 1), f"{n} slides a window along it"))


@rule("GroupNorm", domain=MS, along="statistic", traits=Trait.LIKE_FIRST)
@rule("SkipGroupNorm", domain=MS, along="statistic", traits=Trait.NONE)
def group_norm(c: Walk, n: Node) -> None:
    """Statistics inside blocks of channels: whole blocks go without a change of statistics."""
    X, gamma, beta, skip, bias = n.take(5)
    axis = c.rank(X) - 1 if n.attr("channels_last", 1) else 1
    channels = c.axis(X, axis)
    if skip:
        if c.rank(skip) == c.rank(X):
            c.join([(X, axis), (skip, axis)])
        else:
            c.meet(skip, -1, channels)
    c.meet(bias, 0, channels)
    inside = [v for k, v in enumerate(c.labels(X)) if k not in (0, axis)]
    block_statistics(c, n, channels, "groups", (gamma, beta), inside)
    for name in n.outputs:
        c.out(name, c.labels(X))


@rule("TorchEmbedding", domain=MS, traits=Trait.NONE)
def embedding(c: Walk, n: Node) -> None:
    """Picks rows of a table by data, and carries its columns."""
    table, indices = n.inputs[:2]
    O = c.fixed(table, [0], f"{n} picks from it by data")[1]
    c.kernel(n, table, 1)
    c.out(n.output, [*c.labels(indices), O])


@rule("RelativePositionBias", domain=MS, traits=Trait.NONE)
def relative_position_bias(c: Walk, n: Node) -> None:
    """A table of one bias per distance and head: carries the heads."""
    table = n.inputs[0]
    heads = c.fixed(table, [0], f"{n} picks from it by distance")[1]
    c.out(n.output, [NONE, heads, NONE, NONE])


@rule("Inverse", domain=MS, traits=Trait.LIKE_FIRST)
def inverse(c: Walk, n: Node) -> None:
    """Pins the axes of the matrices, carries the others."""
    c.out(n.output, c.fixed(n.inputs[0], [-1, -2], f"{n} inverts matrices along it"))


@rule("CDist", domain=MS, along="exact", traits=Trait.NONE)
def distances(c: Walk, n: Node) -> None:
    """Contracts the axis along which it measures distances."""
    A, B = n.inputs
    if n.attr("metric", "sqeuclidean") not in ("euclidean", "sqeuclidean"):
        c.freeze(n.inputs, f"{n} measures a distance that is no sum over channels")
        return
    contract(c, A, 1, B, 1)
    c.out(n.output, [c.axis(A, 0), c.axis(B, 0)])
    c.macs(lambda z: z.output(n) * z.size(A, 1))


pinned(
    "BeamSearch",
    "GreedySearch",
    "WhisperBeamSearch",
    domain=MS,
    why="it runs decoders of its own; prune those before they are put into it",
)
pinned(
    "Sampling",
    domain=MS,
    why="it runs decoders of its own; prune those before they are put into it",
    traits=Trait.RANDOM,
)
pinned(
    "DecoderAttention", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention",
    "DynamicSparseAttention", "GatedDeltaNet", "GatedRelativePositionBias", "GemmaRotaryEmbedding",
    "LongformerAttention", "MRotaryEmbedding", "PackedAttention", "PackedMultiHeadAttention",
    "PackedSparseAttentionIndexer", "PagedAttention", "RemovePadding", "RestorePadding",
    "SparseAttention", "SparseAttentionIndexer", "SparsePagedAttention", "VarlenCausalConvWithState",
    domain=MS,
    why="its layout fixes the heads; prune the model before onnxruntime rewrites it",
)  # fmt: skip
pinned("MoE", domain=MS, why="its experts share a router; prune the model before they are fused")
pinned(
    "AttnLSTM", "BifurcationDetector", "BranchwiseRMSNorm", "ComplexMul", "ComplexMulConj",
    "ConvTransposeWithDynamicPads", "DynamicTimeWarping", "EPContext", "EngramGate",
    "FusedMatMulActivation", "GatedRMSNorm", "HyperConnectionPostMix", "HyperConnectionPreMix", "Irfft",
    "IsAllFinite", "LinearAttentionGate", "MaxpoolWithMask", "MurmurHash3", "NGramHashMapping",
    "NGramRepeatBlock", "Rfft", "SparseToDenseMatMul", "Tokenizer", "UnfoldTensor",
    "VarlenNGramHashMapping", "WordConvEmbedding",
    domain=MS,
    why="only onnxruntime knows it; prune the model before onnxruntime rewrites it",
)  # fmt: skip
pinned(
    "BitmaskBiasDropout",
    "BitmaskDropout",
    domain=MS,
    why="only onnxruntime knows it; prune the model before onnxruntime rewrites it",
    traits=Trait.RANDOM,
)
pinned(
    "AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReorderInput",
    "ReorderOutput", "Upsample",
    domain="com.microsoft.nchwc",
    why="its channels are in blocks for one processor; prune before onnxruntime rewrites the model",
)  # fmt: skip
