"""PyTorch modules: cut as their exports were, trained, exported again. Skipped where PyTorch is missing."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
import onnxprune.torch
from onnxprune.errors import InstallationError, SurgeryError, UsageError

from .conftest import Run

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="the newer exporter takes onnxscript")

WAYS = ("eval", "training", "dynamo")


def network() -> Any:
    """Convolutions with batch normalization, grouped ones, attention of its own kind and PyTorch's."""
    nn = torch.nn

    class Own(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.width, self.num_heads, self.head_dim, self.attn_dim = width, heads, width // heads, width
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            batch, count, _ = x.shape
            q, k, v = (
                self.qkv(x).reshape(batch, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
            )
            weights = ((q * 0.5) @ k.transpose(-2, -1)).softmax(-1)
            mixed = (weights @ v).transpose(1, 2).reshape(batch, count, self.attn_dim)
            return self.proj(mixed)

    class Last(torch.nn.LayerNorm):  # type: ignore[misc]
        """Of another package, as many networks have one."""

        def forward(self, x: Any) -> Any:
            return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    class Gain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.shape, self.scale = (1, width), nn.Parameter(torch.ones(width))

        def forward(self, x: Any) -> Any:
            return x * self.scale.view(self.shape)

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
            self.deep = nn.Sequential(
                nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU()
            )
            self.up = nn.Sequential(nn.Conv2d(16, 32, 3, groups=4), nn.GroupNorm(4, 32), nn.ReLU())
            self.norm, self.own, self.gain = Last(32), Own(32, 4), Gain(32)
            self.torchs = nn.MultiheadAttention(32, 4, batch_first=True)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            x = self.up(self.deep(self.stem(x))).flatten(2).transpose(1, 2)
            x = x + self.gain(self.own(self.norm(x)))
            x = x + self.torchs(x, x, x, need_weights=False)[0]
            return self.head(x.mean(1))

    torch.manual_seed(0)
    net = Net()
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(
                torch.rand_like(value) + 0.5
                if name.endswith("var")
                else value + torch.randn_like(value) * 0.1
            )
    return net.eval()


def export(module: Any, path: Path, way: str) -> None:
    inputs = (torch.randn(2, 3, 9, 9),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "dynamo":
            torch.onnx.export(module, inputs, path, dynamo=True, external_data=False, verbose=False)
            return
        modes = torch.onnx.TrainingMode
        mode = modes.TRAINING if way == "training" else modes.EVAL
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=False,
            training=mode,
            do_constant_folding=way == "eval",
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
        )
    module.eval()


@pytest.mark.parametrize("way", WAYS)
def test_pruned_mapped_trained_exported_and_verified(way: str, run: Run, tmp_path: Path) -> None:
    net, dense, plan = network(), tmp_path / "dense.onnx", tmp_path / "plan.json"
    slim, again, trained = (tmp_path / f"{name}.onnx" for name in ("slim", "again", "trained"))
    export(net, dense, way)
    flags = ("--ratio", "0.5", "--granularity", "2", "--provider", "cpu", "--quiet")
    assert run("prune", dense, "-o", slim, "--plan-out", plan, *flags).code == 0

    module = onnxprune.torch.slim(net, plan, onnx=dense)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    sizes = [sum(p.numel() for p in m.parameters()) for m in (module, net)]
    assert sizes[0] < 0.5 * sizes[1]
    assert module.own.num_heads == 2
    assert module.torchs.num_heads == 2
    torch.save(net.state_dict(), tmp_path / "state.pt")
    done = run(
        "checkpoint", tmp_path / "state.pt", "--model", dense, "--plan", plan, "-o", tmp_path / "slim.pt"
    )
    assert done.code == 0, done.err
    module.load_state_dict(torch.load(tmp_path / "slim.pt", weights_only=True))

    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    module.train()
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.randn(4, 3, 9, 9)).square().mean().backward()
        optimizer.step()
    module.eval()
    model = onnxprune.torch.reweight(slim, module, before=before)
    assert onnxprune.torch.compare(module, model)
    assert not onnxprune.torch.compare(module, slim)
    model.save(trained)
    export(module, again, way)
    for path in (trained, again):
        done = run(
            "verify", dense, path, "--plan", plan, "--retrained", "--provider", "cpu", "--min-cosine", "-1"
        )
        assert done.code == 0, done.err
        assert "as planned" in done.out


def test_another_module_is_refused(tmp_path: Path) -> None:
    net = network()
    export(net, tmp_path / "dense.onnx", "eval")
    result = onnxprune.prune(tmp_path / "dense.onnx", ratio=0.5)
    other = network()
    other.forward = lambda x: net(x) * 2  # the same weights, other code
    with pytest.raises(UsageError, match="the module is not the one that was exported"):
        onnxprune.torch.slim(other, result.plan, onnx=tmp_path / "dense.onnx")


def test_a_module_that_cannot_express_the_plan_is_refused(tmp_path: Path) -> None:
    nn = torch.nn

    class Halves(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)

        def forward(self, x: Any) -> Any:
            one, two = self.a(x).chunk(2, 1)
            return self.b(one) + self.c(two)

    net = Halves().eval()
    export(net, tmp_path / "dense.onnx", "eval")
    groups = [g for g in onnxprune.trace(tmp_path / "dense.onnx") if len(g) == 4]
    plan = onnxprune.prune(tmp_path / "dense.onnx", ratio={groups[0].name: 0.5}, granularity=1).plan
    with pytest.raises(SurgeryError, match="the slim module does not run: RuntimeError: b: Given") as raised:
        onnxprune.torch.slim(net, plan, onnx=tmp_path / "dense.onnx")
    assert "'/Slice' gave equal parts, and gives [2, 2, 9, 9] and [2, 4, 9, 9]: " in str(raised.value.hint)
    even = onnxprune.prune(tmp_path / "dense.onnx", ratio=0.5, granularity=1, parts="equal")
    assert onnxprune.torch.slim(net, even.plan, onnx=tmp_path / "dense.onnx").a.out_channels == 4


def test_sizes_that_modules_hold_in_their_own_ways(tmp_path: Path) -> None:
    """Heads by the layers inside of a projection, keys and values made by one, zeros in place of a bias,
    and a list of sizes."""
    nn = torch.nn

    class Inner(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.linear = nn.Linear(16, width)

        def forward(self, x: Any) -> Any:
            return self.linear(x)

    class Attention(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.key_dim = 4, 8
            self.q, self.kv, self.proj = Inner(32), Inner(64), nn.Linear(32, 16)
            self.v_bias = nn.Parameter(torch.randn(32))
            self.register_buffer("k_bias", torch.zeros(32), persistent=False)

        def forward(self, x: Any) -> Any:
            count = x.shape[1]
            q = self.q(x).reshape(-1, count, self.num_heads, self.key_dim).transpose(1, 2)
            both = self.kv(x) + torch.cat([self.k_bias, self.v_bias])
            k, v = both.reshape(-1, count, 2, self.num_heads, self.key_dim).permute(2, 0, 3, 1, 4)
            mixed = (q @ k.transpose(-2, -1) * 0.3).softmax(-1) @ v
            return self.proj(mixed.transpose(1, 2).flatten(2))

    class Parts(torch.nn.ModuleDict):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__({str(k): nn.Conv1d(size, 6, 1) for k, size in enumerate((8, 8))})
            self.splits = [8, 8]

        def forward(self, x: Any) -> Any:
            parts = torch.split(x, self.splits, 1)
            return torch.cat([layer(part) for layer, part in zip(self.values(), parts, strict=True)], 1)

    net = nn.Sequential(Attention(), nn.Conv1d(9, 16, 1), nn.ReLU(), Parts(), nn.Conv1d(12, 3, 1)).eval()
    path = tmp_path / "dense.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(2, 9, 16),), path, dynamo=False, opset_version=17)
    groups = {g.name: g for g in onnxprune.trace(path)}
    ratios = {name: 0.25 if len(group) == 8 else 0.5 for name, group in groups.items()}
    first = next(name for name, group in groups.items() if len(group) == 8)
    plan = onnxprune.prune(path, ratio={**ratios, first: 0.5}, granularity=1).plan
    slim = onnxprune.torch.slim(net, plan, onnx=path)
    assert slim[0].num_heads == 2
    assert slim[0].key_dim == 8
    assert sorted(slim[3].splits) == [4, 6]


def test_checkpoints_of_every_kind(run: Run, tmp_path: Path) -> None:
    from onnxprune.checkpoints.stores import read_state, write_state

    state = {"a.weight": torch.randn(3, 2), "half": torch.randn(4).bfloat16(), "count": torch.tensor(3)}
    torch.save({"epoch": 3, "model": state, "optimizer": {"x": torch.zeros(1)}}, tmp_path / "nested.pt")
    found = read_state(tmp_path / "nested.pt")
    assert set(found) == set(state)
    assert found["half"].dtype == np.float32
    endings = [".pt", ".npz"]
    endings += [".safetensors"] if "safetensors" in sys.modules or _has_safetensors() else []
    for ending in endings:
        write_state(tmp_path / f"x{ending}", found)
        again = read_state(tmp_path / f"x{ending}")
        assert all(np.array_equal(found[name], again[name]) for name in found)
    torch.save({"a": state, "b": state}, tmp_path / "two.pt")
    with pytest.raises(UsageError, match="several tables of tensors"):
        read_state(tmp_path / "two.pt")


def _has_safetensors() -> bool:
    from onnxprune.plugins import needed

    try:
        needed("safetensors.numpy", "torch")
    except InstallationError:
        return False
    return True


@pytest.mark.parametrize("both", [False, True], ids=["forwards", "both ways"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_in_another_order(kind: str, both: bool, tmp_path: Path) -> None:
    """Recurrent layers: four or three gates, which ONNX has in another order than PyTorch."""
    nn = torch.nn

    class Recurrent(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.up, self.head = nn.Linear(6, 16), nn.Linear(48 if both else 24, 3)
            self.layer = getattr(nn, kind)(16, 24, batch_first=True, bidirectional=both)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(self.up(x))[0])

    net, path = Recurrent().eval(), tmp_path / "dense.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(2, 5, 6),), path, dynamo=False, opset_version=17)
    result = onnxprune.prune(path, ratio=0.5)
    module = onnxprune.torch.slim(net, result.plan, onnx=path)
    assert (module.layer.input_size, module.layer.hidden_size) == (8, 12)
    assert onnxprune.torch.compare(module, result.model)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("kind", ["hook", "parametrization"])
def test_weights_of_a_direction_and_a_length(kind: str, folded: bool, tmp_path: Path) -> None:
    nn, utils = torch.nn, torch.nn.utils
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = utils.weight_norm if kind == "hook" else utils.parametrizations.weight_norm
        layers = (
            made(nn.Conv1d(6, 16, 3)),
            nn.ReLU(),
            made(nn.Conv1d(16, 24, 3)),
            nn.ReLU(),
            nn.Conv1d(24, 3, 1),
        )
        net, path = nn.Sequential(*layers).eval(), tmp_path / "dense.onnx"
        torch.onnx.export(net, (torch.randn(2, 6, 20),), path, dynamo=False, do_constant_folding=folded)
    result = onnxprune.prune(path, ratio=0.5)
    module = onnxprune.torch.slim(net, result.plan, onnx=path)
    assert (module[0].out_channels, module[2].in_channels) == (8, 8)
    assert onnxprune.torch.compare(module, result.model)
