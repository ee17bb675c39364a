"""Users of other tools: their commands, flags, words and defaults, and what these do."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from models.build import Net
from onnxprune.doors import netspresso, tao
from onnxprune.scoring.registry import lookup
from onnxprune.settings.spellings import SPELLINGS

from .conftest import DIGITS, IMAGES, Run
from .planting import graph
from .test_clean_peers import demo
from .test_golden import POLICIES, STAT, THRESHOLDS, chain, figure, joined, residual


def said(text: str) -> list[str]:
    """The command that a door says is the same."""
    (line,) = [line for line in text.splitlines() if line.startswith("the same as: ")]
    return shlex.split(line.removeprefix("the same as: onnxprune "))


# NVIDIA TAO ----------------------------------------------------------------------------------


def kept(run: Run, folder: Path, model: onnx.ModelProto, *flags: object) -> list[list[int]]:
    """Channels that TAO's own spelling keeps, group by group."""
    onnx.save(model, folder / "model.onnx")
    done = run("tao", "prune", "-m", folder / "model.onnx", "-o", folder / "out", *flags)
    assert done.code == 0, done.err
    again = said(done.err)
    again[again.index("-o") + 1] = str(folder / "again.onnx")
    plan = folder / "plan.json"
    assert run(*again, "--plan-out", plan).code == 0
    assert (folder / "again.onnx").read_bytes() == (folder / "out" / "model.onnx").read_bytes()
    return [g["keep"] for g in json.loads(plan.read_text())["groups"] if g["status"] != "blocked"]


@pytest.mark.parametrize(("threshold", "granularity", "least", "wanted"), THRESHOLDS)
def test_golden_thresholds(
    threshold: float, granularity: int, least: int, wanted: Sequence[int], run: Run, tmp_path: Path
) -> None:
    """The vectors of TAO's formula: a tenth in 32 bits is more than a tenth, and not above it there."""
    flags = ("-pth", threshold, "-pg", granularity, "-nf", least, "-n", "off")
    assert kept(run, tmp_path, chain(STAT), *flags)[0] == list(wanted)


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        ("union", [0, 1, 2, 3]),
        ("intersection", [3]),
        ("arithmetic_mean", [0, 1, 3]),
        ("geometric_mean", [1, 3]),
    ],
)
def test_golden_equalization(criterion: str, wanted: Sequence[int], run: Run, tmp_path: Path) -> None:
    model = joined([4, 1, 2, 3], [1, 5, 2, 4])
    flags = ("-eq", criterion, "-pth", 0.45, "-pg", 1, "-nf", 1)
    assert kept(run, tmp_path, model, *flags)[0] == list(wanted)


