"""Files: what is read is never written, and an old file is whole until a new one is."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune

from .conftest import DIGITS, IMAGES, ROOT, Run, digest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, signals and limits of POSIX")


def external(path: Path, fill: float, data: str = "weights.bin", size: int = 16) -> Path:
    """A network of two convolutions whose weights all have one value, in an external file."""
    shapes = {"w0": (size, 3, 3, 3), "w1": (4, size, 1, 1)}
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w0"], ["c"], "first"),
                helper.make_node("Conv", ["c", "w1"], ["y"], "last"),
            ],
            "pair",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.full(s, fill, np.float32), n) for n, s in shapes.items()],
            doc_string=str(fill),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.data"))


# Targets against inputs -----------------------------------------------------------------------


def aliases(source: Path) -> dict[str, Path]:
    """Names that lead to a file."""
    folder = source.parent
    other = folder / "aliases"
    other.mkdir(exist_ok=True)
    symbolic, hard = other / f"s{source.suffix}", other / f"h{source.suffix}"
    symbolic.symlink_to(source)
    hard.hardlink_to(source)
    dotted = folder / "aliases" / ".." / source.name
    return {"same": source, "dotted": dotted, "symlink": symbolic, "hardlink": hard}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Every kind of file that a command reads."""
    monkeypatch.chdir(tmp_path)
    files = {
        "model": external(tmp_path / "model.onnx", 1.0),
        "slim": external(tmp_path / "slim.onnx", 1.0, "slim.bin"),
        **{
            name: tmp_path / text
            for name, text in {
                "weights": "weights.bin",
                "slim weights": "slim.bin",
                "data": "data.npz",
                "labels": "labels.json",
                "profile": "profile.json",
                "plan": "plan.json",
                "config": "config.toml",
                "ratio": "ratio.toml",
                "metric": "metric.py",
                "scores": "scores.npz",
            }.items()
        },
    }
    np.savez(files["data"], x=np.ones((1, 3, 8, 8), np.float32))
    onnxprune.prune(files["model"]).plan.save(files["plan"])
    for name, text in {
        "labels": "[0]",
        "profile": "{}",
        "config": "",
        "ratio": "default = 0.5",
        "metric": "",
    }.items():
        files[name].write_text(text)
    np.savez(files["scores"], first=np.ones(16))
    return files


PRUNE = ("prune", "model.onnx", "-o", "out.onnx")
VERIFY = ("verify", "model.onnx", "slim.onnx")
EXPLAIN = ("explain", "model.onnx", "first")


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("model", (*PRUNE, "--plan-out")),
        ("model", ("prune", "model.onnx", "-o")),
        ("model", ("clean", "model.onnx", "-o")),
        ("weights", ("prune", "model.onnx", "-o")),
        ("weights", (*PRUNE, "--plan-out")),
        ("weights", ("clean", "model.onnx", "-o")),
        ("data", (*PRUNE, "--data", "data.npz", "--plan-out")),
        ("plan", (*PRUNE, "--plan", "plan.json", "--plan-out")),
        ("config", (*PRUNE, "--config", "config.toml", "--plan-out")),
        ("ratio", (*PRUNE, "--ratio", "ratio.toml", "--plan-out")),
        ("scores", (*PRUNE, "--criterion", "scores.npz", "--plan-out")),
        ("profile", (*PRUNE, "--profile", "profile.json", "--plan-out")),
        ("model", (*EXPLAIN, "--plot")),
        ("weights", (*EXPLAIN, "--plot")),
        *((source, (*VERIFY, *given, flag)) for flag in ("--junit", "--markdown", "--plot")
          for source, given in (
              ("model", ()), ("slim", ()), ("weights", ()), ("slim weights", ()),
              ("data", ("--data", "data.npz")),
              ("labels", ("--labels", "labels.json")), ("plan", ("--plan", "plan.json")),
              ("metric", ("--metric", "metric:f")),
          )),
    ],
)  # fmt: skip
@pytest.mark.parametrize("alias", ["same", "dotted", "symlink", "hardlink"])
def test_no_input_is_overwritten(
    run: Run, stage: dict[str, Path], source: str, arguments: tuple[str, ...], alias: str
) -> None:
    target = aliases(stage[source])[alias]
    before = {path: digest(path) for path in stage.values()}
    outcome = run(*arguments, target)
    assert outcome.code == 2
    assert outcome.err.startswith("error: refusing to overwrite the input '"), outcome.err
    assert Path(outcome.err.split("'")[1]).samefile(stage[source])
    assert {path: digest(path) for path in stage.values()} == before
    assert not Path("out.onnx").exists()


