"""Data sets: arrays, folders, images, labels, made-up inputs; batches of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from PIL import Image

import onnxprune
from onnxprune.data.batches import DataSet
from onnxprune.data.classes import as_classes, read_labels
from onnxprune.data.dataset import open_data
from onnxprune.data.images import PRESETS, image_reader, read_profile
from onnxprune.errors import InstallationError
from onnxprune.recovery.job import chosen_samples
from onnxprune.runtime import session as runtime

from .building import net
from .conftest import DIGITS, IMAGES, ROOT, Run

SHARED = Path(os.environ.get("ONNXPRUNE_SHARED", ROOT.parent / "shared"))


def dataset(inputs: str, source: Any, **settings: Any) -> DataSet:
    """Data for a model with these inputs."""
    names = [part.split()[-1] for part in inputs.replace("],", "]|").split("|")]
    text = "\n".join(f"y{k} = Identity({name})" for k, name in enumerate(names))
    outputs = ", ".join(f"y{k}" for k in range(len(names)))
    return open_data(onnxprune.trace(net(text, inputs=inputs, outputs=outputs)()), source, **settings)


def shapes(data: DataSet, name: str = "x") -> list[tuple[int, ...]]:
    return [batch.feeds[name].shape for batch in data]


def values(data: DataSet, name: str = "x") -> list[float]:
    """First value of every sample: says which, and in what order."""
    return [float(row.reshape(-1)[0]) for batch in data for row in batch.feeds[name]]


def ramp(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape).astype(np.float32)


# Arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "count", "samples", "sizes"),
    [
        ("float[N,2] x", 37, None, [16, 16, 5]),
        ("float[N,2] x", 37, 20, [16, 4]),
        ("float[N,2] x", 3, 99, [3]),
        ("float[1,2] x", 3, None, [1, 1, 1]),
        ("float[4,2] x", 11, None, [4, 4]),
    ],
)
def test_batches(inputs: str, count: int, samples: int | None, sizes: list[int]) -> None:
    arrays = {"x": ramp(count, 2), "labels": np.arange(count), "other": np.ones(3)}
    data = dataset(inputs, arrays, samples=samples)
    assert [batch.size for batch in data] == sizes
    assert shapes(data) == [(size, 2) for size in sizes]
    used = [k * count // sum(sizes) for k in range(sum(sizes))]
    assert values(data) == values(data) == used
    labels = [label for batch in data if batch.labels is not None for label in batch.labels]
    assert labels == used


@pytest.mark.parametrize(
    ("inputs", "settings", "used"),
    [
        ("float[N,2] x", {"samples": 3}, [0, 3, 6]),
        ("float[N,2] x", {"samples": 3, "most": 5}, [0, 3, 6]),
        ("float[N,2] x", {"most": 16}, list(range(10))),
        ("float[2,2] x", {"samples": 5}, [0, 2, 5, 7]),
        ("float[2,2] x", {"most": 1}, [0, 5]),
    ],
)
def test_fewer_samples_than_there_are_come_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: str, settings: dict[str, Any], used: list[int]
) -> None:
    """Data may be sorted by class; of a folder, only what is used is read."""
    for k, row in enumerate(ramp(10, 2)):
        np.save(tmp_path / f"{k}.npy", row)
    read: list[str] = []
    load = np.load

    def spy(path: Path, **rest: Any) -> Any:
        read.append(path.name)
        return load(path, **rest)

    monkeypatch.setattr(np, "load", spy)
    for source in ({"x": ramp(10, 2)}, tmp_path):
        data = dataset(inputs, source, labels=np.arange(10), **settings)
        assert values(data) == used
        assert np.concatenate([b.labels for b in data if b.labels is not None]).tolist() == used
    assert set(read) == {f"{k}.npy" for k in used}


def test_recovery_uses_samples_of_all_classes_where_nobody_says_how_many() -> None:
    rows = np.repeat(np.arange(4), 500).astype(np.float32)[:, None]
    traced = onnxprune.trace(net("y = Relu(x)", inputs="float[N,1] x")())
    found = values(chosen_samples(traced, {"data": {"x": rows}}))
    assert [found.count(number) for number in range(4)] == [128] * 4


def test_a_leading_axis_of_samples() -> None:
    inputs = "float[N,2] x, float[2,N] state"
    arrays = {"x": np.ones((5, 3, 2), np.float32), "state": ramp(5, 2, 3)}
    data = dataset(inputs, arrays)
    assert shapes(data) == [(3, 2)] * 5
    assert values(data, "state") == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("inputs", "arrays"),
    [
        ("float[N,2] x, float[2,M] state", {"x": (4, 2), "state": (2, 3)}),
        ("float[N,2] x, float[2,2] w", {"x": (4, 2), "w": (2, 2)}),
    ],
)
def test_inputs_that_share_no_batch_are_one_sample(inputs: str, arrays: dict[str, Any]) -> None:
    data = dataset(inputs, {n: np.zeros(shape, np.float32) for n, shape in arrays.items()})
    assert [(b.size, b.feeds["x"].shape) for b in data] == [(1, (4, 2))]


def test_what_is_the_same_for_all_samples() -> None:
    """A scalar, or an array that can only have one entry, goes along with every batch."""
    arrays = {"x": ramp(20, 2), "rate": np.float32(8), "scale": ramp(1, 2)}
    for inputs, sizes in (("float[N,2] x", [16, 4]), ("float[10,2] x", [10, 10]), ("float[1,2] x", [1] * 20)):
        data = dataset(f"{inputs}, float rate, float[1,2] scale", arrays, labels=np.arange(20))
        assert [batch.size for batch in data] == sizes
        assert values(data) == list(range(20))
        assert {batch.feeds["rate"].shape for batch in data} == {()}
        assert {batch.feeds["scale"].shape for batch in data} == {(1, 2)}
        assert np.concatenate([b.labels for b in data if b.labels is not None]).tolist() == list(range(20))
    alone = dataset("float[N,2] x, float[1,2] scale", {"x": ramp(1, 2), "scale": ramp(1, 2)})
    assert [batch.size for batch in alone] == [1]


UNDIVIDED = {"x": np.zeros((4, 2), np.float32), "w": np.zeros((2, 2), np.float32)}


@pytest.mark.parametrize(
    ("source", "settings", "text"),
    [
        (
            UNDIVIDED,
            {"labels": [1, 2, 3, 4]},
            r"labels: found 4, expected 1.*\nThe .* one: 'x' \[4, 2\], 'w' \[",
        ),
        ({**UNDIVIDED, "labels": [1, 2]}, {}, r"labels: found 2, expected 1"),
        (
            UNDIVIDED,
            {"samples": 2},
            r"samples: found 2, expected data that can be divided\nThe inputs share no",
        ),
        (DataSet(list), {"labels": [1]}, "labels: found a DataSet, which has its own"),
        (DataSet(list), {"samples": 2}, "samples: found a DataSet, which has its own"),
        (DataSet(list), {"profile": "caffe"}, "profile: found a DataSet, which has its own"),
        (None, {"profile": "caffe"}, "profile: found made-up inputs, expected images"),
        (UNDIVIDED, {"profile": "caffe"}, "profile: found arrays, expected images"),
        (np.zeros((4, 2)), {}, "data: found ndarray, expected arrays by input name, or a path"),
        ({**UNDIVIDED, "x": [[1], [1, 2]]}, {}, "data 'x': ValueError: setting an array element"),
        ({**UNDIVIDED, "x": [[1.0, 2.0]]}, {}, r"input 'x': found float64 \[1, 2\], expected float32 \[N, 2"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(source: Any, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(onnxprune.UsageError, match=text):
        list(dataset("float[N,2] x, float[2,2] w", source, **settings))


def test_outputs_that_python_cannot_have_are_told() -> None:
    text = "h = MatMul(x, V)\nr = Relu(h)\nz = MatMul(r, W)\ny = Cast<to=16>(z)"
    model = net(text, inputs="float[N,6] x", outputs="bfloat16[N,3] y", V=(6, 8), W=(8, 3))()
    with pytest.raises(
        onnxprune.ModelError, match=r"bfloat16\nonnxruntime gives Python no output of that type"
    ):
        onnxprune.prune(model, ratio=0.5, data={"x": ramp(40, 6)}, verify=True, provider="cpu")
    result = onnxprune.prune(model, ratio=0.5, granularity=1, verify=True, provider="cpu")
    assert result.report is not None
    assert "No corresponding Numpy type" in result.report.problem


HALF = {"bfloat16": ml_dtypes.bfloat16, "float8e4m3fn": ml_dtypes.float8_e4m3fn}


@pytest.mark.parametrize("name", HALF)
@pytest.mark.parametrize("form", ["archive", "folder", "arrays"])
def test_types_that_files_of_numpy_do_not_tell(name: str, form: str, tmp_path: Path) -> None:
    """numpy saves them as mere bytes, and onnxruntime takes no array of them."""
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(HALF[name])
    np.savez(tmp_path / "rows.npz", x=rows)
    (tmp_path / "rows").mkdir()
    for number, row in enumerate(rows):
        np.save(tmp_path / "rows" / f"{number:02}.npy", row)
    sources: dict[str, Any] = {
        "archive": tmp_path / "rows.npz",
        "folder": tmp_path / "rows",
        "arrays": {"x": rows},
    }
    source = sources[form]
    text = "f = Cast<to=1>(x)\nh = MatMul(f, V)\nr = Relu(h)\ny = MatMul(r, W)"
    model = net(
        text, inputs=f"{name}[N,6] x", outputs="float[N,3] y", opset=21, ir_version=10, V=(6, 8), W=(8, 3)
    )()
    data = open_data(onnxprune.trace(model), source)
    assert np.concatenate([b.feeds["x"] for b in data]).astype(np.float32).tolist() == rows.tolist()
    result = onnxprune.prune(model, ratio=0.5, granularity=1, data=source, verify=True, provider="cpu")
    assert result.report
    assert result.report.verdict == "exact"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            ml_dtypes.bfloat16,
            r"found \|V2 \[3, 2\], expected float32 \[N, 2\]\nFiles of numpy do not .* 2 bytes",
        ),
        (np.float64, r"found float64 \[3, 2\], expected float32 \[N, 2\]\nGive it as float32."),
    ],
)
def test_arrays_of_another_type_say_how_to_store_them(given: Any, text: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=ramp(3, 2).astype(given))
    with pytest.raises(onnxprune.UsageError, match=text):
        list(dataset("float[N,2] x", tmp_path / "rows.npz"))


def test_lists_are_arrays() -> None:
    (batch,) = dataset("int64[N,2] x", {"x": [[1, 2], [3, 4]]})
    assert batch.feeds["x"].tolist() == [[1, 2], [3, 4]]


def test_jobs_take_batches_of_their_callers() -> None:
    """As their annotations say, which the types of this file are checked against."""
    rows = {"x": np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)}
    model = net(
        "h = MatMul(x, V)\nr = Relu(h)\ny = MatMul(r, W)", inputs="float[N,6] x", V=(6, 8), W=(8, 3)
    )()
    given = open_data(onnxprune.trace(model), rows)
    batches, arrays = (onnxprune.prune(model, ratio=0.5, data=data, provider="cpu") for data in (given, rows))
    assert batches.model.proto == arrays.model.proto != model
    assert onnxprune.clean(model, data=given, verify=True, provider="cpu").report


def test_one_sample_is_not_divided() -> None:
    arrays = {"x": ramp(6, 5, 2), "l": ramp(5)}
    data = dataset("float[T,B,2] x, float[B] l", arrays)
    assert shapes(data.divided(1)) == [(6, 5, 2)]
    samples = {"x": ramp(6, 5, 2), "l": ramp(6)}
    assert shapes(dataset("float[N,5,2] x, float[N] l", samples).divided(4)) == [(4, 5, 2), (2, 5, 2)]


def test_one_sample_may_have_its_label() -> None:
    data = dataset("float[N,2] x, float[2,2] w", {**UNDIVIDED, "labels": [7]})
    assert data.labelled
    assert [batch.labels for batch in data] == [[7]]
    assert not dataset("float[N,2] x, float[2,2] w", {**UNDIVIDED, "labels": [7, 8]}, labels=False).labelled


FIVE = np.array([3, 0, 4, 1, 1])


@pytest.mark.parametrize(
    "labels",
    [FIVE, FIVE[:, None], FIVE.astype(np.float16), FIVE.astype(str).astype(np.uint8), np.eye(5)[FIVE],
     np.eye(5, dtype=bool)[FIVE][..., None], 0.9 * np.eye(5)[FIVE] + 0.02],
)  # fmt: skip
def test_forms_of_classes(labels: np.ndarray) -> None:
    """Numbers of any type, and rows of one entry per class."""
    assert as_classes(labels, 5).tolist() == FIVE.tolist()


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (FIVE + 0.5, "labels: found 3.5 for sample 0, expected numbers from 0 to 4, or rows of 5"),
        (FIVE + 1, "labels: found 5 for sample 2, expected numbers from 0 to 4"),
        (FIVE - 1, "labels: found -1 for sample 1, expected"),
        (np.eye(4)[[0, 1]], r"labels: found shape \[2, 4\], expected numbers from 0 to 4"),
        (np.eye(5)[FIVE] + np.eye(5)[4], "labels: sample 0 has no single class, expected"),
        (np.full((2, 5), np.nan), "labels: sample 0 has no single class, expected"),
        (np.array([0.0, np.nan]), "labels: found nan for sample 1, expected"),
    ],
)
def test_labels_that_are_no_classes(labels: np.ndarray, text: str) -> None:
    with pytest.raises(onnxprune.UsageError, match=text):
        as_classes(labels, 5)


def test_an_input_called_labels_is_no_label() -> None:
    data = dataset("float[N,2] x, float[N] labels", {"x": ramp(3, 2), "labels": ramp(3)})
    assert not data.labelled
    assert data.first.labels is None


@pytest.mark.parametrize(
    ("inputs", "shape", "text"),
    [
        ("float[N,2] x", (0, 2), "data: found no samples, expected at least one"),
        ("float[4,2] x", (3, 2), "data: found 3 samples, expected at least 4, a batch of the model"),
        ("float[N,2] x", (3, 5), r"input 'x': found float32 \[3, 5\], expected float32 \[N, 2\]"),
    ],
)
def test_data_that_do_not_fit(inputs: str, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(onnxprune.UsageError, match=text):
        list(dataset(inputs, {"x": np.zeros(shape, np.float32)}))


def test_made_up_inputs_depend_on_the_seed() -> None:
    first, other = (dataset("float[N,2] x", None, seed=seed, samples=3) for seed in (0, 1))
    assert values(first) == values(first)
    assert [b.size for b in first] == [2, 2, 2]
    assert len(set(values(first))) == 6
    assert values(first)[2:] == values(other)[:4], "each run has the next seed"
    with pytest.raises(onnxprune.UsageError, match="labels take data: found made-up inputs"):
        dataset("float[N,2] x", None, labels=[1])
    with pytest.raises(onnxprune.UsageError, match="samples: found 0, expected at least 1"):
        dataset("float[N,2] x", None, samples=0)


# Folders ------------------------------------------------------------------------------------


def test_a_folder_of_arrays_is_read_in_order_and_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k, row in enumerate(ramp(20, 2)):
        np.save(tmp_path / f"{19 - k:02}.npy", row if k % 2 else row[None])
    (tmp_path / "notes.txt").touch()
    loaded: list[Path] = []
    load = np.load

    def spy(path: Path, **rest: Any) -> Any:
        loaded.append(path)
        return load(path, **rest)

    monkeypatch.setattr(np, "load", spy)
    data = dataset("float[N,2] x", tmp_path)
    assert not loaded, "nothing is read before it is needed"
    batches = iter(data)
    assert next(batches).feeds["x"].shape == (16, 2)
    assert len(loaded) <= 17
    assert values(data) == list(range(19, -1, -1))
    assert shapes(dataset("float[1,2] x", tmp_path, samples=3)) == [(1, 2)] * 3


def test_samples_of_several_shapes_are_not_mixed(tmp_path: Path) -> None:
    for k, width in enumerate((4, 4, 6, 4)):
        np.save(tmp_path / f"{k}.npy", np.zeros(width, np.float32))
    data = dataset("float[N,W] x", tmp_path, labels=[1, 2, 3, 4])
    assert shapes(data) == [(2, 4), (1, 6), (1, 4)]
    assert [b.labels.tolist() for b in data if b.labels is not None] == [[1, 2], [3], [4]]
    assert shapes(data.alike()) == [(2, 4)]


def test_a_folder_for_every_input(tmp_path: Path) -> None:
    for name in ("x", "state"):
        (tmp_path / name).mkdir()
        for k in range(2):
            np.save(tmp_path / name / f"{k}.npy", np.full(2, k, np.float32))
    data = dataset("float[N,2] x, float[N,2] state", tmp_path)
    assert values(data) == values(data, "state") == [0, 1]
    (tmp_path / "x" / "1.npy").unlink()
    with pytest.raises(onnxprune.UsageError, match=r"found {'x': 1, 'state': 2} files"):
        dataset("float[N,2] x, float[N,2] state", tmp_path)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(onnxprune.UsageError, match=r"found neither \.npy files nor images"):
        dataset("float[N,2] x", tmp_path)
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(onnxprune.UsageError, match=r"a\.npy': it is no plain \.npy file"):
        list(dataset("float[N,2] x", tmp_path))
    (tmp_path / "b.png").touch()
    with pytest.raises(onnxprune.UsageError, match=r"found both \.npy files and images"):
        dataset("float[N,2] x", tmp_path)
    with pytest.raises(onnxprune.UsageError, match="no such file or directory\nModels with several inputs"):
        dataset("float[N,2] x, float[N,2] state", tmp_path)


# Labels -------------------------------------------------------------------------------------


NAMES = ["0002_shark.png", "0007.png"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("list.json", "[2, 7]"),
        ("names.json", '{"0007.png": 7, "0002_shark.png": 2, "other.png": 1}'),
        ("list.csv", "class\n2\n7\n"),
        ("names.csv", "name,class\n0007.png,7\n0002_shark.png,2\n"),
        ("quoted.csv", '0007.png,"a, b",7\n0002_shark.png,"c",2\n'),
    ],
)
def test_labels_from_files(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    found = read_labels(tmp_path / file, NAMES)
    assert found is not None
    assert found.tolist() == [2, 7]


def test_labels_from_names_and_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", [2, 7])
    for source in ("names", [2, 7], np.array([2, 7]), tmp_path / "labels.npy"):
        found = read_labels(source, NAMES)
        assert found is not None
        assert found.tolist() == [2, 7]
    assert read_labels(None, NAMES) is None


@pytest.mark.parametrize(
    ("source", "names", "text"),
    [
        ("names", ["shark.png"], "labels: the name 'shark.png' starts with no number"),
        ("nowhere.json", NAMES, "cannot read labels 'nowhere.json': no such file or directory"),
        ([1], NAMES, "labels: found 1, expected 2, one per sample"),
        ({"0007.png": 7}, NAMES, "labels: found none of '0002_shark.png'"),
        (["a", "b"], NAMES, "labels: found text, expected numbers"),
        (
            str(DIGITS),
            NAMES,
            r"labels '.*digits.onnx': found ending '.onnx'\nExpected a .json, .csv or .npy file",
        ),
    ],
)
def test_labels_that_do_not_fit(source: Any, names: list[str], text: str) -> None:
    with pytest.raises(onnxprune.UsageError, match=text):
        read_labels(source, names)


# Images -------------------------------------------------------------------------------------


def picture(path: Path, width: int, height: int) -> np.ndarray:
    """A smooth picture in three colours."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 40.0)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def value(shape: list[Any], kind: int = onnx.TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info("x", kind, shape)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("shape", [["N", 3, 8, 8], [1, 8, 8, 3]])
