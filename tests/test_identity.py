"""What a model was read from: plans name it, and its weights stay its own, whatever lies there later."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from models.build import Net

from .conftest import DIGITS, digest


def chain(seed: int = 0) -> onnx.ModelProto:
    """Twelve convolutions in a row: cut weights start at other places of a data file than whole ones."""
    net = Net("chain", seed)
    x = net.input("x", 1, 3, 8, 8)
    for k in range(12):
        x = net.node("Relu", net.node("Conv", x, net.weight(f"w{k}", 16, 3 if k == 0 else 16, 1, 1)))
    return net.build(net.node("Conv", x, net.weight("last", 4, 16, 1, 1)))


def outside(model: onnx.ModelProto, path: Path) -> Path:
    """Save a model with all weights in NAME.data."""
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
        convert_attribute=False,
    )
    return path


def numbers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_plan_names_what_was_read(tmp_path: Path) -> None:
    """Whatever lies under the name when it is asked, as the slim model does that was saved in place."""
    path = tmp_path / "m.onnx"
    onnx.save(chain(), path)
    before, size = digest(path), path.stat().st_size
    result = onnxprune.prune(path, ratio=0.5)
    result.model.save(path)
    assert digest(path) != before
    assert result.plan.model["sha256"] == before
    assert (result.before.bytes, result.after.bytes) == (size, path.stat().st_size)
    path.unlink()
    assert onnxprune.Plan.from_dict(result.plan.to_dict()).model["sha256"] == before


def test_bytes_are_named_like_the_file() -> None:
    data = DIGITS.read_bytes()
    assert (
        onnxprune.load(data).sha256() == onnxprune.load(DIGITS).sha256() == hashlib.sha256(data).hexdigest()
    )


def test_a_model_that_is_saved_in_place_keeps_its_numbers(tmp_path: Path) -> None:
    path = outside(chain(), tmp_path / "m.onnx")
    result = onnxprune.prune(path, ratio=0.5, granularity=1)
    slim = numbers(result.model.embedded())
    for target in (path, tmp_path / "again.onnx", path, tmp_path / "copy.onnx"):
        result.model.save(target)
        assert same(numbers(onnx.load(target)), slim), target.name
        assert same(numbers(result.model.embedded()), slim)
    assert result.before.parameters > result.after.parameters


def test_a_whole_model_that_is_saved_in_place_keeps_its_numbers(tmp_path: Path) -> None:
    path = outside(chain(), tmp_path / "m.onnx")
    model, whole = onnxprune.load(path), numbers(chain())
    model.save(path)
    assert same(numbers(onnx.load(path)), whole)
    assert same(numbers(model.embedded()), whole)


@pytest.mark.parametrize("how", ["replaced", "overwritten", "slim"])
def test_data_that_changed_are_not_taken_for_those_that_were(tmp_path: Path, how: str) -> None:
    """Other numbers under the same name are an error, never other weights."""
    path = outside(chain(1), tmp_path / "m.onnx")
    data = tmp_path / "m.onnx.data"
    model = onnxprune.load(path)
    if how == "slim":  # a second one over the data of the first
        model.save(path)
        model = onnxprune.load(path)
        onnxprune.prune(path, ratio=0.5, granularity=1).model.save(path)
    elif how == "replaced":
        other = outside(chain(2), tmp_path / "other.onnx")
        os.replace(other.with_name("other.onnx.data"), data)
    else:
        data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(onnxprune.ModelError, match=r"'.*\.data' was changed after the model was loaded"):
        model.embedded()
    with pytest.raises(
        onnxprune.ModelError, match="was changed after the model was loaded\nLoad the model again"
    ):
        model.save(tmp_path / "copy.onnx")
    assert sorted(p.name for p in tmp_path.glob("*copy*")) == []


def test_data_may_come_after_the_model(tmp_path: Path) -> None:
    """Analysis needs no numbers, so a file that is missing is missed when it is read."""
    path, data = outside(chain(), tmp_path / "m.onnx"), tmp_path / "m.onnx.data"
    data.rename(tmp_path / "elsewhere")
    model = onnxprune.load(path)
    (tmp_path / "elsewhere").rename(data)
    assert same(numbers(model.embedded()), numbers(chain()))


@pytest.mark.parametrize("old", [True, False], ids=["over an old model", "at a new place"])
def test_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """A failure between the data file and the model leaves what was there before."""
    result = onnxprune.prune(outside(chain(1), tmp_path / "m.onnx"), ratio=0.5)
    target = tmp_path / "out.onnx"
    if old:
        outside(chain(2), target)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = os.replace

    def replace(new: Path, name: Path) -> None:
        if Path(name) == target:
            raise OSError(28, "No space left on device")
        real(new, name)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        result.model.save(target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    result.model.save(target)
    assert same(numbers(onnx.load(target)), numbers(result.model.embedded()))
    written = {p.name for p in tmp_path.iterdir()} - before.keys()
    assert len(written - {"out.onnx"}) == 1
    assert (tmp_path / "out.onnx.data").exists() == old  # it is not ours


def test_a_copy_of_what_lost_nothing_is_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """prune copies such a file byte for byte, unless another one has its name by then."""
    from onnxprune.cli import files

    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(chain(1), path)
    result = onnxprune.prune(path, exclude=["*"])
    files.write_result(result, str(out), None)
    assert out.read_bytes() == path.read_bytes()
    onnx.save(chain(2), path)
    files.write_result(result, str(out), None)
    assert same(numbers(onnx.load(out)), numbers(chain(1)))