def test_no_sample_of_a_folder_is_overwritten(run: Run, stage: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "samples" / "x").mkdir(parents=True)
    sample = tmp_path / "samples" / "x" / "a.npy"
    np.save(sample, np.ones((3, 8, 8), np.float32))
    outcome = run(*VERIFY, "--data", "samples", "--junit", sample)
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        2, "error: refusing to overwrite the input 'samples/x/a.npy'",
    )  # fmt: skip


@pytest.mark.parametrize(
    "flags", [("--junit", "--markdown"), ("--junit", "--plot"), ("--markdown", "--plot")]
)
@pytest.mark.parametrize("second", ["a.svg", "b/../a.svg", "link.svg"])
def test_two_results_are_two_files(
    run: Run, stage: dict[str, Path], flags: tuple[str, str], second: str
) -> None:
    Path("b").mkdir()
    Path("link.svg").symlink_to("a.svg")
    outcome = run(*VERIFY, flags[0], "a.svg", flags[1], second)
    assert (outcome.code, outcome.err[:6]) == (2, "error:")
    assert outcome.err.endswith("is given for two outputs\n")
    assert not Path("a.svg").exists()


def test_the_plan_is_not_in_the_way_of_the_weights(run: Run, stage: dict[str, Path]) -> None:
    outcome = run(*PRUNE, "--plan-out", "out.onnx.data", "--no-verify")
    assert outcome.code == 0, outcome.err
    assert onnxprune.Plan.load("out.onnx.data").groups
    assert onnxprune.load("out.onnx").embedded()


@pytest.mark.parametrize("name", ["output", "plan-out", "plan_out"])
def test_a_configuration_does_not_say_where_to_write(run: Run, stage: dict[str, Path], name: str) -> None:
    stage["config"].write_text(f'{name} = "model.onnx"\n')
    outcome = run("prune", "model.onnx", "-o", "out.onnx", "--config", "config.toml")
    assert (outcome.code, outcome.err) == (2, (
        f"error: 'config.toml' says where to write: {name.replace('_', '-')}\n"
        "hint: Give that on the command line.\n"
    ))  # fmt: skip


# Pairs ----------------------------------------------------------------------------------------


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_external_data_is_written_beside_the_output(run: Run, tmp_path: Path) -> None:
    source, target = external(tmp_path / "model.onnx", 1.0), tmp_path / "slim.onnx"
    unrelated = tmp_path / "slim.onnx.data"
    unrelated.write_text("somebody's")
    for ratio in (0.5, 0.25, 0.25):  # the data file of the run before goes
        assert (
            run("prune", source, "-o", target, "--ratio", ratio, "--granularity", 1, "--no-clean").code == 0
        )
        data = [path for path in data_files(tmp_path) if path != unrelated]
        assert len(data) == 1
        assert len(data[0].name) == len("weights.bin")
        ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    assert unrelated.read_text() == "somebody's"
    assert weights(target)["w0"].shape[0] == 12
    assert run("prune", DIGITS, "-o", target, "--no-verify").code == 0  # a model in one file
    assert data_files(tmp_path) == [unrelated]