def test_presets(tmp_path: Path, preset: str, shape: list[Any]) -> None:
    """A picture of one colour shows the arithmetic, whatever the crop."""
    Image.new("RGB", (16, 12), (255, 128, 0)).save(tmp_path / "a.png")
    expected: dict[str, list[float]] = {
        "none": [255, 128, 0],
        "unit": [1, 128 / 255, 0],
        "tf": [1, 128 / 127.5 - 1, -1],
        "caffe": [0 - 104, 128 - 117, 255 - 123],
        "imagenet": [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225],
    }
    found = image_reader(value(shape), preset)(tmp_path / "a.png")
    assert found.dtype == np.float32
    assert found.shape == (1, *(8 if isinstance(s, int) and s == 8 else s for s in shape[1:]))
    if shape[1] == 3:
        found = found.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, np.broadcast_to(expected[preset], found.shape), rtol=1e-5, atol=1e-5)


def test_the_crop_is_in_the_middle(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", 20, 12)
    found = image_reader(value(["N", 3, 8, 8]), {"resize": 12})(tmp_path / "a.png")
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), pixels[2:10, 6:14])
    whole = image_reader(value(["N", 3, 12, 12]), "none")(tmp_path / "a.png")
    np.testing.assert_array_equal(whole[0].transpose(1, 2, 0), pixels[:, 4:16])