def test_tao_defaults_and_key(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "pruned.onnx"
    done = run(
        "tao", "prune", "-pm", DIGITS, "-o", out, "-k", "nvidia_tlt", "-el", "stem", "head", "-n", "L2"
    )
    assert done.code == 0, done.err
    assert "it opens" not in done.err
    assert "the key (-k) opens .tlt files, which only TAO reads" in done.err
    assert said(done.err) == [
        "prune", str(DIGITS), "-o", str(out), "--preset", "tao", "--normalizer", "L2",
        "--exclude", "stem", "--exclude", "head",
    ]  # fmt: skip
    assert "pruning ratio (pruned model / original model): " in done.out
    assert onnxprune.load(out).proto.graph.node


def test_tao_spec(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"results_dir: {tmp_path}\nencryption_key: tlt\nprune:\n  checkpoint: {DIGITS}\n  threshold: 0.68\n"
        "  equalization_criterion: union\n  granularity: 8\n  min_num_filters: 16\n  normalizer: max\n"
        "  excluded_layers: [stem, 'head']\n"
    )
    done = run("tao", "prune", "-e", spec, "-o", tmp_path / "out", "-pth", 0.5)
    assert done.code == 0, done.err
    assert said(done.err)[4:] == [
        "--preset", "tao", "--normalizer", "max", "--policy", "union", "--granularity", "8",
        "--threshold", "0.5", "--min-channels", "16", "--exclude", "stem", "--exclude", "head",
    ]  # fmt: skip
    spec.write_text("prune:\n  treshold: 1\n")
    failed = run("tao", "prune", "-e", spec)
    assert failed.code == 2
    assert "Did you mean 'threshold'?" in failed.err


@pytest.mark.parametrize(
    ("words", "handed"),
    [
        ("model unet prune -m MODEL -o OUT -k key -pth 0.5 --gpus 1 -v", "-o OUT/digits.onnx --preset tao --threshold 0.5 --min-channels 8"),
        ("detectnet_v2 prune -pm MODEL -o OUT/a.onnx -eq union -pth 0.7 --results_dir logs", "-o OUT/a.onnx --preset tao --policy union --threshold 0.7"),
        ("yolo_v4 prune -m MODEL -e train.txt -o OUT -eq intersection", "-o OUT/digits.onnx --preset tao --policy intersection"),
        ("model efficientdet_tf2 prune -e SPEC prune.threshold=0.4", "-o RESULTS/prune/digits.onnx --preset tao --threshold 0.4"),
        ("classification_tf2 prune -e SPEC results_dir=OUT", "-o OUT/prune/digits.onnx --preset tao --threshold 0.68"),
        ("prune prune.checkpoint=MODEL prune.results_dir=OUT prune.normalizer=L2", "-o OUT/digits.onnx --preset tao --normalizer L2"),
    ],
)  # fmt: skip
def test_tao_launcher(words: str, handed: str, run: Run, tmp_path: Path) -> None:
    """What TAO's launcher is given, with its own words before the verb and its ways to change a spec."""
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    places = {
        "MODEL": DIGITS,
        "OUT": tmp_path / "new",
        "SPEC": tmp_path / "s.yaml",
        "RESULTS": tmp_path / "r",
    }
    (tmp_path / "s.yaml").write_text(
        f"results_dir: {tmp_path / 'r'}\nprune:\n  checkpoint: {DIGITS}\n  threshold: 0.68\n  verbose: true\n"
    )

    def placed(text: str) -> list[str]:
        for word, path in places.items():
            text = text.replace(word, str(path))
        return text.split()

    done = run("tao", *placed(words))
    assert done.code == 0, done.err
    assert said(done.err) == ["prune", str(DIGITS), *placed(handed)]
    assert ("says how a network is trained" in done.err) == ("train.txt" in words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "m.tlt", "output": "o"},
            "'m.tlt' holds no ONNX graph: only TAO and its framework read it",
        ),
        ({"output": "o"}, "found no model, expected one"),
        ({"model": "m.onnx"}, "found no output, expected one"),
        ({"model": "m.onnx", "output": "o", "normalizer": "tss"}, "unknown value of normalizer 'tss'"),
    ],
)
def test_tao_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(onnxprune.UsageError) as raised:
        tao.arguments(options)
    assert raised.value.message == message


# NetsPresso ----------------------------------------------------------------------------------


def test_netspresso_recommendation(run: Run, tmp_path: Path) -> None:
    done = run(
        "netspresso",
        "compress",
        DIGITS,
        "--output_dir",
        tmp_path / "made",
        "--compression_method",
        "PR_L2",
        "--recommendation-method",
        "SLAMP",
        "--recommendation_ratio",
        0.5,
        "--policy",
        "AVERAGE",
        "--step_op",
        "ROUND",
    )
    assert done.code == 0, done.err
    assert said(done.err) == [
        "prune", str(DIGITS), "-o", str(tmp_path / "made" / "digits.onnx"), "--preset", "netspresso",
        "--policy", "average", "--rounding", "round", "--criterion", "l2", "--normalizer", "lamp",
        "--scope", "global", "--ratio", "0.5",
    ]  # fmt: skip
    assert "x fewer MACs" in done.out
    result = onnxprune.load(tmp_path / "made" / "digits.onnx")
    counts = [
        len(g.keep)
        for g in onnxprune.prune(
            DIGITS, preset="netspresso", normalizer="lamp", scope="global", clean=False
        ).plan.groups
    ]
    assert all(count % 2 == 0 for count in counts)
    assert result.proto.ByteSize() < onnxprune.load(DIGITS).proto.ByteSize()


