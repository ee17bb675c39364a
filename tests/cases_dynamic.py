"""Small graphs whose shapes are computed while they run, one per idiom of the exporters."""

from __future__ import annotations

from functools import partial

import onnx

from .building_text import Rows, entry, model

CASES: Rows = []

case = partial(entry, CASES)


@case("Reshape")
def merged_heads() -> onnx.ModelProto:
    """PyTorch's attention with the time first: views [T, N * heads, D] of computed size."""
    return model("""
        g (float[T,N,16] x) => (float[T,N,10] y)
          <float[16,24] Q, float[16,24] K, float[16,24] V, float[24,10] P> {
          zero = Constant <value_int=0> ()
          one = Constant <value_int=1> ()
          first = Constant <value_ints=[0]> ()
          four = Constant <value_int=4> ()
          depth = Constant <value_ints=[6]> ()
          width = Constant <value_ints=[24]> ()
          q = MatMul(x, Q)
          k = MatMul(x, K)
          v = MatMul(x, V)
          s = Shape(x)
          t0 = Gather(s, zero)
          t = Unsqueeze(t0, first)
          n0 = Gather(s, one)
          n1 = Mul(n0, four)
          n = Unsqueeze(n1, first)
          views = Concat <axis=0> (t, n, depth)
          qv = Reshape(q, views)
          kv = Reshape(k, views)
          vv = Reshape(v, views)
          qt = Transpose <perm=[1,0,2]> (qv)
          kt = Transpose <perm=[1,2,0]> (kv)
          vt = Transpose <perm=[1,0,2]> (vv)
          w = MatMul(qt, kt)
          p = Softmax <axis=-1> (w)
          o = MatMul(p, vt)
          ot = Transpose <perm=[1,0,2]> (o)
          nn = Unsqueeze(n0, first)
          back = Concat <axis=0> (t, nn, width)
          m = Reshape(ot, back)
          y = MatMul(m, P)
        }""")


@case("Reshape")
def windows() -> onnx.ModelProto:
    """Partition into windows of 4 x 4 and back, with batch, height and width open (Swin)."""
    return model("""
        g (float[N,3,H,W] x) => (float[N,10,H,W] y)
          <float[12,3,1,1] C, float[12,8] Q, float[12,8] K, float[12,10] V> {
          c0 = Conv (x, C)
          c = Transpose <perm=[0,2,3,1]> (c0)
          s = Shape(c)
          four = Constant <value_ints=[4]> ()
          minus = Constant <value_ints=[-1]> ()
          sixteen = Constant <value_ints=[16]> ()
          i0 = Constant <value_ints=[0]> ()
          i1 = Constant <value_ints=[1]> ()
          i2 = Constant <value_ints=[2]> ()
          i3 = Constant <value_ints=[3]> ()
          n = Gather(s, i0)
          h = Gather(s, i1)
          w = Gather(s, i2)
          d = Gather(s, i3)
          hw = Div(h, four)
          ww = Div(w, four)
          cut = Concat <axis=0> (n, hw, four, ww, four, d)
          a = Reshape(c, cut)
          b = Transpose <perm=[0,1,3,2,4,5]> (a)
          flat = Concat <axis=0> (minus, sixteen, d)
          e = Reshape(b, flat)
          q = MatMul(e, Q)
          k = MatMul(e, K)
          kt = Transpose <perm=[0,2,1]> (k)
          l = MatMul(q, kt)
          p = Softmax <axis=-1> (l)
          o = MatMul(p, e)
          cut2 = Concat <axis=0> (n, hw, ww, four, four, d)
          r = Reshape(o, cut2)
          t = Transpose <perm=[0,1,3,2,4,5]> (r)
          whole = Concat <axis=0> (n, h, w, minus)
          u = Reshape(t, whole)
          z = Add(u, c)
          f = MatMul(z, V)
          y = Transpose <perm=[0,3,1,2]> (f)
        }""")


