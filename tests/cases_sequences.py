"""Small graphs with sequences and optional values, one per behaviour."""

from __future__ import annotations

from functools import partial

import onnx

from .building_text import Rows, entry, model

CASES: Rows = []

case = partial(entry, CASES)


@case("Loop", "SequenceEmpty", "ConcatFromSequence")
def list_in_loop() -> onnx.ModelProto:
    """PyTorch's list.append in a loop, stacked behind it."""
    return model("""
        g (float[2,6] x, int64 M) => (float[2,10] y)
          <float[8,6] W, float[8,8] R, float[8,12] O, float[10,12] V> {
          h0 = Gemm <transB=1> (x, W)
          yes = Constant <value = bool {1}> ()
          empty = SequenceEmpty ()
          h, all = Loop (M, yes, h0, empty) <
            body = b (int64 i, bool k, float[2,8] hi, seq(float[2,12]) si) => (k2, ho, so) {
              k2 = Identity(k)
              r = MatMul(hi, R)
              ho = Tanh(r)
              o = MatMul(ho, O)
              so = SequenceInsert(si, o)
            }>
          t = ConcatFromSequence <axis=1, new_axis=1> (all)
          one = Constant <value_ints=[1]> ()
          z = ReduceSum <keepdims=0> (t, one)
          y = Gemm <transB=1> (z, V)
        }""")


@case("SplitToSequence")
def split_by_size() -> onnx.ModelProto:
    """A scalar split size becomes a list once the parts differ (PyTorch's chunk)."""
    return model("""
        g (float[N,3,8,8] x) => (float[N,10] y)
          <float[20,3,3,3] W, float[12,8,1,1] L, float[16,4,1,1] R, float[10,28] V> {
          a = Conv <pads=[1,1,1,1]> (x, W)
          size = Constant <value_int=8> ()
          s = SplitToSequence <axis=1> (a, size)
          zero = Constant <value_int=0> ()
          two = Constant <value_int=2> ()
          l = SequenceAt(s, zero)
          r = SequenceAt(s, two)
          l2 = Conv (l, L)
          r2 = Conv (r, R)
          z = Concat <axis=1> (l2, r2)
          p = GlobalAveragePool(z)
          f = Flatten(p)
          y = Gemm <transB=1> (f, V)
        }""")


@case("SplitToSequence")
def split_by_sizes() -> onnx.ModelProto:
    """A list of sizes; the parts are joined again."""
    return model("""
        g (float[2,6] x) => (float[2,10] y) <float[16,6] W, float[10,16] V> {
          a = Gemm <transB=1> (x, W)
          sizes = Constant <value_ints=[4,12]> ()
          s = SplitToSequence <axis=1> (a, sizes)
          t = ConcatFromSequence <axis=1> (s)
          u = Relu(t)
          y = Gemm <transB=1> (u, V)
        }""")


@case("SplitToSequence")
def split_into_entries() -> onnx.ModelProto:
    """Without sizes every entry is an element of its own: the axis must stay."""
    return model("""
        g (float[2,6] x) => (float[2,10] y) <float[4,6] W, float[16,6] U, float[10,16] V> {
          a = Gemm <transB=1> (x, W)
          h = Gemm <transB=1> (x, U)
          s = SplitToSequence <axis=1, keepdims=0> (a)
          i = Constant <value_int=-1> ()
          e = SequenceAt(s, i)
          one = Constant <value_ints=[1]> ()
          f = Unsqueeze(e, one)
          m = Mul(f, h)
          y = Gemm <transB=1> (m, V)
        }""")


@case("SequenceInsert", "SequenceErase", "SequenceLength")
def edited_list() -> onnx.ModelProto:
    """Insert, erase and read elements of different widths at known places."""
    return model("""
        g (float[2,6] x) => (float[2,10] y)
          <float[8,6] A, float[12,6] B, float[16,6] C, float[10,28] V, float[10,12] E> {
          one = Constant <value_int=1> ()
          a = Gemm <transB=1> (x, A)
          b = Gemm <transB=1> (x, B)
          c = Gemm <transB=1> (x, C)
          s = SequenceConstruct(a, b)
          zero = Constant <value_int=0> ()
          s2 = SequenceInsert(s, c, zero)
          back = Constant <value_int=-2> ()
          s3 = SequenceErase(s2, back)
          n = SequenceLength(s3)
          z = ConcatFromSequence <axis=1> (s3)
          f = Cast <to=1> (n)
          d = Div(z, f)
          last = SequenceAt(s3, one)
          e = Gemm <transB=1> (last, E)
          v = Gemm <transB=1> (d, V)
          y = Add(e, v)
        }""")


@case("SequenceAt")
def position_from_data() -> onnx.ModelProto:
    """Which element is read, added or dropped is known only when the model runs."""
    return model("""
        g (float[2,6] x, int64 i) => (float[2,10] y)
          <float[8,6] A, float[8,6] B, float[8,6] C, float[10,8] V> {
          a = Gemm <transB=1> (x, A)
          b = Gemm <transB=1> (x, B)
          c = Gemm <transB=1> (x, C)
          s = SequenceConstruct(a, b)
          s2 = SequenceInsert(s, c, i)
          s3 = SequenceErase(s2, i)
          e = SequenceAt(s3, i)
          y = Gemm <transB=1> (e, V)
        }""")


@case("SequenceConstruct")
def list_of_branches() -> onnx.ModelProto:
    """An If returns a sequence."""
    return model("""
        g (float[2,6] x, bool c) => (float[2,10] y) <float[8,6] A, float[8,6] B, float[10,8] V> {
          a = Gemm <transB=1> (x, A)
          b = Gemm <transB=1> (x, B)
          s = If (c) <
            then_branch = t () => (s1) { s1 = SequenceConstruct(a, b) },
            else_branch = e () => (s2) { r = Relu(a) s2 = SequenceConstruct(r, r) }>
          z = ConcatFromSequence <axis=0, new_axis=1> (s)
          zero = Constant <value_ints=[0]> ()
          m = ReduceSum <keepdims=0> (z, zero)
          y = Gemm <transB=1> (m, V)
        }""")


@case("Optional", "OptionalGetElement", "OptionalHasElement")
def optional_tensor() -> onnx.ModelProto:
    """A tensor and a sequence through optional values."""
    return model("""
        g (float[2,6] x) => (float[2,10] y) <float[8,6] A, float[12,6] B, float[10,20] V> {
          a = Gemm <transB=1> (x, A)
          b = Gemm <transB=1> (x, B)
          o = Optional(a)
          g1 = OptionalGetElement(o)
          s = SequenceConstruct(b)
          p = Optional(s)
          t = OptionalGetElement(p)
          i = Constant <value_int=0> ()
          e = SequenceAt(t, i)
          has = OptionalHasElement(o)
          f = Cast <to=1> (has)
          z = Concat <axis=1> (g1, e)
          w = Mul(z, f)
          y = Gemm <transB=1> (w, V)
        }""")