def compressed(run: Run, folder: Path, model: onnx.ModelProto, *flags: object) -> dict[str, set[int]]:
    """Channels that NetsPresso's own spelling removes, by layer."""
    onnx.save(model, folder / "model.onnx")
    flags = ("-o", folder / "out.onnx", "--layer_norm", "tss_norm", "--step_size", 1, *flags)
    done = run("netspresso", "compress", folder / "model.onnx", *flags)
    assert done.code == 0, done.err
    plan = folder / "plan.json"
    assert run(*said(done.err), "--plan-out", plan).code == 0
    groups = json.loads(plan.read_text())["groups"]
    return {g["name"]: set(range(g["channels"])) - set(g["keep"]) for g in groups if g["status"] != "blocked"}


@pytest.mark.parametrize("policy", POLICIES)
def test_golden_policies(policy: str, run: Run, tmp_path: Path) -> None:
    """The figure of the residual block: 40 % of its Add removes the channels 0 and 1."""
    (tmp_path / "values.toml").write_text("x = 0.4\n")
    flags = ("--policy", policy, "--compression_method", "PR_L2", "--values", tmp_path / "values.toml")
    assert compressed(run, tmp_path, figure(policy), *flags) == {"x": {0, 1}, "G": set()}


@pytest.mark.parametrize(
    ("op", "size", "left"),
    [("round_up", 2, 4), ("round_down", 2, 2), ("round", 2, 2), ("none", 2, 3), ("round", 1, 3)],
)
def test_golden_steps(op: str, size: int, left: int, run: Run, tmp_path: Path) -> None:
    """Three of five channels, in steps of two: an odd count goes down by one."""
    (tmp_path / "values.toml").write_text("x = 0.4\n")
    flags = ("--values", tmp_path / "values.toml", "--step_op", op, "--step_size", size)
    assert 5 - len(compressed(run, tmp_path, residual(), *flags)["x"]) == left


def test_netspresso_feature_maps(run: Run, tmp_path: Path) -> None:
    """PR_NN scores feature maps, of the data that its option is called after."""
    flags = ("--compression_method", "PR_NN", "--dataset_path", IMAGES, "--ratio", 0.3)
    done = run("netspresso", "compress", DIGITS, "-o", tmp_path / "slim.onnx", *flags)
    assert done.code == 0, done.err
    handed = said(done.err)
    assert handed[handed.index("--data") + 1] == str(IMAGES)
    assert handed[handed.index("--criterion") + 1] == "nuclear"


def test_golden_indices(run: Run, tmp_path: Path) -> None:
    (tmp_path / "values.toml").write_text("x = [1, 4]\nG = [0]\n")
    flags = ("--compression_method", "PR_ID", "--values", tmp_path / "values.toml")
    assert compressed(run, tmp_path, residual(), *flags) == {"x": {1, 4}, "G": {0}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"compression_method": "FD_TK"},
            "compression method FD_TK: it splits layers in place of removing channels",
        ),
        ({"compression_method": "PR_SNP"}, "compression method PR_SNP: its score is not public"),
        ({"compression_method": "PR_L1"}, "unknown compression method 'PR_L1'"),
        ({"compression_method": "PR_NN"}, "PR_NN scores feature maps: found no data"),
        ({"compression_method": "PR_ID"}, "PR_ID takes indices by layer"),
        ({"recommendation_method": "VBMF"}, "recommendation method VBMF: VBMF ranks decompositions"),
        ({"reverse": True}, "reverse: what it means is not public"),
    ],
)
def test_netspresso_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(onnxprune.UsageError) as raised:
        netspresso.arguments({"model": "m.onnx", "output": "o", **options})
    assert raised.value.message == message