@case("Expand")
def repeated_token() -> onnx.ModelProto:
    """A class token expanded to the batch, a query tiled, a padding of zeros of computed size."""
    return model("""
        g (float[N,T,6] x) => (float[N,10] y)
          <float[6,16] W, float[1,1,16] C, float[1,1,16] Q, float[16,10] V> {
          h = MatMul(x, W)
          s = Shape(h)
          i0 = Constant <value_ints=[0]> ()
          i2 = Constant <value_ints=[2]> ()
          one = Constant <value_ints=[1]> ()
          n = Gather(s, i0)
          d = Gather(s, i2)
          size = Concat <axis=0> (n, one, d)
          token = Expand(C, size)
          z = Concat <axis=1> (token, h)
          times = Concat <axis=0> (n, one, one)
          q = Tile(Q, times)
          zeros = ConstantOfShape <value = float[1] {0.5}> (size)
          a = Add(q, zeros)
          m = ReduceSum <keepdims=1> (z, one)
          b = Mul(m, a)
          u = Sigmoid(b)
          f = Squeeze(u, one)
          y = MatMul(f, V)
        }""")


@case("Slice")
def half_of_time() -> onnx.ModelProto:
    """Bounds and sizes computed from the length: a Slice and a Split along time."""
    return model("""
        g (float[N,T,6] x) => (float[N,10] y) <float[6,16] W, float[16,10] V> {
          h = MatMul(x, W)
          one = Constant <value_ints=[1]> ()
          two = Constant <value_ints=[2]> ()
          zero = Constant <value_ints=[0]> ()
          t = Shape <start=1, end=2> (h)
          half = Div(t, two)
          first = Slice(h, zero, half, one)
          rest = Sub(t, half)
          sizes = Concat <axis=0> (half, rest)
          a, b = Split <axis=1> (h, sizes)
          c = Tanh(b)
          j = Concat <axis=1> (first, c)
          e = Exp(j)
          m = ReduceSum <keepdims=0> (e, one)
          y = MatMul(m, V)
        }""")


@case("Resize")
def resize_to_skip() -> onnx.ModelProto:
    """Upsampling to the size of the skip connection, read by Shape (U-Net)."""
    return model("""
        g (float[N,3,H,W] x) => (float[N,4,H,W] y)
          <float[8,3,3,3] A, float[12,8,3,3] B, float[4,20,3,3] C> {
          a0 = Conv <pads=[1,1,1,1]> (x, A)
          a = Relu(a0)
          p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (a)
          b0 = Conv <pads=[1,1,1,1]> (p, B)
          b = Relu(b0)
          whole = Shape(a)
          two = Constant <value_ints=[2]> ()
          four = Constant <value_ints=[4]> ()
          zero = Constant <value_ints=[0]> ()
          hw = Slice(whole, two, four, zero)
          sb = Shape(b)
          nc = Slice(sb, zero, two, zero)
          size = Concat <axis=0> (nc, hw)
          u = Resize <mode="nearest"> (b, , , size)
          z = Concat <axis=1> (u, a)
          y = Conv <pads=[1,1,1,1]> (z, C)
        }""")


@case("Reshape")
def computed_width() -> onnx.ModelProto:
    """A flattening whose number of features is a product of sizes, behind it f(0) != 0."""
    return model("""
        g (float[N,3,H,W] x) => (float[N,1] y) <float[8,3,3,3] A> {
          a = Conv <pads=[1,1,1,1]> (x, A)
          zero = Constant <value_ints=[0]> ()
          one = Constant <value_ints=[1]> ()
          n = Shape <end=1> (a)
          chw = Shape <start=1> (a)
          f = ReduceProd <keepdims=1> (chw, zero)
          size = Concat <axis=0> (n, f)
          v = Reshape(a, size)
          s = Sigmoid(v)
          y = ReduceSum <keepdims=1> (s, one)
        }""")


@case("Flatten")
def computed_mean() -> onnx.ModelProto:
    """Statistics of a flattened map: channels and pixels share the axis that they run along."""
    return model(
        """
        g (float[N,3,H,W] x) => (float[N,1] y) <float[8,3,3,3] A> {
          a = Conv <pads=[1,1,1,1]> (x, A)
          v = Flatten(a)
          m = ReduceMean <axes=[1], keepdims=1> (v)
          d = Sub(v, m)
          e = Exp(d)
          y = ReduceMean <axes=[1], keepdims=1> (e)
        }""",
        17,
    )


