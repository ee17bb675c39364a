"""Multiply-accumulate operations of operators, counted by hand."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import pytest

from onnxprune.coupling.trace import trace
from onnxprune.selection.cost import macs

from .cases import CASES

ROWS = {f"{case.op} {case.name}": case for case in CASES}

# Layers around the operator first, then the operator itself.
EXPECTED: Mapping[str, int] = {
    "LSTM plain": 10 * 3 * 8 + 2 * 6 * 4 + 10 * 6 * 4 + 10 * (24 * 8 + 24 * 6),
    "GRU plain": 10 * 3 * 8 + 2 * 6 * 4 + 10 * 6 * 4 + 10 * (18 * 8 + 18 * 6),
    "RNN plain": 10 * 3 * 8 + 2 * 6 * 4 + 10 * 6 * 4 + 10 * (6 * 8 + 6 * 6),
    "LSTM peepholes": 10 * 3 * 8 + 2 * 2 * 6 * 4 + 2 * 10 * 6 * 4 + 2 * 10 * (24 * 8 + 24 * 6),
    "Einsum linear": 10 * 3 * 8 + 10 * 6 * 4 + 10 * 8 * 6,
    "Einsum heads": 10 * 3 * 8 + 10 * 3 * 6 * 4 + 10 * 8 * 18,
    "Einsum scores": 2 * 10 * 3 * 8 + 10 * 5 * 4 + 2 * 5 * 5 * 8,
    "Attention multi-head": 3 * 8 * 3 * 24 + 8 * 24 * 4 + 8 * 24 * 4 + 8 * 24 * 4,
    "Attention four dimensions": 3 * 8 * 3 * 24 + 8 * 24 * 4 + 8 * 24 * 4 + 8 * 24 * 4,
    "Attention values of another size": 8 * 3 * (24 + 24 + 16) + 8 * 16 * 4 + 8 * (24 + 16) * 4,
    "com.microsoft::MultiHeadAttention separate": 3 * 8 * 3 * 24 + 8 * 24 * 4 + 2 * 8 * 24 * 4,
    "com.microsoft::GroupQueryAttention separate": 8 * 3 * (32 + 16 + 16) + 8 * 32 * 4 + 2 * 8 * 32 * 4,
    "com.microsoft::Attention equal sizes": 8 * 3 * 10 + 8 * 24 * 4 + 8 * 10 * 72 + 2 * 8 * 24 * 4,
    "LinearAttention linear": 8 * 3 * (24 + 24 + 20) + 8 * 20 * 4 + 8 * 24 * 5 + 8 * 20 * 6,
    "CausalConvWithState silu": 14 * 3 * 3 * 8 + 14 * 8 * 3 * 4 + 14 * 8 * 3,
    "com.microsoft::FusedMatMul stored": 8 * 3 * 6 + 8 * 8 * 4 + 8 * 6 * 8,
    "com.microsoft::FusedGemm relu": 2 * 3 * 8 + 2 * 6 * 4 + 2 * 8 * 6,
    "com.microsoft::GemmFastGelu linear": 8 * 3 * 8 + 8 * 6 * 4 + 8 * 8 * 6,
    "com.microsoft::NhwcConv groups": 32 * 3 * 8 + 32 * 12 * 4 + 32 * 12 * 4,
    "com.microsoft::CDist euclidean": 6 * 3 * 8 + 5 * 3 * 8 + 6 * 5 * 4 + 6 * 5 * 8,
    "DeformConv dense": 6 * 9 * 3 * 8 + 6 * 9 * 3 * 27 + 6 * 12 * 4 + 6 * 12 * 8 * 9,
}


@pytest.mark.parametrize("row", EXPECTED)
def test_macs(row: str) -> None:
    model: onnx.ModelProto = ROWS[row].build()
    traced = trace(model)
    assert macs(traced, traced.sizes()) == EXPECTED[row]
