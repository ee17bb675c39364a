"""Rows in which the difficulty lies between the operators."""

from __future__ import annotations

import numpy as np

from .building import FOUR_HEADS, HEADS, Case, between, net, positive, tokens

IMAGE = "float[2,3,6,6] x"

CASES = [
    # Sums of joined and divided channels
    Case("Add", "concat beside a branch", between("""
        a = Conv (x, W3)
        b = Conv (x, W4)
        c = Conv (x, W5)
        d = Concat <axis=1> (a, b)
        e = Add (d, c)
        f, g = Split <axis=1> (e, s)
        r = Mul (f, f)""", W1=(1, 3, 3, 3), B1=(1,), W3=(3, 3, 1, 1), W4=(5, 3, 1, 1),
        W5=(8, 3, 1, 1), W2=(4, 4, 1, 1), s=[4, 4]), groups=(3, 1, 4)),
    Case("Slice", "overlapping parts added", between("""
        a = Slice (h, zero, six, one)
        b = Slice (h, two, eight, one)
        r = Add (a, b)""", W2=(4, 6, 1, 1), zero=[0], two=[2], six=[6], eight=[8], one=[1]),
        groups=(2,), slim={"W1": (4, 3, 3, 3), "W2": (4, 3, 1, 1)}),
    Case("Gather", "added to its mirror image", between("""
        a = Gather <axis=1> (h, i)
        r = Add (a, h)""", i=[7, 6, 5, 4, 3, 2, 1, 0]), groups=(4,), slim={"W1": (4, 3, 3, 3)}),
    Case("Tile", "added to twice as many", between("""
        a = Tile (h, s)
        b = Conv <pads=[1,1,1,1]> (x, W3)
        r = Add (a, b)""", W3=(16, 3, 3, 3), W2=(4, 16, 1, 1), s=[1, 2, 1, 1]), groups=(8,),
        slim={"W3": (8, 3, 3, 3)}),
    Case("Concat", "along the batch", net("""
        a = Conv (x, W1)
        b = Conv (x, W2)
        c = Concat <axis=0> (a, b)
        y = Conv (c, W3)""", inputs=IMAGE, W1=(8, 3, 1, 1), W2=(8, 3, 1, 1), W3=(4, 8, 1, 1)),
        groups=(8,), slim={"W1": (4, 3, 1, 1), "W2": (4, 3, 1, 1)}),
    Case("Concat", "strided out again", between("""
        a = Concat <axis=1> (h, x)
        r = Slice (a, zero, far, one, two)""", W2=(4, 6, 1, 1), zero=[0], far=[99], one=[1],
        two=[2]), groups=(4, 4)),
    # Groups behind other operators
    Case("Conv", "grouped behind concat", between("""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        b = Concat <axis=1> (h, a)
        r = Conv <group=2> (b, W4)""", W3=(8, 3, 3, 3), W4=(8, 8, 1, 1)), groups=(8, 4)),
    Case("Conv", "grouped behind unequal concat", between("""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        b = Concat <axis=1> (h, a)
        r = Conv <group=2> (b, W4)""", W3=(4, 3, 3, 3), W4=(6, 6, 1, 1), W2=(4, 6, 1, 1)),
        groups=(2, 4, 3)),
    Case("Conv", "grouped with part of the input fixed", between("""
        b = Concat <axis=1> (h, x)
        r = Conv <group=2> (b, W3)""", W1=(5, 3, 3, 3), B1=(5,), W3=(6, 4, 1, 1),
        W2=(4, 6, 1, 1)), groups=(1, 3), blocked={"first#2": "which has no channels there"}),
    Case("Conv", "grouped behind split", between("""
        a, b = Split <axis=1> (h, s)
        c = Conv <group=2> (a, W3)
        r = Concat <axis=1> (c, b)""", W3=(4, 2, 1, 1), s=[4, 4]), groups=(2, 4, 2)),
    Case("Conv", "depthwise behind concat with the input", between("""
        b = Concat <axis=1> (x, h)
        r = Conv <group=11, pads=[1,1,1,1]> (b, W3)""", W3=(11, 1, 3, 3), W2=(4, 11, 1, 1)),
        groups=(8,), slim={"W3": (7, 1, 3, 3)}, blocked={"r": "which has no channels there"}),
    Case("Conv", "depthwise with multiplier behind a shuffle", between("""
        a = Reshape (h, s)
        b = Transpose <perm=[0,2,1,3,4]> (a)
        c = Reshape (b, t)
        r = Conv <group=8> (c, W3)""", inputs=IMAGE, W3=(16, 1, 1, 1), W2=(4, 16, 1, 1),
        s=[2, 2, 4, 6, 6], t=[2, 8, 6, 6]), groups=(4,)),
    Case("Conv", "grouped, shuffled, grouped", between("""
        a = Conv <group=2> (h, W3)
        b = Reshape (a, s)
        c = Transpose <perm=[0,2,1,3,4]> (b)
        d = Reshape (c, t)
        r = Conv <group=2> (d, W4)""", inputs=IMAGE, W3=(8, 4, 1, 1), W4=(8, 4, 1, 1),
        s=[2, 2, 4, 6, 6], t=[2, 8, 6, 6]), groups=(4, 2, 4)),
    Case("ConvTranspose", "one output for each block", between("""
        r = ConvTranspose <group=4> (h, W3, B3)""", W3=(8, 1, 2, 2), B3=(4,), W2=(4, 4, 1, 1)),
        groups=(4,), slim={"W1": (4, 3, 3, 3), "W3": (4, 1, 2, 2), "B3": (2,)}),
    Case("GroupNormalization", "behind a grouped convolution", between("""
        a = Conv <group=2> (h, W3)
        r = GroupNormalization <num_groups=4> (a, c, b)""", opset=21, ir_version=10,
        outputs="float[N,4,8,8] y", W3=(8, 4, 1, 1), c=positive(8), b=(8,)), groups=(4, 2)),
    Case("GroupNormalization", "on the skip", between("""
        n = GroupNormalization <num_groups=4> (h, c, b)
        a = Conv <pads=[1,1,1,1]> (n, W3)
        r = Add (a, h)""", opset=21, ir_version=10, outputs="float[N,4,8,8] y", W3=(8, 8, 3, 3),
        c=positive(8), b=(8,)), groups=(4,), slim={"W3": (4, 4, 3, 3)}),
    # Channels last, and merged with pixels
    Case("Reshape", "flattened with channels last", net("""
        h = Conv (x, W1)
        t = Transpose <perm=[0,2,3,1]> (h)
        f = Reshape (t, s)
        y = MatMul (f, W2)""", inputs=IMAGE, W1=(8, 3, 3, 3), W2=(128, 4), s=[2, 128]),
        groups=(8,), slim={"W2": (64, 4)}),
    Case("BatchNormalization", "on flattened channels", net("""
        h = Conv (x, W1)
        f = Flatten (h)
        n = BatchNormalization (f, s, b, m, v)
        y = MatMul (n, W2)""", inputs=IMAGE, W1=(8, 3, 3, 3), W2=(128, 4), s=positive(128),
        b=(128,), m=(128,), v=positive(128)), groups=(8,), slim={"v": (64,)}),
    Case("LayerNormalization", "over channels and pixels", between("""
        r = LayerNormalization <axis=1> (h, s, b)""", s=positive(8, 8, 8), b=(8, 8, 8)),
        groups=(8,), slim={"s": (4, 8, 8)}, zero=False),
    Case("Reshape", "channels merged with the batch", between("""
        a = Reshape (h, s)
        b = MaxPool <kernel_shape=[3]> (a)
        c = Reshape (b, t)
        r = Relu (c)""", inputs=IMAGE, s=[16, 6, 6], t=[2, 8, 6, 4]), groups=(8,)),
    Case("Reshape", "windows of pixels", net("""
        h = Conv (x, W1)
        a = Transpose <perm=[0,2,3,1]> (h)
        b = Reshape (a, s)
        c = Transpose <perm=[0,1,3,2,4,5]> (b)
        d = Reshape (c, t)
        y = MatMul (d, W2)""", inputs=IMAGE, W1=(8, 3, 1, 1), W2=(8, 4), s=[2, 3, 2, 3, 2, 8],
        t=[-1, 4, 8]), groups=(8,), slim={"W2": (4, 4)}),
    Case("Reshape", "unknown channel count by -1", between("""
        a = Reshape (h, s)
        b = Relu (a)
        r = Reshape (b, t)""", inputs=IMAGE, s=[2, -1, 36], t=[0, -1, 6, 6]), groups=(8,)),
    Case("Reshape", "groups by -1", between("""
        a = Reshape (h, s)
        b = Relu (a)
        r = Reshape (b, t)""", inputs=IMAGE, s=[0, 2, -1, 6, 6], t=[0, -1, 6, 6]), groups=(4,)),
    Case("Conv", "channels in the place of pixels", net("""
        h = Conv (x, W1)
        t = Transpose <perm=[0,2,1,3]> (h)
        r = Conv (t, W3)
        y = Relu (r)""", inputs=IMAGE, W1=(8, 3, 1, 1), W3=(6, 6, 3, 3)), groups=(),
        blocked={"h": "slides a window along it"}),
    Case("Resize", "of a constant to given sizes", between("""
        b = Resize <mode="linear"> (k, , , z)
        r = Add (h, b)""", inputs="float[2,3,8,8] x", k=(1, 8, 4, 4), z=[1, 8, 8, 8]), groups=(8,),
        zero=False),
    Case("Resize", "along channels", between("r = Resize (h, , c)", W2=(4, 16, 1, 1),
        c=np.array([1, 2, 1, 1], "f4")), groups=(), blocked={"first": "interpolates along it"}),
    # Attention
    Case("Add", "bias for each head", net(HEADS.format("""
        b = Add (a, bias)
        p = Softmax (b)"""), bias=(1, 4, 6, 6), **FOUR_HEADS), groups=(4,),
        slim={"bias": (1, 2, 6, 6), "WO": (12, 12)}),
    *[Case(op, "as large as the scores of all heads", net(HEADS.format(f"""
        size = Shape (a)
        m = {text}
        b = Mul (a, m)
        p = Softmax (b)"""), one=1.0, **FOUR_HEADS), groups=(4,))
        for op, text in (("Expand", "Expand (one, size)"),
                         ("ConstantOfShape", "ConstantOfShape <value=float[1]{1}> (size)"))],
    Case("Mul", "slope for each head", net(HEADS.format("""
        b = Mul (a, slope)
        p = Softmax (b)"""), slope=positive(4, 1, 1), **FOUR_HEADS), groups=(4,),
        slim={"slope": (2, 1, 1)}),
    Case("Where", "mask on scores", net(HEADS.format("""
        b = Where (mask, a, low)
        p = Softmax (b)"""), mask=np.tri(6) > 0, low=-1e9, **FOUR_HEADS), groups=(4,)),
    Case("Softmax", "over the heads", net(HEADS.format("p = Softmax <axis=1> (a)"), **FOUR_HEADS),
        groups=(6, 6)),
    Case("MatMul", "attention without softmax", net(HEADS.format("p = Relu (a)"), **FOUR_HEADS),
        groups=(4,)),
    Case("MatMul", "one key for all heads", net("""
        q = MatMul (x, WQ)
        k = MatMul (x, WK)
        q1 = Reshape (q, s)
        q2 = Transpose <perm=[0,2,1,3]> (q1)
        k1 = Unsqueeze (k, i)
        k2 = Transpose <perm=[0,1,3,2]> (k1)
        a = MatMul (q2, k2)
        p = Softmax (a)
        o = MatMul (p, k1)
        o1 = Transpose <perm=[0,2,1,3]> (o)
        o2 = Reshape (o1, t)
        y = MatMul (o2, WO)""", inputs="float[N,6,12] x", WQ=(12, 16), WK=(12, 4), WO=(16, 12),
        i=[1], s=[0, 6, 4, 4], t=[0, 6, 16]), groups=(4,), slim={"WQ": (12, 8), "WK": (12, 4)},
        blocked={"k": "only whole blocks of a split go"}),
    Case("Split", "query, key and value of one projection", net("""
        h = MatMul (x, W)
        q, k, v = Split <axis=-1> (h, p)
        t = Transpose <perm=[0,2,1]> (k)
        a = MatMul (q, t)
        b = Softmax (a)
        o = MatMul (b, v)
        y = MatMul (o, WO)""", inputs="float[N,6,12] x", W=(12, 24), WO=(8, 12), p=[8, 8, 8]),
        groups=(8, 8), slim={"W": (12, 12), "WO": (4, 12)}),
    Case("Concat", "rotated halves", tokens("""
        a, b = Split <axis=-1> (h, s)
        c = Neg (b)
        d = Concat <axis=-1> (c, a)
        e = Mul (d, sin)
        f = Mul (h, cos)
        r = Add (e, f)""", s=[4, 4], sin=(6, 8), cos=(6, 8)), groups=(4,),
        slim={"sin": (6, 4), "W1": (5, 4)}),
    # Which factor of a split goes: 4 transit columns would lose to 2 used ones by size alone
    Case("ConvTranspose", "on parts of the channels", between("""
        a = Reshape (h, s)
        b = ConvTranspose (a, W3)
        c = Reshape (b, t)
        r = Relu (c)""", inputs=IMAGE, s=[8, 2, 6, 6], W3=(2, 3, 1, 1), t=[2, 12, 6, 6],
        W2=(4, 12, 1, 1)), groups=(2, 3)),
    Case("Conv", "on parts of the channels", between("""
        a = Reshape (h, s)
        b = Conv (a, W3)
        c = Reshape (b, t)
        r = Relu (c)""", inputs=IMAGE, s=[8, 2, 6, 6], W3=(3, 2, 1, 1), t=[2, 12, 6, 6],
        W2=(4, 12, 1, 1)), groups=(2, 3)),
    Case("Gemm", "on parts of the features", net("""
        h = MatMul (x, W1)
        a = Reshape (h, s)
        b = Gemm (a, W3)
        c = Reshape (b, t)
        y = MatMul (c, W2)""", inputs="float[2,5] x", W1=(5, 8), s=[8, 2], W3=(2, 3), t=[2, 12],
        W2=(12, 4)), groups=(2, 3)),
    # Masks and sizes
    Case("Where", "constant mask over channels", between("r = Where (m, h, c)",
        m=np.arange(8).reshape(8, 1, 1) > 3, c=0.0), groups=(8,), slim={"m": (4, 1, 1)}),
    Case("Equal", "to a constant for each channel", between("""
        a = Round (h)
        b = Equal (a, c)
        d = Cast <to=1> (b)
        r = Mul (d, h)""", c=np.arange(8, dtype="f4").reshape(8, 1, 1) - 3), groups=(8,),
        slim={"c": (4, 1, 1)}),
    Case("Expand", "positions for every image", tokens("""
        n = Shape <start=0, end=1> (h)
        s = Concat <axis=0> (n, m)
        e = Expand (c, s)
        r = Add (h, e)""", c=(1, 6, 8), m=[6, 8]), groups=(8,), slim={"c": (1, 6, 4)}),
    Case("Concat", "class token for every image", tokens("""
        n = Shape <start=0, end=1> (h)
        s = Concat <axis=0> (n, m)
        e = Expand (c, s)
        r = Concat <axis=1> (e, h)""", c=(1, 1, 8), m=[1, 8]), groups=(8,), slim={"c": (1, 1, 4)}),
    Case("Slice", "of a table of positions", tokens("""
        n = Shape <start=1, end=2> (h)
        e = Slice (c, zero, n, one)
        r = Add (h, e)""", inputs="float[N,T,5] x", c=(1, 64, 8), zero=[0], one=[1]), groups=(8,),
        slim={"c": (1, 64, 4)}),
    Case("Gather", "of a table of positions", tokens("""
        e = Gather (c, i)
        r = Add (h, e)""", c=(9, 8), i=[[2, 3, 4, 5, 6, 7]]), groups=(8,), slim={"c": (9, 4)}),
    Case("ai.onnx.ml::Scaler", "then layers", net("""
        v = ai.onnx.ml.Scaler <offset=[0.1,0.2,0.3,0.4,0.5], scale=[1.0,2.0,3.0,4.0,5.0]> (x)
        h = MatMul (v, W1)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="float[N,5] x", outputs="float[N,3] y", W1=(5, 8),
        W2=(8, 3)), groups=(8,)),
    Case("ConstantOfShape", "as a weight", net("""
        w = ConstantOfShape <value=float[1]{0.1}> (s)
        h = Conv (x, W1)
        g = Conv (h, w)
        y = Conv (g, W2)""", W1=(8, 3, 3, 3), s=[6, 8, 1, 1], W2=(4, 6, 1, 1)), groups=(8, 6),
        zero=False),
]  # fmt: skip
