"""Generated networks with planted channels: no answer changes, and what is zero goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxprune.reports.result import Result

from .planting import Array, cleaned, graph

ZERO, CONSTANT, TWIN, UNUSED, LIVE = "zero", "constant", "twin", "unused", "live"

ACTIVATIONS = {
    "Relu": True, "LeakyRelu": True, "Tanh": True, "HardSwish": True, "Sigmoid": False, "Softplus": False, "": True,
}  # fmt: skip
"""Whether zero stays zero."""


@dataclass(frozen=True)
class Layer:
    """One layer of a generated network, and what is planted in its channels."""

    kind: str
    kernel: int
    padded: bool
    norm: bool
    bias: bool
    activation: str
    roles: tuple[str, ...]

    @property
    def zeros(self) -> int:
        """Planted channels that are zero behind the activation."""
        return sum(role == ZERO for role in self.roles) if ACTIVATIONS[self.activation] else 0


LAYERS = st.builds(
    Layer,
    kind=st.sampled_from(["plain", "residual", "concat", "depthwise", "split", "pool", "gate"]),
    kernel=st.sampled_from([1, 3]),
    padded=st.booleans(),
    norm=st.booleans(),
    bias=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    roles=st.lists(st.sampled_from([ZERO, CONSTANT, TWIN, UNUSED, LIVE]), min_size=3, max_size=7).map(
        lambda r: (LIVE, *r, LIVE)
    ),
)


@dataclass
class Net:
    """A network that grows layer by layer; ``unused`` are columns that the next layer ignores."""

    seed: int
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    tensor: str = "x"
    channels: int = 3
    size: int = 24
    unused: tuple[int, ...] = ()

    def name(self, kind: str) -> str:
        """A name that nothing has yet."""
        return f"{kind}{len(self.lines)}_{len(self.constants)}"

    def store(self, kind: str, array: Array) -> str:
        """Add a constant."""
        name = self.name(kind)
        self.constants[name] = array.astype(np.float32)
        return name

    def add(self, operation: str) -> str:
        """Add a node and return its output."""
        name = self.name("t")
        self.lines.append(f"{name} = {operation}")
        return name

    def random(self, *shape: int) -> Array:
        """Numbers that depend on the place in the network."""
        rng = np.random.default_rng([self.seed, len(self.lines), len(self.constants)])
        return rng.normal(0, 1, shape)

    def convolution(self, layer: Layer, x: str, inputs: int) -> str:
        """A convolution with planted channels, and the layers that belong to it."""
        count = len(layer.roles)
        weight = self.random(count, inputs, layer.kernel, layer.kernel) / layer.kernel
        weight[:, list(self.unused)] = 0
        vectors = {"bias": self.random(count) * 0.5}
        if layer.norm:
            vectors |= {n: self.random(count) * (k + 1) for k, n in enumerate(["scale", "shift", "mean"])}
            vectors["variance"] = self.random(count) ** 2 + 0.5
        plant(layer, weight, vectors)
        W = self.store("W", weight)
        self.expected[W] = count - layer.zeros
        bias = f", {self.store('b', vectors['bias'])}" if layer.bias else ""
        pad = layer.kernel // 2 if layer.padded else 0
        y = self.add(f"Conv<pads=[{pad},{pad},{pad},{pad}]>({x}, {W}{bias})")
        if layer.norm:
            rest = [self.store("n", vectors[n]) for n in ("scale", "shift", "mean", "variance")]
            y = self.add(f"BatchNormalization({y}, {', '.join(rest)})")
        return self.add(f"{layer.activation}({y})") if layer.activation else y

    def grow(self, layer: Layer) -> None:
        """Append a layer."""
        margin = layer.kernel - 1 if not layer.padded else 0
        if self.size - margin < 4:
            return
        y = self.convolution(layer, self.tensor, self.channels)
        count = len(layer.roles)
        self.size -= margin
        self.unused = tuple(k for k, role in enumerate(layer.roles) if role == UNUSED)
        if layer.kind == "residual":
            again = Layer("plain", 1, False, layer.norm, layer.bias, layer.activation, layer.roles)
            y = self.add(f"Add({y}, {self.convolution(again, y, count)})")
        elif layer.kind == "concat":
            y = self.add(f"Concat<axis=1>({y}, {self.add(f'Neg({y})')})")
            self.unused += tuple(k + count for k in self.unused)
            count *= 2
        elif layer.kind == "depthwise":
            D = self.store("D", self.random(count, 1, 3, 3))
            y = self.add(f"Conv<group={count}, pads=[1,1,1,1]>({y}, {D})")
        elif layer.kind == "split":
            half = count // 2
            sizes = self.store("s", np.array([half, count - half]))
            first, second = self.name("p"), self.name("q")
            self.lines.append(f"{first}, {second} = Split<axis=1>({y}, {sizes})")
            y = self.add(f"Concat<axis=1>({second}, {first})")
            self.unused = tuple((k - half) % count for k in self.unused)
        elif layer.kind == "pool":
            y = self.add(
                f"{'MaxPool' if layer.bias else 'AveragePool'}<kernel_shape=[3,3], pads=[1,1,1,1]>({y})"
            )
        elif layer.kind == "gate":
            pooled = self.add(f"GlobalAveragePool({y})")
            y = self.add(f"Mul({y}, {self.add(f'Sigmoid({pooled})')})")
        self.tensor, self.channels = y, count

    def finish(self, head: str) -> Any:
        """Add the last layer, which reads all channels but the unused ones."""
        if head == "gemm":
            flat = self.add(f"Flatten({self.add(f'GlobalAveragePool({self.tensor})')})")
            weight = self.random(self.channels, 5)
            weight[list(self.unused)] = 0
            self.lines.append(f"y = Gemm({flat}, {self.store('V', weight)})")
        else:
            weight = self.random(5, self.channels, 3, 3)
            weight[:, list(self.unused)] = 0
            pads = "<pads=[1,1,1,1]>" if head == "padded" else ""
            self.lines.append(f"y = Conv{pads}({self.tensor}, {self.store('V', weight)})")
        integers = {n: v.astype(np.int64) for n, v in self.constants.items() if n.startswith("s")}
        text = "\n".join(self.lines)
        return graph(text, inputs="float[2,3,24,24] x", **{**self.constants, **integers})  # type: ignore[arg-type]


def plant(layer: Layer, weight: Array, vectors: dict[str, Array]) -> None:
    """Make channels zero, constant or equal to the first one."""
    for k, role in enumerate(layer.roles):
        if role in (ZERO, CONSTANT):
            weight[k] = 0
        if role == ZERO:
            vectors["bias"][k] = 0
            if layer.norm:
                vectors["scale"][k] = vectors["shift"][k] = 0
        if role == TWIN:
            for array in (weight, *vectors.values()):
                array[k] = array[0]


def check(layers: list[Layer], head: str, seed: int) -> Result:
    """Clean a generated network; every planted zero goes."""
    net = Net(seed)
    for layer in layers:
        net.grow(layer)
    result = cleaned(net.finish(head), limit=2e-5)
    slim = {t.name: t.dims[0] for t in result.model.proto.graph.initializer}
    for name, most in net.expected.items():
        assert slim[name] <= most, f"{name} keeps {slim[name]}, more than {most}"
    return result


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    layers=st.lists(LAYERS, min_size=1, max_size=4),
    head=st.sampled_from(["gemm", "valid", "padded"]),
    seed=st.integers(0, 2**16),
)
def test_no_answer_changes(layers: list[Layer], head: str, seed: int) -> None:
    check(layers, head, seed)