@pytest.mark.parametrize(("axis", "heads", "width"), [(-1, 12, 32), (1, 12, 32), (-2, 6, 64), (0, 6, 64)])
def test_netspresso_reshape_channel_axis(axis: int, heads: int, width: int, run: Run, tmp_path: Path) -> None:
    """The documentation's example: (B, 768, 197) to (B, 12, 64, 197), half of it removed."""
    net = Net("tokens", 0)
    x = net.node("Conv", net.input("x", 1, 4, 197), net.weight("up", 768, 4, 1), name="up")
    x = net.node("Reshape", x, net.initializer("split", [1, 12, 64, 197], "i8"), name="split")
    weights = net.node("Softmax", net.node("MatMul", net.node("Transpose", x, perm=[0, 1, 3, 2]), x), axis=-1)
    x = net.node("Reshape", net.node("MatMul", x, weights), net.integers(1, 768, 197), name="merge")
    x = net.node("Conv", x, net.weight("down", 4, 768, 1), name="down")
    onnx.save(net.build(x), tmp_path / "tokens.onnx")
    (tmp_path / "values.toml").write_text("up = 0.5\n")
    done = run(
        "netspresso",
        "compress",
        tmp_path / "tokens.onnx",
        "-o",
        tmp_path / "slim.onnx",
        "--values",
        tmp_path / "values.toml",
        "--reshape_channel_axis",
        axis,
        "--compression_method",
        "PR_L2",
    )
    assert done.code == 0, done.err
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "slim.onnx").graph.initializer}
    assert stored["up"].shape[0] == heads * width
    shapes = [array.tolist() for array in stored.values() if array.dtype == np.int64]
    assert sorted(shapes) == sorted([[1, heads, width, 197], [1, heads * width, 197]])


# RKNN ----------------------------------------------------------------------------------------


def test_rknn(run: Run, tmp_path: Path) -> None:
    """The toolkit's demo, 64 -> 48 and 64 -> 47, by the flag of its configuration."""
    layers = "\n".join(
        f"c{k} = Conv<pads=[1,1,1,1]>({x}, W{k}, b{k})\n{y} = Relu(c{k})"
        for k, x, y in [(1, "x", "r1"), (2, "r1", "r2"), (3, "r2", "y")]
    )
    onnx.save(graph(layers, **demo()), tmp_path / "demo.onnx")
    done = run("rknn", tmp_path / "demo.onnx", "-o", tmp_path / "slim.onnx", "--model_pruning")
    assert done.code == 0, done.err
    assert said(done.err)[-2:] == ["--preset", "rknn"]
    assert "model_pruning results: -0.0" in done.out
    shapes = {t.name: tuple(t.dims) for t in onnx.load(tmp_path / "slim.onnx").graph.initializer}
    assert shapes["W1"] == (48, 3, 3, 3)
    assert shapes["W2"] == (47, 48, 1, 1)
    assert shapes["W3"] == (64, 47, 2, 2)
    done = run("rknn", tmp_path / "demo.onnx", "-o", tmp_path / "same.onnx", "--no-model_pruning")
    assert (tmp_path / "same.onnx").read_bytes() == (tmp_path / "demo.onnx").read_bytes()


# Words ---------------------------------------------------------------------------------------


def test_words_of_other_tools_are_those_of_passes() -> None:
    for kind in ("criterion", "normalizer"):
        for theirs, ours in SPELLINGS[kind].items():
            assert lookup(kind, theirs) is lookup(kind, ours)
    scores = np.array([3.0, 4.0])
    np.testing.assert_allclose(lookup("normalizer", "L2")(scores), [1.2, 1.6])
    np.testing.assert_allclose(lookup("normalizer", "l2")(scores), [0.6, 0.8])


@pytest.mark.parametrize(
    "word", ["off", "L2", "tao-l2", "standard-score", "tss_norm", "linear-scaling", "softmax_norm"]
)
def test_words_are_taken_everywhere(word: str, run: Run, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'normalizer = "{word}"\nrounding = "round_up"\n')
    by_flag = run("explain", DIGITS, "stem", "--normalizer", word, "--rounding", "round_up", "--json")
    assert by_flag.code == 0, by_flag.err
    assert run("explain", DIGITS, "stem", "--config", config, "--json").out == by_flag.out
    found = onnxprune.explain(DIGITS, "stem", normalizer=word, rounding="round_up")
    assert json.loads(json.dumps(found.to_dict())) == by_flag.document["groups"]


# What another tool kept ----------------------------------------------------------------------


