"""The exact text of errors about what is given beside a model: data, plans, another model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.selection.recovered import Recovery

from .conftest import DIGITS, Fails
from .test_errors import small

# Data ---------------------------------------------------------------------------------------

NPZ = "hint: Expected an .npz file with one array per input, or a folder of .npy files or images."


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (
            {"picture": np.zeros((2, 1, 8, 8), np.float32)},
            "the data has no input 'image': found 'picture', expected float32 [batch, 1, 8, 8]",
        ),
        ({}, "the data has no input 'image': found none, expected float32 [batch, 1, 8, 8]"),
        (
            {"image": np.zeros((2, 1, 8, 8))},
            "input 'image': found float64 [2, 1, 8, 8], expected float32 [batch, 1, 8, 8]\n"
            "hint: Give it as float32.",
        ),
        (
            {"image": np.zeros((2, 3, 8, 8), np.float32)},
            "input 'image': found float32 [2, 3, 8, 8], expected float32 [batch, 1, 8, 8]",
        ),
        (
            {"image": np.zeros((1, 8, 8), np.float32)},
            "input 'image': found float32 [1, 8, 8], expected float32 [batch, 1, 8, 8]",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["prune", "verify"])
def test_data_that_does_not_fit(
    fails: Fails, tmp_path: Path, verb: str, arrays: dict[str, np.ndarray], text: str
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    rest = ["-o", "out.onnx"] if verb == "prune" else [DIGITS]
    assert fails(verb, DIGITS, *rest, "--data", "data.npz") == text


def damaged(folder: Path) -> None:
    np.savez_compressed(folder / "whole.npz", image=np.ones((2, 1, 8, 8), np.float32))
    data = bytearray((folder / "whole.npz").read_bytes())
    with zipfile.ZipFile(folder / "whole.npz") as archive:
        start = archive.infolist()[0].header_offset + 60
    data[start : start + 40] = b"\xff" * 40
    (folder / "damaged.npz").write_bytes(data)
    (folder / "short.npz").write_bytes(data[:100])
    (folder / "empty.npz").touch()
    np.save(folder / "single.npy", np.ones(3))
    np.savez(folder / "objects.npz", image=np.array([{}], object))
    (folder / "text.npz").write_text("no archive")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere.npz", "no such file or directory"),
        ("damaged.npz", "it is damaged or cut short"),
        ("short.npz", "it is damaged or cut short"),
        ("empty.npz", "it is damaged or cut short"),
        ("single.npy", "it holds a single array"),
        ("objects.npz", "it is no archive of plain arrays"),
        ("text.npz", "it is no archive of plain arrays"),
    ],
)
def test_data_that_cannot_be_read(fails: Fails, tmp_path: Path, name: str, problem: str) -> None:
    damaged(tmp_path)
    text = fails("prune", DIGITS, "-o", "out.onnx", "--data", name)
    assert text == f"cannot read data '{name}': {problem}\n{NPZ}"
    with pytest.raises(onnxprune.PlanError, match=f"^cannot read recovery '.*{name}': {problem}$"):
        Recovery.load(tmp_path / name)


def test_data_on_which_the_original_fails(fails: Fails, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.zeros((2, 1, 8, 8), np.float32))
    model = onnx.load(DIGITS)
    shape = numpy_helper.from_array(np.array([7, 10]), "seven")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["logits", "seven"], ["seven_rows"], "rows"))
    model.graph.output[0].name = "seven_rows"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7
    onnx.save(model, tmp_path / "seven.onnx")
    text = fails("prune", "seven.onnx", "-o", "out.onnx", "--data", "data.npz", "--provider", "cpu")
    assert text.startswith("the original does not run on these inputs: ")


# Plans --------------------------------------------------------------------------------------


def plan_of_digits() -> Any:
    return onnxprune.prune(DIGITS).plan.to_dict()


def edited(change: Callable[[Any], object]) -> str:
    plan = plan_of_digits()
    change(plan)
    return json.dumps(plan)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "plan 'plan.json' is not JSON: Input data was truncated"),
        ("[]", "not a plan: found no format 'onnxprune.plan'"),
        ('{"format": "onnxprune.plan", "version": 2}', "plan version 2: expected 1"),
        (
            '{"format": "onnxprune.plan", "version": 1}',
            "malformed plan: object missing required field 'model'",
        ),
        (
            lambda p: p["groups"][0].pop("keep"),
            "malformed plan: groups[0]: object missing required field 'keep'",
        ),
        (
            lambda p: p["groups"][0].update(keep=["a"]),
            "malformed plan: groups[0].keep[0]: expected 'int', got 'str'",
        ),
        (
            lambda p: p["groups"][0].update(keep=None),
            "malformed plan: groups[0].keep: expected 'array', got 'null'",
        ),
        (
            lambda p: p["groups"][0].update(name="other"),
            "group 'other': found no such group, expected 32 channels\nhint: The plan was made for another model.",
        ),
        (
            lambda p: p["groups"][0].update(channels=64, scores=[]),
            "group '/stem/conv/Conv': found 32 channels, expected 64 channels\nhint: The plan was made for another model.",
        ),
        (lambda p: p["groups"][0].update(keep=[0, 32]), "malformed plan: groups[0]: found index 32 of 32"),
        (lambda p: p["groups"][0].update(keep=[]), "malformed plan: groups[0]: found no kept channel"),
        (
            lambda p: p["groups"][0].update(keep=[1, 1]),
            "malformed plan: groups[0]: found indices that do not ascend",
        ),
        (lambda p: p["options"].update(norm="pinn"), "unknown norm 'pinn'\nhint: Did you mean 'pin'?"),
    ],
)
def test_plans(fails: Fails, tmp_path: Path, text: Any, message: str) -> None:
    (tmp_path / "plan.json").write_text(text if isinstance(text, str) else edited(text))
    assert fails("prune", DIGITS, "-o", "out.onnx", "--plan", "plan.json") == message


def test_a_plan_that_cannot_be_read(fails: Fails) -> None:
    text = fails("verify", DIGITS, DIGITS, "--plan", "nowhere.json")
    assert text == "cannot read plan 'nowhere.json': no such file or directory"


def test_flags_that_a_plan_overrides(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(plan_of_digits()))
    text = fails("prune", DIGITS, "-o", "out.onnx", "--plan", "plan.json", "--granularity", 8)
    assert text == "--granularity has no effect with --plan\nhint: The plan says what is kept."


# Two models that do not belong together -----------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("verify", "the original has no input 'z': found 'x'\nhint: The slim model was not made from it."),
        ("bench", "nothing is given for inputs of the slim model: 'z'"),
    ],
)
def test_another_input_name(fails: Fails, tmp_path: Path, verb: str, text: str) -> None:
    onnx.save(small(), tmp_path / "a.onnx")
    other = small()
    other.graph.input[0].name = other.graph.node[0].input[0] = "z"
    onnx.save(other, tmp_path / "b.onnx")
    assert fails(verb, "a.onnx", "b.onnx", "--provider", "cpu") == text


def test_another_output_name(fails: Fails, tmp_path: Path) -> None:
    onnx.save(small(), tmp_path / "a.onnx")
    other = small()
    other.graph.output[0].name = other.graph.node[1].output[0] = "z"
    onnx.save(other, tmp_path / "b.onnx")
    assert fails("verify", "a.onnx", "b.onnx", "--provider", "cpu") == (
        "the slim model has no output 'y': found 'z'\nhint: It was not made from this original."
    )


def test_another_output_shape(fails: Fails, tmp_path: Path) -> None:
    onnx.save(small(), tmp_path / "a.onnx")
    other = small()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w"))
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    onnx.save(other, tmp_path / "b.onnx")
    assert fails("verify", "a.onnx", "b.onnx", "--provider", "cpu", code=1) == (
        "output 'y': found shape [2, 8, 8, 8], expected [2, 16, 8, 8]"
    )


@pytest.mark.parametrize("flags", [(), ("--no-verify",)])
def test_a_declared_shape_that_contradicts_the_graph(
    fails: Fails, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    model = small()
    head = numpy_helper.from_array(np.ones((4, 16, 1, 1), np.float32), "v")
    model.graph.initializer.append(head)
    model.graph.node.append(helper.make_node("Conv", ["y", "v"], ["z"], "head"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4, 8, 8]))
    model.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16, 9, 9]))
    onnx.save(model, tmp_path / "a.onnx")
    assert fails("prune", "a.onnx", "-o", "b.onnx", "--provider", "cpu", *flags) == (
        "Relu 'last': the model declares size 9 along axis 2 of 'y', but its nodes give 8\n"
        "hint: Take the declared shape out of the file (its value_info), or export it again."
    )


def test_a_slim_model_that_does_not_run(fails: Fails, tmp_path: Path) -> None:
    onnx.save(small(), tmp_path / "a.onnx")
    onnx.save(small(op="Own", domain="my.ops"), tmp_path / "b.onnx")
    text = fails("verify", "a.onnx", "b.onnx", "--provider", "cpu", code=1)
    assert text.startswith("onnxruntime cannot load the slim model: ")
    assert text.endswith("\nhint: onnxruntime runs the original.")