def test_channels_types_and_sizes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 8, 8)
    profile = {"preset": "none", "channels": "BGR", "size": [4, 6], "layout": "NHWC"}
    found = image_reader(value(["N", "H", "W", 3], onnx.TensorProto.UINT8), json.dumps(profile))(
        tmp_path / "a.png"
    )
    assert found.dtype == np.uint8
    assert found.shape == (1, 4, 6, 3)
    assert set(found[..., 0].reshape(-1).tolist()) == {40}, "blue comes first"
    grey = image_reader(value(["N", 1, 8, 8]), "unit")(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("L")) / 255
    np.testing.assert_allclose(grey[0, 0], expected, rtol=1e-6)


def test_profile_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"preset": "tf", "std": [2.0]}')
    profile = read_profile(tmp_path / "own.json")
    assert (profile.crop, profile.std, profile.mean) == (0.875, (2.0,), (1.0,))


@pytest.mark.parametrize(
    ("profile", "shape", "text"),
    [
        (
            None,
            ["N", 3, 8, 8],
            "found images, and no profile that says how they become inputs\nGive --profile",
        ),
        ("imagnet", ["N", 3, 8, 8], "unknown profile of images 'imagnet'\nDid you mean 'imagenet'"),
        ("no.json", ["N", 3, 8, 8], "cannot read profile 'no.json': no such file or directory"),
        ('{"mean": 1', ["N", 3, 8, 8], "the profile of images is not JSON"),
        ({"maen": [1]}, ["N", 3, 8, 8], "unknown setting of images 'maen'\nDid you mean 'mean'"),
        ({"channels": "RBG"}, ["N", 3, 8, 8], "unknown channels 'RBG'"),
        ({"std": [0]}, ["N", 3, 8, 8], "the profile of images makes no sense"),
        ({"mean": "1"}, ["N", 3, 8, 8], "the profile of images: mean: expected 'array', got 'str'"),
        ("none", ["N", 3, "H", "W"], "input 'x' has no fixed size\nGive one: --profile"),
        ("none", ["N", 4, 8, 8], "input 'x': found 4 channels, expected 1 or 3"),
        ("none", ["N", 8], "input 'x': found 2 axes, expected the 4 of images"),
    ],
)
def test_profiles_that_make_no_sense(profile: Any, shape: list[Any], text: str) -> None:
    with pytest.raises(onnxprune.UsageError, match=text):
        image_reader(value(shape), profile)