def failing(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> Callable[[], None]:
    """Let one of the moves of a save fail."""
    move, calls = os.replace, 0

    def replace(source: Path, to: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.EIO, "Input/output error")
        move(source, to)

    monkeypatch.setattr(os, "replace", replace)
    return lambda: monkeypatch.setattr(os, "replace", move)


@pytest.mark.parametrize("call", [1, 2])
def test_a_failed_move_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    target = tmp_path / "out.onnx"
    one, two = (onnxprune.load(external(tmp_path / f"{n}.onnx", n, f"{n}.bin")) for n in (1.0, 2.0))
    one.save(target)
    before = sorted(tmp_path.iterdir())
    mend = failing(tmp_path, target, monkeypatch, call)
    with pytest.raises(OSError, match="Input/output"):
        two.save(target)
    mend()
    assert sorted(tmp_path.iterdir()) == before
    assert {float(array.flat[0]) for array in weights(target).values()} == {1.0}


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    model = onnxprune.load(external(tmp_path / "model.onnx", 1.0))
    target, link = tmp_path / "real" / "out.onnx", tmp_path / "link.onnx"
    target.parent.mkdir()
    old = os.umask(0o027)
    try:
        model.save(target)
    finally:
        os.umask(old)
    (data,) = data_files(target.parent)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (target, data)} == {0o640}
    target.chmod(0o604)
    link.symlink_to(target)
    model.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert weights(target).keys() == {"w0", "w1"}


def test_a_file_that_is_being_written_is_not_taken_for_abandoned(tmp_path: Path) -> None:
    from onnxprune.files.replacing import replacement
    from onnxprune.files.writing import write_atomically

    target = tmp_path / "plan.json"
    with replacement(target) as (file, move, _):
        file.write(b"slow")
        write_atomically(target, b"quick")
        move()
    assert target.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [target]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np, onnx
from onnx import numpy_helper
import onnxprune

kind, first, second, target = sys.argv[1:]
old, new = onnxprune.load(first), onnxprune.load(second)
number = getattr(signal, "SIG" + kind)
FILES = {"open", "os.rename", "os.remove", "os.listdir", "os.scandir", "os.chmod", "os.chown", "fcntl.flock"}


def save_and_be_hit(operation):
    events = 0

    def count(event, _):
        nonlocal events
        events += event in FILES
        if event in FILES and events == operation:
            os.kill(os.getpid(), number)

    if kind != "KILL":
        signal.signal(number, signal.default_int_handler)
    sys.addaudithook(count)
    try:
        new.save(target)
    except KeyboardInterrupt:
        os._exit(0)
    os._exit(1 if events < operation else 0)


def names():
    return sorted(path.name for path in Path(target).parent.iterdir())


seen, operation, status = [], 0, 0
while not status or os.WIFSIGNALED(status):
    operation += 1
    old.save(target)
    assert len(names()) == 2, names()
    child = os.fork()
    if not child:
        save_and_be_hit(operation)
    _, status = os.waitpid(child, 0)
    proto = onnx.load(target)
    values = {float(v) for t in proto.graph.initializer for v in np.unique(numpy_helper.to_array(t))}
    assert values == {float(proto.graph.doc_string)}, (values, proto.graph.doc_string)
    seen += values
    if kind != "KILL":
        assert len(names()) == 2, names()
print(operation, *sorted(set(seen)))
"""


@pytest.mark.parametrize("kind", ["KILL", "TERM", "INT"])
def test_killed_while_it_saves(tmp_path: Path, kind: str) -> None:
    """In every operation on a file: always one pair that belongs together, and no other after the next run."""
    sources = [external(tmp_path / f"{n}.onnx", n, f"{n}.bin") for n in (1.0, 2.0)]
    target = tmp_path / "out" / "out.onnx"
    target.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, kind, *map(str, sources), str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    operations, *seen = done.stdout.split()
    assert int(operations) > 10
    assert seen == ["1.0", "2.0"]


FULL = """
import resource, signal, sys
import onnxprune.cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
raise SystemExit(onnxprune.cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [100, 1 << 12, 1 << 14])
def test_a_disk_that_is_full(tmp_path: Path, limit: int) -> None:
    """The limit strikes in the data file, the graph or the plan; the old pair loads."""
    source = external(tmp_path / "model.onnx", 2.0, size=1600)
    target = tmp_path / "out" / "out.onnx"
    target.parent.mkdir()
    onnxprune.load(external(tmp_path / "old.onnx", 1.0, "old.bin")).save(target)
    before = {path: digest(path) for path in target.parent.iterdir()}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), "prune", source, "-o", target, "--no-verify", "--no-clean"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: file too large: '{target}'\n"
    assert {path: digest(path) for path in target.parent.iterdir()} == before


