"""Weights that sessions read where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from models.net import Net
from onnxprune.checks.oracle import masked_model
from onnxprune.model.file import Model
from onnxprune.runtime import lending, pieces, session
from onnxprune.runtime.lending import LENT, lend
from onnxprune.runtime.session import Timed, open_session, run

from . import battery
from .building import made_up
from .conftest import DIGITS

ROWS, COLUMNS = 40, 1024


def stored(dtype: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """A model that gives the last row of a stored matrix."""
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    array = np.random.default_rng(0).integers(0, 100, (ROWS, COLUMNS)).astype(numpy_dtype)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["W", "row"], ["y"])],
        "last row",
        [value("row", TensorProto.INT64, [1])],
        [value("y", dtype, [1, COLUMNS])],
        [numpy_helper.from_array(array, "W")],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8), array


def last_row(model: onnxprune.Model) -> np.ndarray:
    with open_session(model) as session:
        return run(session, {"row": np.array([ROWS - 1])})["y"]


@pytest.mark.parametrize("dtype", sorted(LENT), ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("large", [False, True])
def test_numbers_of_every_type_arrive(dtype: int, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "LARGE", 0 if large else 2**40)
    proto, array = stored(dtype)
    graph, _ = lend(Model(proto), onnxruntime.SessionOptions()) or (None, None)
    assert graph is not None
    assert len(graph) < array.nbytes / 8
    np.testing.assert_array_equal(last_row(Model(proto)), array[-1:])


def test_types_that_numpy_does_not_know_stay_in_the_model() -> None:
    proto, array = stored(TensorProto.BFLOAT16)
    graph, held = lend(Model(proto), onnxruntime.SessionOptions()) or (b"", [])
    assert len(graph) > array.nbytes
    assert not held


@pytest.mark.parametrize("offset", [0, 4099])
def test_data_files_are_read_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    """They were copied for every session; their offsets may be odd."""
    proto, array = stored(TensorProto.FLOAT)
    (tmp_path / "W.bin").write_bytes(b"\0" * offset + array.tobytes())
    (weight,) = proto.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "W.bin"), ("offset", offset), ("length", array.nbytes)):
        weight.external_data.add(key=key, value=str(value))
    onnx.save(proto, tmp_path / "model.onnx")
    model = onnxprune.load(tmp_path / "model.onnx")
    _, held = lend(model, onnxruntime.SessionOptions()) or (None, None)
    assert held is not None
    assert len(held) == bool(offset % 4)  # onnxruntime maps the file itself, where numbers are aligned
    monkeypatch.setattr(Model, "save", None)
    np.testing.assert_array_equal(last_row(model), array[-1:])


def test_tensors_that_share_bytes_at_odd_addresses_keep_their_shapes(tmp_path: Path) -> None:
    proto, array = stored(TensorProto.FLOAT)
    (tmp_path / "W.bin").write_bytes(b"\0" + array.tobytes())
    (weight,) = proto.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "W.bin"), ("offset", 1), ("length", array.nbytes)):
        weight.external_data.add(key=key, value=str(value))
    turned = proto.graph.initializer.add()
    turned.CopyFrom(weight)
    turned.name = "V"
    turned.dims[:] = array.shape[::-1]
    onnx.save(proto, tmp_path / "model.onnx")
    model = onnxprune.load(tmp_path / "model.onnx")
    first, second = (model.shared(tensor) for tensor in model.proto.graph.initializer)
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array.reshape(array.shape[::-1]))
    assert model.shared(model.proto.graph.initializer[0]) is first


def test_the_masked_original_has_no_weights_of_its_own() -> None:
    pruned = battery.prune(onnx.load(DIGITS))
    parts = pruned.trace, pruned.sizes, pruned.slim.proto
    model, whole = masked_model(*parts), masked_model(*parts).embedded()
    assert model.proto.ByteSize() < whole.ByteSize() / 2
    assert model.embedded() == whole
    feeds = made_up(pruned.trace.graph)
    with open_session(model) as lent, open_session(model, timed=Timed()) as own:
        found, expected = run(lent, feeds), run(own, feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_large_model_is_verified_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session holds more than a piece, and a wrong weight is found all the same."""
    net = Net("pieces", 0)
    x, shape = net.input("x", 2, 64), net.node("Constant", value_ints=[2, -1])
    for k in range(6):
        x = net.node("Relu", net.node("MatMul", x, net.weight(f"w{k}", 64, 64)), name=f"relu{k}")
        x = net.node("Reshape", x, shape)
    model = net.build(x)
    monkeypatch.setattr(pieces, "HELD", 2 * 64 * 64 * 4)
    held: list[int] = []

    def counted(piece: Model, options: onnxruntime.SessionOptions) -> Any:
        held.append(piece.weight_bytes)
        return lend(piece, options)

    monkeypatch.setattr(session, "lend", counted)
    result = onnxprune.prune(model, ratio=0.5, verify=True, provider="cpu")
    assert result.report is not None
    assert result.report.exact
    assert result.report.method == "end to end"
    report = onnxprune.verify(model, result.model, plan=result.plan, layers=True, provider="cpu")
    assert report.exact
    assert {d.output for d in report.single} == {d.output for d in report.entire}
    assert max(held) < 3 * 64 * 64 * 4
    wrong = onnx.ModelProto.FromString(result.model.proto.SerializeToString())
    stored = wrong.graph.initializer[0]
    stored.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(stored), stored.name))
    found = onnxprune.verify(model, wrong, plan=result.plan, provider="cpu")
    assert not found.exact
    assert [d.layer for d in found.surgery if not d]