def test_images_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    told = r"Pillow is not installed\nInstall it with: pip install 'onnxprune\[images\]'"
    with pytest.raises(InstallationError, match=told):
        image_reader(value(["N", 3, 8, 8]), "none")


def test_a_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(onnxprune.UsageError, match=r"cannot read image '.*a\.png'"):
        image_reader(value(["N", 3, 8, 8]), "none")(tmp_path / "a.png")


def test_a_folder_of_digits_gives_the_accuracy_of_the_archive(run: Run, tmp_path: Path) -> None:
    archive = np.load(IMAGES)
    for k in range(20):
        pixels = np.rint(archive["image"][k, 0] * 16).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k:02}.png")
    (tmp_path / "labels.csv").write_text(
        "".join(f"{k:02}.png,{c}\n" for k, c in enumerate(archive["labels"][:20]))
    )
    flags = "--labels", tmp_path / "labels.csv", "--profile", '{"scale": 0.0625}', "--json"
    document = run("verify", DIGITS, DIGITS, "--data", tmp_path, *flags, "--provider", "cpu").document
    assert document["samples"] == 20
    assert document["scores"] == [{"name": "accuracy", "before": 1.0, "after": 1.0, "drop": 0.0}]


@pytest.mark.parametrize(
    ("model", "preset", "top1"),
    [("squeezenet1_0_fp16", "caffe", 0.592), ("derived_mobilenet_v2_fp32", "imagenet", 0.701)],
)
def test_accuracy_on_photographs(tmp_path: Path, model: str, preset: str, top1: float) -> None:
    """The catalogue's accuracy is that of 1000 images of 224 x 224, not cropped further."""
    path, folder = SHARED / "models" / f"{model}.onnx", SHARED / "data" / "imagenet"
    if not path.is_file() or not folder.is_dir():
        pytest.skip(f"no {model} or photographs in {SHARED} (set ONNXPRUNE_SHARED)")
    for photograph in sorted(folder.iterdir())[::10]:  # neighbours show animals of one kind
        (tmp_path / photograph.name).symlink_to(photograph)
    traced = onnxprune.trace(path)
    data = open_data(traced, tmp_path, labels="names", profile={"preset": preset, "crop": 1.0})
    hits = total = 0
    with runtime.open_session(traced.model) as session:
        for batch in data:
            (scores,) = runtime.run(session, batch.feeds).values()
            assert batch.labels is not None
            hits += int((scores.reshape(batch.size, -1).argmax(1) == batch.labels).sum())
            total += batch.size
    assert total >= 50
    assert abs(hits / total - top1) < 0.14, "within two standard deviations"


def test_inputs_that_no_data_can_hold(run: Run, tmp_path: Path) -> None:
    """Nobody is sent for data then."""
    text = "h = MatMul (x, W)\ny = MatMul (h, V)\nz = SequenceLength (s)"
    inputs = "float[4,3] x, seq(float[2]) s"
    path, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    onnx.save(net(text, inputs=inputs, outputs="y, int64 z", W=(3, 8), V=(8, 5))(), path)
    np.savez(data, x=np.ones((4, 3), np.float32))
    why = "input 's' is of the kind 'sequence', which data cannot hold"
    outcome = run("prune", path, "-o", tmp_path / "slim.onnx", "--provider", "cpu")
    assert (outcome.code, outcome.err) == (0, "the result is not verified\n")
    assert f"\nnot verified: {why}\n" in outcome.out
    assert run("verify", path, path, "--provider", "cpu").err == f"error: {why}\n"
    for given in ([], ["--data", data]):
        outcome = run("sensitivity", path, "--provider", "cpu", *given)
        assert outcome.err.splitlines()[-2:] == [
            f"error: {why}", "hint: It can be pruned without data, and is not verified then."
        ]  # fmt: skip