@case("Where")
def causal_mask() -> onnx.ModelProto:
    """A mask from Range, and one from ConstantOfShape and Trilu's forerunner, over heads."""
    return model("""
        g (float[N,T,12] x) => (float[N,T,10] y)
          <float[12,24] Q, float[12,24] K, float[12,24] V, float[24,10] P> {
          q = MatMul(x, Q)
          k = MatMul(x, K)
          v = MatMul(x, V)
          n = Shape <end=1> (x)
          t = Shape <start=1, end=2> (x)
          heads = Constant <value_ints=[3]> ()
          minus = Constant <value_ints=[-1]> ()
          zero = Constant <value_ints=[0]> ()
          one = Constant <value_ints=[1]> ()
          z0 = Constant <value_int=0> ()
          z1 = Constant <value_int=1> ()
          view = Concat <axis=0> (n, t, heads, minus)
          q4 = Reshape(q, view)
          k4 = Reshape(k, view)
          v4 = Reshape(v, view)
          qt = Transpose <perm=[0,2,1,3]> (q4)
          kt = Transpose <perm=[0,2,3,1]> (k4)
          vt = Transpose <perm=[0,2,1,3]> (v4)
          w = MatMul(qt, kt)
          ts = Squeeze(t, zero)
          i = Range(z0, ts, z1)
          row = Unsqueeze(i, one)
          column = Unsqueeze(i, zero)
          seen = LessOrEqual(column, row)
          square = Concat <axis=0> (t, t)
          low = ConstantOfShape <value = float[1] {-10000.0}> (square)
          wm = Where(seen, w, low)
          p = Softmax <axis=-1> (wm)
          o = MatMul(p, vt)
          ot = Transpose <perm=[0,2,1,3]> (o)
          flat = Concat <axis=0> (n, t, minus)
          m = Reshape(ot, flat)
          y = MatMul(m, P)
        }""")


@case("Reshape")
def time_into_batch() -> onnx.ModelProto:
    """[N, T, C] seen as [N * T, C] and back, a mixed entry without channels."""
    return model("""
        g (float[N,T,6] x) => (float[N,T,10] y)
          <float[6,16] W, float[12,16] G, float[12] B, float[12] S, float[12,10] V> {
          h = MatMul(x, W)
          s = Shape(h)
          i0 = Constant <value_int=0> ()
          i1 = Constant <value_int=1> ()
          i2 = Constant <value_int=2> ()
          zero = Constant <value_ints=[0]> ()
          minus = Constant <value_ints=[-1]> ()
          n = Gather(s, i0)
          t = Gather(s, i1)
          c = Gather(s, i2)
          nt = Mul(n, t)
          a = Unsqueeze(nt, zero)
          b = Unsqueeze(c, zero)
          size = Concat <axis=0> (a, b)
          f = Reshape(h, size)
          g1 = Gemm <transB=1> (f, G, B)
          r = Relu(g1)
          l = LayerNormalization(r, S)
          n1 = Unsqueeze(n, zero)
          t1 = Unsqueeze(t, zero)
          back = Concat <axis=0> (n1, t1, minus)
          z = Reshape(l, back)
          y = MatMul(z, V)
        }""")


@case("ConstantOfShape")
def initial_state() -> onnx.ModelProto:
    """Batch times heads as one axis that meets a tensor made by ConstantOfShape."""
    return model("""
        g (float[N,T,8] x) => (float[N,T,10] y) <float[8,20] K, float[20,10] V> {
          k = MatMul(x, K)
          n = Shape <end=1> (x)
          t = Shape <start=1, end=2> (x)
          heads = Constant <value_ints=[4]> ()
          depth = Constant <value_ints=[5]> ()
          nh = Mul(n, heads)
          split = Concat <axis=0> (n, t, heads, depth)
          k4 = Reshape(k, split)
          kt = Transpose <perm=[0,2,1,3]> (k4)
          merged = Concat <axis=0> (nh, t, depth)
          km = Reshape(kt, merged)
          bias = ConstantOfShape <value = float[1] {0.25}> (merged)
          kb = Add(km, bias)
          e = Exp(kb)
          apart = Concat <axis=0> (n, heads, t, depth)
          k5 = Reshape(e, apart)
          k6 = Transpose <perm=[0,2,1,3]> (k5)
          width = Constant <value_ints=[20]> ()
          flat = Concat <axis=0> (n, t, width)
          m = Reshape(k6, flat)
          y = MatMul(m, V)
        }""")
