"""Small graphs with control flow, one per behaviour."""

from __future__ import annotations

from functools import partial

import onnx

from .building_text import Rows, entry, model

CASES: Rows = []

case = partial(entry, CASES)


def move_inside(proto: onnx.ModelProto, holder: str, *names: str) -> onnx.ModelProto:
    """Move initializers into the first nested graph of the first node of a type."""
    (node,) = [n for n in proto.graph.node if n.op_type == holder][:1]
    body = next(a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
    kept = [t for t in proto.graph.initializer if t.name not in names]
    body.initializer.extend(t for t in proto.graph.initializer if t.name in names)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


# If ---------------------------------------------------------------------------------------


@case("If")
def branches_with_layers() -> onnx.ModelProto:
    """Each branch has a convolution of its own, one with its weight inside the branch."""
    proto = model("""
        g (float[N,3,8,8] x, bool c) => (float[N,10] y)
          <float[16,3,3,3] W1, float[24,16,3,3] W2, float[24] B2, float[24,16,1,1] W3, float[10,24] V> {
          a = Conv <pads=[1,1,1,1]> (x, W1)
          h = Relu(a)
          z = If (c) <
            then_branch = t () => (t2) { t1 = Conv <pads=[1,1,1,1]> (h, W2, B2) t2 = Relu(t1) },
            else_branch = e () => (e2) { e1 = Conv (h, W3) e2 = Sigmoid(e1) }>
          p = GlobalAveragePool(z)
          f = Flatten(p)
          y = Gemm <transB=1> (f, V)
        }""")
    return move_inside(proto, "If", "W2")


@case("If")
def branch_is_constant() -> onnx.ModelProto:
    """One branch returns a Constant, which is sliced in place; it is read inside, too."""
    return model("""
        g (float[N,6] x, bool c) => (float[N,10] y) <float[8,6] W, float[10,8] V> {
          h = Gemm <transB=1> (x, W)
          z = If (c) <
            then_branch = t () => (h2) { h2 = Tanh(h) },
            else_branch = e () => (k) {
              k = Constant <value = float[1,8] {1.0, -2.0, 3.0, 0.5, 1.5, -1.0, 2.5, -0.5}> ()
              unused = Relu(k)
            }>
          s = Add(h, z)
          y = Gemm <transB=1> (s, V)
        }""")


@case("If")
def branch_returns_initializer() -> onnx.ModelProto:
    """A branch hands out an initializer of its own graph."""
    proto = model("""
        g (float[2,6] x, bool c) => (float[2,10] y) <float[8,6] W, float[2,8] K, float[10,8] V> {
          h = Gemm <transB=1> (x, W)
          z = If (c) <
            then_branch = t () => (float[2,8] K) { k2 = Relu(h) },
            else_branch = e () => (h2) { h2 = Tanh(h) }>
          y = Gemm <transB=1> (z, V)
        }""")
    return move_inside(proto, "If", "K")


@case("If")
def branch_computes_constant() -> onnx.ModelProto:
    """A branch returns what is computed from stored tensors alone."""
    return model("""
        g (float[2,6] x, bool c) => (float[2,10] y) <float[8,6] W, float[2,8] K, float[10,8] V> {
          h = Gemm <transB=1> (x, W)
          z = If (c) <
            then_branch = t () => (k) { k = Sigmoid(K) },
            else_branch = e () => (h2) { h2 = Tanh(h) }>
          y = Gemm <transB=1> (z, V)
        }""")


@case("If")
def nested_branches() -> onnx.ModelProto:
    """A condition inside a branch, on a tensor of the outermost graph."""
    return model("""
        g (float[2,6] x, bool c, int64 k) => (float[2,10] y)
          <float[8,6] W, float[8,12] A, float[8,12] B, float[8,12] C, float[10,12] V> {
          h = Gemm <transB=1> (x, W)
          z = If (c) <
            then_branch = t () => (i) {
              two = Constant <value_int=2> ()
              q = Equal(k, two)
              i = If (q) <
                then_branch = tt () => (t2) { t1 = MatMul(h, A) t2 = Relu(t1) },
                else_branch = te () => (u2) { u1 = MatMul(h, B) u2 = Exp(u1) }>
            },
            else_branch = e () => (e1) { e1 = MatMul(h, C) }>
          y = Gemm <transB=1> (z, V)
        }""")


@case("If")
def squeeze_if_single() -> onnx.ModelProto:
    """PyTorch's squeeze: the shape decides the branch, and the branches differ in rank."""
    return model("""
        g (float[N,3,8,8] x) => (float[N,10] y) <float[16,3,3,3] W, float[10,16] V> {
          a = Conv (x, W)
          p = GlobalAveragePool(a)
          one = Constant <value_ints=[1]> ()
          s = Shape <start=3> (p)
          q = Equal(s, one)
          three = Constant <value_ints=[3]> ()
          two = Constant <value_ints=[2]> ()
          z = If (q) <
            then_branch = t () => (t1) { t1 = Squeeze(p, three) },
            else_branch = e () => (e1) { e1 = Identity(p) }>
          f = Squeeze(z, two)
          y = Gemm <transB=1> (f, V)
        }""")


@case("If")
def branch_by_batch() -> onnx.ModelProto:
    """The batch decides the branch: at the sample sizes always the same one."""
    return model("""
        g (float[N,6] x) => (float[N,10] y) <float[8,6] W, float[8,12] A, float[8,12] B, float[10,12] V> {
          h = Gemm <transB=1> (x, W)
          one = Constant <value_ints=[1]> ()
          n = Shape <end=1> (x)
          q = Equal(n, one)
          z = If (q) <
            then_branch = t () => (t2) { t1 = MatMul(h, A) t2 = Sigmoid(t1) },
            else_branch = e () => (e2) { e1 = MatMul(h, B) e2 = Relu(e1) }>
          y = Gemm <transB=1> (z, V)
        }""")


@case("If")
def branch_computes_from_shared() -> onnx.ModelProto:
    """A branch returns what is computed from a matrix, so the rows of that must stay elsewhere."""
    return model("""
        g (float[2,6] x, bool c) => (float[2,10] y) <float[8,6] K, float[10,8] U, float[6,10] M> {
          h = Gemm <transB=1> (x, K)
          w = Tanh(h)
          u = Gemm <transB=1> (w, U)
          z = If (c) <
            then_branch = t () => (k) { k = Sigmoid(K) },
            else_branch = e () => (k2) { k2 = Constant <value = float[1,6] {1.0,2.0,3.0,4.0,5.0,6.0}> () }>
          zero = Constant <value_ints=[0]> ()
          m = ReduceMax <keepdims=1> (z, zero)
          v = MatMul(m, M)
          y = Add(u, v)
        }""")


@case("If")
def branches_of_different_size() -> onnx.ModelProto:
    """One branch halves the channels: they must stay; those of the other axis go."""
    return model("""
        g (float[2,6] x, bool c) => (float[2,4] y) <float[8,6] W, float[12,6] U, float[4,12] V> {
          one = Constant <value_ints=[1]> ()
          h = Gemm <transB=1> (x, W)
          u = Gemm <transB=1> (x, U)
          z = If (c) <
            then_branch = t () => (t1) { t1 = Relu(h) },
            else_branch = e () => (e1) { e1, e2 = Split <num_outputs=2, axis=1> (h) }>
          m = ReduceSum <keepdims=1> (z, one)
          v = Mul(m, u)
          y = Gemm <transB=1> (v, V)
        }""")


# Loop -------------------------------------------------------------------------------------


@case("Loop")
def recurrent_cell() -> onnx.ModelProto:
    """A hidden state computed from an input and carried over the iterations."""
    return model("""
        g (float[2,6] x, int64 M) => (float[2,10] y)
          <float[16,6] W, float[16,6] U, float[16] B, float[16,16] R, float[10,16] V> {
          h0 = Gemm <transB=1> (x, W)
          u = Gemm <transB=1> (x, U, B)
          yes = Constant <value = bool {1}> ()
          h = Loop (M, yes, h0) <
            body = b (int64 i, bool k, float[2,16] hi) => (k2, ho) {
              k2 = Identity(k)
              r = MatMul(hi, R)
              s = Add(r, u)
              ho = Tanh(s)
            }>
          y = Gemm <transB=1> (h, V)
        }""")


@case("Loop")
def constant_initial_state() -> onnx.ModelProto:
    """The state starts from a stored tensor; the body holds its weights and layers of its own."""
    proto = model("""
        g (float[2,6] x) => (float[2,10] y)
          <float[2,16] H0, float[16,16] R, float[6,16] U, float[16,12] S, float[16,12] P, float[10,12] V> {
          M = Constant <value_int=4> ()
          yes = Constant <value = bool {1}> ()
          h, hs = Loop (M, yes, H0) <
            body = b (int64 i, bool k, float[2,16] hi) => (k2, ho, out) {
              k2 = Identity(k)
              a = MatMul(hi, R)
              u = MatMul(x, U)
              b = Add(a, u)
              ho = Sigmoid(b)
              c = MatMul(ho, S)
              out = Relu(c)
            }>
          zero = Constant <value_ints=[0]> ()
          s = ReduceSum <keepdims=0> (hs, zero)
          p = MatMul(h, P)
          q = Add(p, s)
          y = Gemm <transB=1> (q, V)
        }""")
    return move_inside(proto, "Loop", "R", "S")


@case("Loop")
def carries_its_weights() -> onnx.ModelProto:
    """The loop hands on weights and a bias as they are; the scores of channels come from them."""
    return model("""
        g (float[2,6] x) => (float[2,10] y) <float[6,16] U, float[16,16] R, float[16] B, float[10,16] V> {
          M = Constant <value_int=3> ()
          yes = Constant <value = bool {1}> ()
          h0 = Constant <value_float=0.0> ()
          s = Constant <value_ints=[2,16]> ()
          h1 = Expand(h0, s)
          h, U2, R2, B2 = Loop (M, yes, h1, U, R, B) <
            body = b (int64 i, bool k, float[2,16] hi, float[6,16] Ui, float[16,16] Ri, float[16] Bi)
              => (k2, ho, float[6,16] Ui, Rj, float[16] Bi) {
              k2 = Identity(k)
              Rj = Identity(Ri)
              u = MatMul(x, Ui)
              r = MatMul(hi, Ri)
              a = Add(r, u)
              c = Add(a, Bi)
              ho = Tanh(c)
            }>
          y = Gemm <transB=1> (h, V)
        }""")


@case("Loop")
def ends_by_a_counter() -> onnx.ModelProto:
    """A counter that is carried ends the loop after four steps, which fixes the size of a Reshape."""
    return model("""
        g (float[2,6] x) => (float[2,10] y) <float[8,6] W, float[8,8] R, float[10,32] V> {
          M = Constant <value_int=9> ()
          yes = Constant <value = bool {1}> ()
          two = Constant <value_int=2> ()
          h0 = Gemm <transB=1> (x, W)
          last, h, hs = Loop (M, yes, two, h0) <
            body = b (int64 i, bool k, int64 ti, float[2,8] hi) => (k2, to, ho, out) {
              one = Constant <value_int=1> ()
              end = Constant <value_int=6> ()
              most = Constant <value_int=8> ()
              to = Add(ti, one)
              early = Less(to, end)
              soon = Less(i, most)
              k2 = And(early, soon)
              r = MatMul(hi, R)
              ho = Tanh(r)
              out = Relu(ho)
            }>
          t = Transpose <perm=[1,0,2]> (hs)
          s = Constant <value_ints=[-1,32]> ()
          f = Reshape(t, s)
          y = Gemm <transB=1> (f, V)
        }""")


@case("Loop")
def growing_state() -> onnx.ModelProto:
    """A list of steps grows by one in every iteration; its channels go."""
    return model("""
        g (float[1,6] x, int64 M) => (float[1,10] y) <float[8,6] W, float[8,8] R, float[10,8] V> {
          h0 = Gemm <transB=1> (x, W)
          yes = Constant <value = bool {1}> ()
          zero = Constant <value_ints=[0]> ()
          hs = Loop (M, yes, h0) <
            body = b (int64 i, bool k, float[T,8] hi) => (k2, ho) {
              k2 = Identity(k)
              r = MatMul(hi, R)
              s = ReduceSum <keepdims=1> (r, zero)
              t = Tanh(s)
              ho = Concat <axis=0> (hi, t)
            }>
          z = ReduceSum <keepdims=1> (hs, zero)
          y = Gemm <transB=1> (z, V)
        }""")


@case("Loop")
def growing_channels() -> onnx.ModelProto:
    """The axis that grows is one of channels: those that it starts with must stay."""
    return model("""
        g (float[2,6] x, int64 M) => (float[2,1] y) <float[8,6] W, float[12,6] U, float[12,4] P> {
          h0 = Gemm <transB=1> (x, W)
          u0 = Gemm <transB=1> (x, U)
          u = MatMul(u0, P)
          yes = Constant <value = bool {1}> ()
          h = Loop (M, yes, h0) <
            body = b (int64 i, bool k, float[2,T] hi) => (k2, ho) {
              k2 = Identity(k)
              ho = Concat <axis=1> (hi, u)
            }>
          one = Constant <value_ints=[1]> ()
          y = ReduceSum <keepdims=1> (h, one)
        }""")


@case("Loop")
def passed_through() -> onnx.ModelProto:
    """One state passes the body unchanged, two others swap places."""
    return model("""
        g (float[2,6] x, int64 M) => (float[2,10] y)
          <float[8,6] W, float[8,6] U, float[12,6] S, float[10,8] E, float[10,12] F> {
          p0 = Gemm <transB=1> (x, W)
          q0 = Gemm <transB=1> (x, U)
          s0 = Gemm <transB=1> (x, S)
          yes = Constant <value = bool {1}> ()
          p, q, s = Loop (M, yes, p0, q0, s0) <
            body = b (int64 i, bool k, float[2,8] pi, float[2,8] qi, float[2,12] si) => (bool k2, float[2,8] po, float[2,8] qo, float[2,12] si) {
              k2 = Identity(k)
              po = Relu(qi)
              qo = Neg(pi)
            }>
          d = Sub(p, q)
          e = Gemm <transB=1> (d, E)
          f = Gemm <transB=1> (s, F)
          y = Add(e, f)
        }""")


@case("Loop")
def branch_in_loop() -> onnx.ModelProto:
    """An If in the body of a Loop, on the number of the iteration."""
    return model("""
        g (float[2,6] x, int64 M) => (float[2,10] y)
          <float[16,6] W, float[16,12] D, float[12,16] A, float[12,16] B, float[10,16] V> {
          h0 = Gemm <transB=1> (x, W)
          yes = Constant <value = bool {1}> ()
          one = Constant <value_int=1> ()
          h = Loop (M, yes, h0) <
            body = b (int64 i, bool k, float[2,16] hi) => (k2, ho) {
              k2 = Identity(k)
              first = Less(i, one)
              d = MatMul(hi, D)
              ho = If (first) <
                then_branch = t () => (t2) { t1 = MatMul(d, A) t2 = Relu(t1) },
                else_branch = e () => (e2) { e1 = MatMul(d, B) e2 = Sigmoid(e1) }>
            }>
          y = Gemm <transB=1> (h, V)
        }""")


@case("Loop")
def mended_inside() -> onnx.ModelProto:
    """Heads, a strided Slice, a grouped Conv, a normalisation and a Shape inside a body."""
    return model("""
        g (float[2,6] x, int64 M) => (float[2,10] y)
          <float[16,6] W, float[16,24] Q, float[24] G, float[12,1,1,1] K, float[12,16] Z, float[10,16] V> {
          h0 = Gemm <transB=1> (x, W)
          yes = Constant <value = bool {1}> ()
          h = Loop (M, yes, h0) <
            body = b (int64 i, bool k, float[2,16] hi) => (k2, ho) {
              k2 = Identity(k)
              q = MatMul(hi, Q)
              heads = Constant <value_ints=[2,4,6]> ()
              qh = Reshape(q, heads)
              qt = Transpose <perm=[0,2,1]> (qh)
              w = MatMul(qh, qt)
              p = Softmax <axis=-1> (w)
              o = MatMul(p, qh)
              flat = Constant <value_ints=[2,24]> ()
              of = Reshape(o, flat)
              n = LayerNormalization(of, G)
              m1 = Constant <value_ints=[1]> ()
              end = Constant <value_ints=[24]> ()
              step = Constant <value_ints=[2]> ()
              half = Slice(n, m1, end, m1, step)
              last = Constant <value_ints=[2,3]> ()
              image = Unsqueeze(half, last)
              c = Conv <group=12> (image, K)
              s = Shape(n)
              wide = Gather(s, m1)
              size = Cast <to=1> (wide)
              small = Squeeze(c, last)
              d = Div(small, size)
              z = MatMul(d, Z)
              ho = Add(z, hi)
            }>
          y = Gemm <transB=1> (h, V)
        }""")


# Scan -------------------------------------------------------------------------------------


@case("Scan")
def scan_over_time() -> onnx.ModelProto:
    """A recurrent cell along the second axis, backwards for one of two scanned tensors."""
    return model("""
        g (float[2,T,6] x) => (float[2,T,10] y)
          <float[6,16] W, float[6,12] U, float[2,16] H0, float[16,16] R, float[16,12] P, float[16,12] Q, float[12,10] V> {
          u = MatMul(x, W)
          w = MatMul(x, U)
          h, hs = Scan (H0, u, w) <num_scan_inputs=2, scan_input_axes=[1,1],
                                   scan_input_directions=[0,1], scan_output_axes=[1],
            body = b (float[2,16] hi, float[2,16] ut, float[2,12] wt) => (ho, out) {
              r = MatMul(hi, R)
              s = Add(r, ut)
              ho = Sigmoid(s)
              p = MatMul(ho, P)
              out = Mul(p, wt)
            }>
          one = Constant <value_ints=[1]> ()
          hl = Unsqueeze(h, one)
          hv = MatMul(hl, Q)
          z = Add(hv, hs)
          y = MatMul(z, V)
        }""")


@case("Scan")
def scan_over_channels() -> onnx.ModelProto:
    """The scanned axis is one of channels, so they must stay; what is computed may go."""
    return model("""
        g (float[2,6] x) => (float[8,10] y) <float[8,6] W, float[2,12] R, float[12,10] V> {
          u = Gemm <transB=1> (x, W)
          hs = Scan (u) <num_scan_inputs=1, scan_input_axes=[1],
            body = b (float[2] ut) => (out) { r = MatMul(ut, R) out = Sigmoid(r) }>
          y = MatMul(hs, V)
        }""")


# SequenceMap ------------------------------------------------------------------------------


@case("SequenceMap")
def layer_per_element() -> onnx.ModelProto:
    """One layer applied to every element, with a second, whole input."""
    return model("""
        g (float[2,6] x, float[2,7] v) => (float[2,10] y)
          <float[8,6] A, float[8,7] B, float[12,7] C, float[2,8] K, float[8,12] R, float[12,10] V> {
          a = Gemm <transB=1> (x, A)
          b = Gemm <transB=1> (v, B)
          c = Gemm <transB=1> (v, C)
          s = SequenceConstruct(a, b, K)
          t = SequenceMap (s, c) <
            body = m (float[2,8] e, float[2,12] w) => (float[2,12] o) {
              r = MatMul(e, R)
              q = Add(r, w)
              o = Sigmoid(q)
            }>
          z = ConcatFromSequence <axis=0> (t)
          i = Constant <value_int=0> ()
          f = SequenceAt(t, i)
          g = Constant <value_ints=[3,1]> ()
          h = Tile(f, g)
          k = Add(z, h)
          p = MatMul(k, V)
          two = Constant <value_ints=[3,2,10]> ()
          r3 = Reshape(p, two)
          zero = Constant <value_ints=[0]> ()
          y = ReduceSum <keepdims=0> (r3, zero)
        }""")