def test_the_forum_question(run: Run, tmp_path: Path) -> None:
    """TAO keeps other filters than the norms of the first layer say: a coupled one speaks, too."""
    a, b = [4.0, 1, 2, 3], [1.0, 5, 2, 4]
    onnx.save(joined(a, b), tmp_path / "model.onnx")
    done = run(
        "explain", tmp_path / "model.onnx", "left", "--preset", "tao", "--compare-kept", "1,3", "--json"
    )
    assert done.code == 0, done.err
    best = done.document["matches"][0]
    assert (best["score"], best["member"], best["same"], best["others"]) == ("l2", "(2)", 2, [])
    first = next(m for m in done.document["matches"] if (m["score"], m["member"]) == ("l2", "(1)"))
    assert (first["same"], first["others"], first["instead"]) == (1, [1], [0])
    text = run("explain", tmp_path / "model.onnx", "left", "--preset", "tao", "--compare-kept", "0,1").out
    assert "exactly the highest by l2 of all, max, union" in text


def test_another_tools_model(run: Run, tmp_path: Path) -> None:
    dense, slim = tmp_path / "dense.onnx", tmp_path / "slim.onnx"
    dense.write_bytes(DIGITS.read_bytes())
    plan = onnxprune.prune(dense, criterion="l1", policy="union", ratio=0.5).plan
    onnxprune.rewrite(dense, plan).save(slim)
    done = run("explain", dense, "stem", "--compare", slim, "--json", "--ratio", 0.5)
    assert done.code == 0, done.err
    (group,) = [g for g in plan.groups if g.name == done.document["group"]]
    assert tuple(done.document["kept"]) == group.keep
    best = done.document["matches"][0]
    assert (best["score"], best["member"], best["same"]) == ("l1", "all, max, union", len(group.keep))


@pytest.mark.parametrize("given", ["x", "99", "-1"])
def test_impossible_channels(given: str, run: Run) -> None:
    failed = run("explain", DIGITS, "stem", f"--compare-kept={given}")
    assert failed.code == 2
    assert "expected" in failed.err


# Folders -------------------------------------------------------------------------------------


def test_several_models_go_into_a_folder(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.onnx").write_bytes(DIGITS.read_bytes())
    out, plans = tmp_path / "new" / "slim", tmp_path / "plans"
    flags = ("--ratio", 0.5, "--no-verify", "--provider", "cpu")
    done = run("prune", tmp_path / "a.onnx", tmp_path / "b.onnx", "-o", out, "--plan-out", plans, *flags)
    assert done.code == 0, done.err
    assert {p.name for p in out.iterdir()} == {"a.onnx", "b.onnx"}
    assert {p.name for p in plans.iterdir()} == {"a.json", "b.json"}
    assert run("prune", DIGITS, "-o", tmp_path / "one.onnx", *flags).code == 0
    assert (out / "a.onnx").read_bytes() == (tmp_path / "one.onnx").read_bytes()
    assert run("prune", DIGITS, "-o", out, *flags).code == 0
    assert (out / "digits.onnx").read_bytes() == (tmp_path / "one.onnx").read_bytes()


def test_a_folder_of_models(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "models"
    source.mkdir()
    (source / "good.onnx").write_bytes(DIGITS.read_bytes())
    (source / "bad.onnx").write_bytes(b"no model")
    (source / "notes.txt").write_text("no model either")
    done = run("clean", source, "-o", f"{tmp_path}/made/", "--provider", "cpu")
    assert done.code == 2
    assert done.err.startswith(f"error: {source}/bad.onnx: ")
    assert "" not in done.err.splitlines()
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["good.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx", "b.onnx", "-o", "out.onnx"], "found 2 models for 'out.onnx', expected a folder"),
        (["a.onnx", "x/a.onnx", "-o", "out"], "'a.onnx' and 'x/a.onnx' would be one file in 'out'"),
        (["a.onnx", "b.onnx", "-o", "out", "--html", "x.html"], "--html is one file: found 2 models"),
        (["empty", "-o", "out"], "the folder 'empty' holds no .onnx file"),
    ],
)
def test_mistakes_with_folders(
    arguments: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "x"):
        (tmp_path / folder).mkdir()
    failed = run("prune", *arguments)
    assert failed.code == 2
    assert failed.err.startswith(f"error: {message}\n")
