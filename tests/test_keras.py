"""Keras files: weights read, cut and written, and configurations that say the new sizes."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.checkpoints.recipes import State
from onnxprune.checkpoints.stores import read_state, write_state

from .checkpoint_forms import KERAS, keras
from .conftest import Run
from .test_checkpoints import close, trained

h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")

CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "stem": ("Conv2D", {"filters": 8}),
    "bn": ("BatchNormalization", {}),
    "wide": ("DepthwiseConv2D", {"depth_multiplier": 2}),
    "slope": ("PReLU", {}),
    "again": ("Reshape", {"target_shape": [1, 1, 16]}),
    "head": ("Dense", {"units": 4}),
}
"""The layers of the network whose weights these are, in its order."""


def config() -> dict[str, Any]:
    """What Keras writes about them."""
    layers = [
        {"class_name": kind, "config": {"name": name, **sizes}, "build_config": {"input_shape": [1]}}
        for name, (kind, sizes) in CLASSES.items()
    ]
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers}, "build_config": {}}


def layers_of(state: State) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Weights by layer, in the order of Keras."""
    own = {name: [k for k in state if k.partition(".")[0] == name] for name in CLASSES}
    return {name: [(k.partition(".")[2], state[k]) for k in keys] for name, keys in own.items()}


def numbered(state: State) -> bytes:
    """Version 3: groups are called after classes, and weights numbered."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for number, (name, weights) in enumerate(layers_of(state).items()):
            group = file.create_group(f"layers/{CLASSES[name][0].lower()}_{number}/vars")
            group.attrs["name"] = name
            for k, (_, array) in enumerate(weights):
                group[str(k)] = array
        file["optimizer/vars/0"] = np.zeros((3, 3, 3, 8), np.float32)
    return buffer.getvalue()


def v3(path: Path, state: State) -> None:
    path.write_bytes(numbered(state))


def archive(path: Path, state: State) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(config()))
        file.writestr("model.weights.h5", numbered(state))


def legacy(path: Path, state: State) -> None:
    """Before version 3: one group a layer, in which weights bear their whole names."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config()).encode()
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = list(CLASSES)
        for name, weights in layers_of(state).items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight}:0" for weight, _ in weights]
            for weight, array in weights:
                group[f"{name}/{weight}:0"] = array


FILES: Mapping[str, Callable[[Path, State], None]] = {".weights.h5": v3, ".keras": archive, ".hdf5": legacy}


def config_of(path: Path) -> dict[str, Any]:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as file:
            assert file.read("metadata.json") == b"{}"
            return dict(json.loads(file.read("config.json")))
    with h5py.File(path) as file:
        return dict(json.loads(file.attrs["model_config"]))


def named(found: State) -> State:
    """Entries of a file under the names of the case."""
    order = [f"{name}.{weight}" for name, weights in layers_of(KERAS).items() for weight, _ in weights]
    numbers = [f"{name}/{k}" for name, weights in layers_of(KERAS).items() for k, _ in enumerate(weights)]
    known = dict(zip(numbers, order, strict=True))
    return {known.get(name, name.replace("/", ".")): array for name, array in found.items()}


@pytest.mark.parametrize("ending", FILES)
def test_there_and_back(ending: str, run: Run, tmp_path: Path) -> None:
    dense, slim, plan, out = (tmp_path / name for name in ("d.onnx", "s.onnx", "plan.json", "o.onnx"))
    state, cut, after = (tmp_path / f"{name}{ending}" for name in ("state", "cut", "after"))
    dense.write_bytes(keras(KERAS))
    FILES[ending](state, KERAS)
    flags = ("--ratio", "0.5", "--granularity", "1", "--provider", "cpu", "--plan-out", plan)
    assert run("prune", dense, "-o", slim, *flags).code == 0
    done = run("checkpoint", state, "--model", dense, "--plan", plan, "-o", cut)
    assert done.code == 0, done.err
    assert "7 of 7 constants come from the checkpoint; 8 of 9 entries cut" in done.out
    assert "not in the model" not in done.err
    left = read_state(cut)
    assert close(onnxprune.load(slim), keras(named(left)))
    if ending != ".weights.h5":
        layers = config_of(cut)["config"]["layers"]
        sizes = {layer["config"].pop("name"): layer["config"] for layer in layers}
        assert sizes == {
            "stem": {"filters": 4}, "bn": {}, "wide": {"depth_multiplier": 2}, "slope": {},
            "again": {"target_shape": [1, 1, -1]}, "head": {"units": 4},
        }  # fmt: skip
        assert not any("build_config" in layer for layer in layers)
    write_state(after, trained(left), cut)
    done = run("reweight", slim, after, "--before", cut, "-o", out)
    assert done.code == 0, done.err
    assert close(onnxprune.load(out), keras(named(trained(left))))


def test_a_network_whose_sizes_cannot_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSES, "stem", ("GroupNormalization", {"groups": 4}))
    for ending, write in FILES.items():
        write(tmp_path / f"state{ending}", KERAS)
    state = read_state(tmp_path / "state.keras")
    state["stem/0"] = state["stem/0"][..., :4]
    with pytest.raises(
        onnxprune.UsageError, match=r"layer 'stem' \(GroupNormalization\) is smaller in a way"
    ):
        write_state(tmp_path / "cut.keras", state, tmp_path / "state.keras")
    assert not (tmp_path / "cut.keras").exists()
    write_state(tmp_path / "cut.weights.h5", state, tmp_path / "state.keras")
    assert read_state(tmp_path / "cut.weights.h5")["stem/0"].shape == (3, 3, 3, 4)


def test_layers_of_one_name_keep_their_places(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "state.weights.h5", "w") as file:
        for name in ("conv2d", "conv2d_1"):
            group = file.create_group(f"layers/{name}/vars")
            group.attrs["name"] = "twice"
            group["0"] = np.zeros(2, np.float32)
    assert set(read_state(tmp_path / "state.weights.h5")) == {
        "layers/conv2d/vars/0",
        "layers/conv2d_1/vars/0",
    }


@pytest.mark.parametrize(
    ("state", "out", "said"),
    [
        ("state.npz", "out.keras", "is written as a copy of the file that was cut"),
        ("state.weights.h5", "out.keras", "holds no network, which a .keras file does"),
        ("bad.h5", "out.h5", "cannot read"),
    ],
)
def test_mistakes(state: str, out: str, said: str, run: Run, tmp_path: Path) -> None:
    v3(tmp_path / "state.weights.h5", KERAS)
    write_state(tmp_path / "state.npz", KERAS)
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    (tmp_path / "d.onnx").write_bytes(keras(KERAS))
    plan = ("--plan", tmp_path / "plan.json")
    assert run("prune", tmp_path / "d.onnx", "-o", tmp_path / "s.onnx", "--plan-out", plan[1]).code == 0
    failed = run("checkpoint", tmp_path / state, "--model", tmp_path / "d.onnx", *plan, "-o", tmp_path / out)
    assert failed.code == 2
    assert said in failed.err
    assert not (tmp_path / out).exists()


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.keras").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(onnxprune.errors.InstallationError, match="h5py is not installed") as raised:
        read_state(tmp_path / "state.keras")
    assert raised.value.hint == "Install it with: pip install 'onnxprune[keras]'"