@pytest.mark.parametrize(("limit", "full"), [(20_000, "plan.json"), (100_000, "slim.onnx")])
def test_a_disk_that_fills_up_between_two_files(tmp_path: Path, limit: int, full: str) -> None:
    """The new plan was left beside the old model."""
    names = ("plan.json", "weights.npz", "slim.onnx")
    for name in names:
        (tmp_path / name).write_text("old")
    flags = [f for flag, name in zip(FLAGS, names, strict=True) for f in (flag, tmp_path / name)]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), "prune", DIGITS, "--ratio", "0.5", *flags,
         "--no-verify"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: file too large: '{tmp_path / full}'\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "old")


FLAGS = ("--plan-out", "--recovery-out", "-o")
"""Of the files that a pruning writes, in their order."""


def test_a_name_that_another_run_takes_meanwhile(tmp_path: Path) -> None:
    """The names of data files are chosen before anything is moved; then one of them holds something else."""
    from onnxprune.files.writing import together

    source = external(tmp_path / "model.onnx", 1.0)
    target = tmp_path / "out" / "out.onnx"
    target.parent.mkdir()
    onnxprune.load(source).save(target)
    (data,) = data_files(target.parent)
    data.unlink()
    with together():
        onnxprune.load(source).save(target)
        data.write_bytes(b"other")
    assert data.read_bytes() == b"other"
    assert {float(array.flat[0]) for array in weights(target).values()} == {1.0}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_protected_target(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    target.write_text("old")
    target.chmod(0o444)
    outcome = run("prune", DIGITS, "-o", target)
    assert (outcome.code, outcome.err) == (2, f"error: cannot write '{target}': it is write-protected\n")
    assert target.read_text() == "old"


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    outcome = run("prune", DIGITS, "-o", tmp_path / "nowhere" / "out.onnx")
    assert (outcome.code, outcome.err) == (
        2, f"error: cannot write '{tmp_path}/nowhere/out.onnx': there is no folder '{tmp_path}/nowhere'\n",
    )  # fmt: skip


def test_the_arrays_of_the_digits_are_an_input(run: Run, tmp_path: Path) -> None:
    """The call that replaced them."""
    data = tmp_path / "d.npz"
    data.write_bytes(IMAGES.read_bytes())
    outcome = run("verify", DIGITS, DIGITS, "--data", data, "--junit", data)
    assert outcome.code == 2
    assert digest(data) == digest(IMAGES)


def test_weights_outside_are_cut_twice(tmp_path: Path) -> None:
    """First the clean-up takes duplicates, then the pruning half of what is left."""
    source = external(tmp_path / "model.onnx", 1.0)
    model = onnx.load(source)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        array = rng.standard_normal(tuple(tensor.dims)).astype(np.float32)
        if tensor.name == "w0":
            array[3] = array[9] = array[7]
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    inside = onnxprune.prune(model, ratio=0.5, granularity=1, verify=True)
    onnx.save(model, source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    outside = onnxprune.prune(source, ratio=0.5, granularity=1, verify=True)
    assert inside.report
    assert outside.report
    outside.model.save(tmp_path / "slim.onnx")
    expected = {t.name: numpy_helper.to_array(t) for t in inside.model.proto.graph.initializer}
    for name, array in weights(tmp_path / "slim.onnx").items():
        np.testing.assert_array_equal(array, expected[name])
    assert expected["w0"].shape[0] == 7


@pytest.mark.parametrize("size", [1, 1023, 1024, 31_000, 600_000])
def test_the_size_of_a_file_is_known_before_it_is_written(size: int, tmp_path: Path) -> None:
    """Lengths in a message take a byte for every seven bits."""
    values = np.arange(size, dtype=np.float32)
    weights = [numpy_helper.from_array(values, "w"), helper.make_tensor("v", 1, [size], values)]
    weights[0].doc_string = "of no use"
    y = helper.make_tensor_value_info("y", 1, [size])
    nodes = [helper.make_node("Add", ["w", "v"], ["y"])]
    model = onnxprune.load(helper.make_model(helper.make_graph(nodes, "g", [], [y], weights)))
    model.save(tmp_path / "written.onnx")
    assert model.nbytes() == (tmp_path / "written.onnx").stat().st_size
