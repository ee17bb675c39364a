"""explain: every number behind a decision, and the way to what blocks a layer."""

from __future__ import annotations

import json
import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from models.build import BUILDERS, Net
from onnxprune.jobs.kept_elsewhere import compare_kept
from onnxprune.reports.explained import Explanation
from onnxprune.reports.explanation import FOLDED, Explanations
from onnxprune.reports.result import Result

from .building import net
from .conftest import DIGITS, ROOT, Run, exact
from .full import in_turn
from .planting import plant
from .test_golden import F, G, X, residual
from .test_group_policies import grouped
from .test_selection import mobile

MOBILENET = (
    Path(os.environ.get("ONNXPRUNE_SHARED", ROOT.parent / "shared"))
    / "models"
    / "derived_mobilenet_v2_fp32.onnx"
)


def only(found: Explanations) -> Explanation:
    (part,) = found
    assert isinstance(part, Explanation)
    return part


def test_the_numbers_of_a_threshold() -> None:
    """NVIDIA TAO's question: stem, depthwise, merged, and where the cut is."""
    found = only(onnxprune.explain(mobile(), "stem", preset="tao", threshold=0.7))
    assert found.layers == ("Conv 'stem' 'stem.weight'", "Conv 'depthwise' 'depthwise.weight'")
    assert found.cut == 0.7
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in mobile().graph.initializer}
    for k, name in enumerate(("stem.weight", "depthwise.weight")):
        norms = np.sqrt((stored[name].astype(np.float64) ** 2).sum((1, 2, 3)))
        np.testing.assert_allclose([c.raw[k] for c in found.channels], norms)
        np.testing.assert_allclose([c.normalized[k] for c in found.channels], norms / norms.max())
    for channel in found.channels:
        assert channel.merged == pytest.approx(max(channel.normalized))
    above = sum(c.merged > 0.7 for c in found.channels)
    kept = -(-max(above, 16) // 8) * 8
    assert found.story == (
        f"stem: 32 channels; {kept} stay",
        "scores: l2, normalizer max, policy union",
        f"threshold 0.7: {above} should stay",
        f"at least 16, in steps of 8: {kept} stay",
        FOLDED,
    )
    assert [c.kept for c in sorted(found.channels, key=lambda c: c.rank or 0)] == [True] * kept + [False] * (
        32 - kept
    )


def test_it_agrees_with_what_prune_does() -> None:
    """For every group of the digits network and several settings."""
    several: tuple[dict[str, Any], ...] = (
        {"ratio": 0.5},
        {"ratio": 0.3, "scope": "global", "granularity": 1},
        {"keep_macs": 0.5},
        {"preset": "netspresso", "normalizer": "lamp", "scope": "global"},
        {"preset": "tao", "threshold": 0.8},
        {"exclude": ["stem"]},
    )
    for settings in several:
        plan = onnxprune.prune(DIGITS, **settings).plan
        for entry in plan.groups:
            if entry.status != "blocked":
                parts = onnxprune.explain(DIGITS, entry.name, **settings)
                part = next(p for p in parts if p.group == entry.name)
                assert tuple(c.index for c in part.channels if c.kept) == entry.keep
                assert part.status == entry.status
                np.testing.assert_allclose([c.merged for c in part.channels], entry.scores, rtol=1e-8)


def test_a_plan_explains_itself() -> None:
    plan = onnxprune.prune(DIGITS, ratio=0.3, criterion="l1", policy="union").plan
    again = onnxprune.Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    found = only(onnxprune.explain(DIGITS, "stage1/first", plan=again))
    assert "scores: l1, normalizer max, policy union" in found.story
    assert tuple(c.index for c in found.channels if c.kept) == plan.groups[1].keep


def test_raw_scores_of_the_published_figure() -> None:
    """The residual block of NetsPresso's pictures: both layers of the Add, by name."""
    found = only(onnxprune.explain(residual(), "x", normalizer="tss", ratio=0.4, granularity=1))
    assert [c.raw for c in found.channels] == list(zip(X, F, strict=True))
    assert [c.index for c in found.channels if not c.kept] == [0, 1]
    alone = only(onnxprune.explain(residual(), "G", normalizer="none", ratio=0.4, granularity=1))
    assert [c.raw for c in alone.channels] == [(v,) for v in G]


def test_why_says_what_overruled_the_target() -> None:
    lost = only(onnxprune.explain(residual(), "G", ratio=0.9, granularity=1, min_channels=3))
    assert {c.why for c in lost.channels if c.kept and (c.rank or 0) > 1} == {"to keep at least 3"}
    rounded = only(onnxprune.explain(mobile(), "stem", ratio=0.3, granularity=8, rounding="up"))
    assert [c.why for c in rounded.channels if c.rank == 24] == ["by rounding to steps of 8"]
    down = only(onnxprune.explain(mobile(), "stem", ratio=0.3, granularity=8, rounding="down"))
    assert [(c.kept, c.why) for c in down.channels if c.rank == 20] == [(False, "by rounding to steps of 8")]


def test_a_normalization_that_may_be_folded_in_is_told() -> None:
    """The file cannot say whether biases come from it, so neither does the sentence."""

    def told(model: onnx.ModelProto, **settings: Any) -> bool:
        (part,) = onnxprune.explain(model, "layer", granularity=1, **settings)
        return any("BatchNormalization" in sentence for sentence in part.story)

    def build(*, bias: bool, normalized: bool) -> onnx.ModelProto:
        net = Net("folded", 0)
        inputs = [net.input("x", 1, 3, 8, 8), net.weight("w", 8, 3, 3, 3)]
        y = net.node("Conv", *inputs, *([net.bias("b", 8)] if bias else []), name="layer")
        if normalized:
            norm = [net.gain("scale", 8), net.bias("shift", 8), net.bias("mean", 8), net.gain("variance", 8)]
            y = net.node("BatchNormalization", y, *norm)
        return net.build(net.node("Conv", net.node("Relu", y), net.weight("v", 4, 8, 1, 1)))

    assert told(build(bias=True, normalized=False))
    assert not told(build(bias=False, normalized=False))
    assert not told(build(bias=True, normalized=True))
    assert not told(build(bias=True, normalized=False), criterion={"w": np.arange(8.0)})
    data = {"x": np.ones((1, 3, 8, 8), np.float32)}
    assert not told(build(bias=True, normalized=False), criterion="activation", data=data)


def test_blocks_are_shown() -> None:
    found = only(onnxprune.explain(grouped(), "first", group_policy="none", granularity=1))
    assert "each of 4 blocks keeps as many, of its own" in found.story
    kept = [c.block for c in found.channels if c.kept]
    assert [kept.count(b) for b in range(4)] == [4, 4, 4, 4]


def test_groups_that_are_left_whole() -> None:
    excluded = only(onnxprune.explain(residual(), "G", exclude=["G"]))
    assert excluded.story[-1] == "excluded by 'G'"
    assert excluded.status == "kept"
    unmeasured = only(onnxprune.explain(residual(), "G", criterion="bn_scale"))
    assert unmeasured.story[-1] == "criterion 'bn_scale' measures none of its layers"
    assert unmeasured.layers == ()
    assert all(math.isnan(c.merged) for c in unmeasured.channels)


# Blocked layers -----------------------------------------------------------------------------------


def blocked() -> onnx.ModelProto:
    """A convolution that reaches the output through two operators and a residual connection."""
    net = Net("blocked", 1)
    x = net.node(
        "Relu",
        net.node("Conv", net.input("x", 1, 3, 4, 4), net.weight("w", 6, 3, 1, 1), name="first"),
        name="relu",
    )
    y = net.node("Add", x, net.node("Conv", x, net.weight("v", 6, 6, 1, 1), name="second"), name="add")
    return net.build(net.node("Identity", net.node("Sigmoid", y, name="gate"), name="last"))


def test_the_way_to_an_output() -> None:
    found = only(onnxprune.explain(blocked(), "first"))
    assert found.status == "blocked"
    assert found.chain == (
        "Conv 'first'",
        "Relu 'relu'",
        "Add 'add'",
        "Sigmoid 'gate'",
        "Identity 'last'",
        "graph output 'last.out'",
    )
    second = only(onnxprune.explain(blocked(), "second"))
    assert second.chain[:2] == ("Conv 'second'", "Add 'add'")


def test_the_way_to_an_operator() -> None:
    net = Net("softmax", 1)
    x = net.node("Conv", net.input("x", 1, 3, 4, 4), net.weight("w", 6, 3, 1, 1), name="first")
    x = net.node("Softmax", net.node("Relu", x, name="relu"), axis=1, name="choose")
    model = net.build(net.node("Conv", x, net.weight("v", 2, 6, 1, 1), name="reader"))
    found = only(onnxprune.explain(model, "first"))
    assert found.chain == ("Conv 'first'", "Relu 'relu'", "Softmax 'choose'")
    assert str(found) == (
        "first: 6 channels; none can go: Softmax 'choose' normalizes along it\n"
        "  Conv 'first' -> Relu 'relu' -> Softmax 'choose'"
    )


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_blocked_group_has_a_way(name: str) -> None:
    """Consecutive nodes share a tensor, and the way ends at what the reason names."""
    traced = onnxprune.trace(BUILDERS[name]())
    nodes = {str(n): n for n in traced.graph.nodes}
    for group in traced.blocked:
        for part in onnxprune.explain(traced, group.name):
            if part.status != "blocked":
                continue
            way = [nodes[step] for step in part.chain if step in nodes]
            assert way
            for one, two in pairwise(way):
                touched = [{*traced.graph.reads(n), *n.outputs} for n in (one, two)]
                assert touched[0] & touched[1]
            reason = part.story[0]
            assert part.chain[-1] in reason or "split" in reason or reason.endswith("no channels")


# Names, files, command line -------------------------------------------------------------------------


def with_dead_channels() -> onnx.ModelProto:
    """A grouped Conv whose inputs 0 and 5 of every block of 8 are zero."""
    model = grouped()
    dead = [8 * block + k for block in range(4) for k in (0, 5)]
    for tensor in model.graph.initializer:
        if tensor.name.startswith("first."):
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[dead] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return model


@pytest.mark.parametrize("policy", ["average", "none"])
def test_what_is_dead_goes_first(policy: str) -> None:
    """prune cleans before it scores, and so does explain; a plan in two stages explains itself."""
    settings: dict[str, Any] = {"ratio": 0.5, "granularity": 1, "group_policy": policy}
    model = with_dead_channels()
    result = onnxprune.prune(model, **settings, verify=True, provider="cpu")
    assert exact(result)
    found = onnxprune.explain(model, "first", **settings)
    assert found.note.startswith("removed ")
    again = onnxprune.explain(model, "first", plan=result.plan)
    for part in (only(found), only(again)):
        kept = [c.index for c in part.channels if c.kept]
        entry = next(g for g in result.plan.groups if g.name == "first")
        assert (part.group, tuple(kept)) == ("first", entry.keep)
        if policy == "none":
            assert sorted(result.plan.constants["first.weight"]["keep"]["0"]) == kept
        assert len(kept) == (12 if policy == "none" else 3)
        gone = [c for c in part.channels if c.rank is None]
        assert [c.index % 8 for c in gone] == [0, 5] * (4 if policy == "none" else 1)
        assert not any(c.kept for c in gone)
        count = len(part.channels)
        assert (
            part.story[0]
            == f"first: {count} channels, {len(gone)} of which the clean-up removed; {len(kept)} stay"
        )
    assert not onnxprune.explain(model, "first", clean=False, **settings).note


def differing(model: Any, result: Result, settings: dict[str, Any]) -> list[str]:
    """Groups of which explain says other channels, or of other numbers, than the plan; and what is not said."""
    again = onnxprune.Plan.from_dict(json.loads(json.dumps(result.plan.to_dict())))
    wrong = []
    for settled in (settings, {"plan": again}):
        parts = {part.group: part for part in onnxprune.explain(model, "*", **settled)}
        assert parts.keys() == {entry.name for entry in result.plan.groups}
        for entry in result.plan.groups:
            part = parts[entry.name]
            if entry.status == "blocked":
                continue
            if tuple(c.index for c in part.channels if c.kept) != entry.keep:
                wrong.append(f"{entry.name}: kept")
            if [c.index for c in part.channels] != list(range(entry.channels)):
                wrong.append(f"{entry.name}: numbers")
            if part.status != entry.status or not all(c.why for c in part.channels):
                wrong.append(f"{entry.name}: why")
    return wrong


VARIANTS: tuple[dict[str, Any], ...] = (
    {"ratio": 0.5, "granularity": 1},
    {"preset": "tao", "threshold": 0.6},
    {"ratio": 0.3, "granularity": 1, "scope": "global", "group_policy": "none"},
    {"ratio": 0.3, "granularity": 1, "reshape_channel_axis": "both", "norm": "pin"},
)


@pytest.mark.parametrize(("name", "settings"), in_turn(sorted(BUILDERS), VARIANTS, step=2))
def test_channels_have_the_numbers_of_the_file(name: str, settings: dict[str, Any]) -> None:
    """In explain and in the plan, group by group and tensor by tensor, whatever the clean-up removed
    before, with settings under which units are others; and the plan can be replayed."""
    model = BUILDERS[name]()
    traced = onnxprune.trace(model, norm="pin")
    if traced.groups:
        model, _ = plant(traced, 3)
    result = onnxprune.prune(model, **settings)
    assert not differing(model, result, settings)
    whole = onnxprune.trace(model, **result.plan.trace_options)
    sizes = {g.name: (len(g), g.members) for g in (*whole.groups, *whole.blocked)}
    assert {g.name: (g.channels, g.members) for g in result.plan.groups if g.name in sizes} == sizes
    assert len({g.name for g in result.plan.groups}) == len(result.plan.groups)
    alone = [g for g in result.plan.groups if g.name not in sizes]
    assert not alone or name == "separate_attention", "one of two heads was cleaned"
    for entry in alone:
        tensor, axis = entry.members[0]
        assert result.plan.constants[tensor]["keep"][str(axis)] == list(entry.keep)
    again = onnxprune.Plan.from_dict(json.loads(json.dumps(result.plan.to_dict())))
    assert onnxprune.rewrite(model, again).proto == result.model.proto
    assert onnxprune.verify(model, result.model, plan=again, provider="cpu").exact


@pytest.mark.skipif(not MOBILENET.is_file(), reason="the shared networks are not beside the repository")
def test_the_numbers_of_mobilenet() -> None:
    """Folded BatchNormalization leaves channels that are constant: the question of a TAO user."""
    settings: Any = {"preset": "tao", "threshold": 0.68, "granularity": 1}
    result = onnxprune.prune(MOBILENET, **settings)
    assert result.log is not None
    assert sum(result.log.removed.values()) == 13
    assert not differing(MOBILENET, result, settings)


def test_plans_that_no_score_made() -> None:
    plan = onnxprune.clean(with_dead_channels()).plan
    with pytest.raises(onnxprune.UsageError, match="it is a clean-up"):
        onnxprune.explain(with_dead_channels(), "first", plan=plan)
    own = onnxprune.prune(DIGITS, criterion=lambda layer: layer.weight.max(axis=1)).plan
    with pytest.raises(onnxprune.UsageError, match="its criterion '<lambda>' has no registered name"):
        onnxprune.explain(DIGITS, "stem", plan=own)


def test_an_unknown_layer() -> None:
    with pytest.raises(onnxprune.UsageError, match=r"unknown layer 'stm'"):
        onnxprune.explain(DIGITS, "stm")


def test_a_model_without_layers(run: Run, tmp_path: Path) -> None:
    """All of its layers are none: that is no mistake of who asks."""
    model = net("y = Relu(x)", inputs="float[1,4] x")()
    found = onnxprune.explain(model, "*")
    assert not found.parts
    assert str(found) == "nothing to explain: no layer was found that makes channels with stored weights"
    assert onnxprune.prune(model, exclude=["*"], ratio=0.5).plan.groups == ()
    with pytest.raises(onnxprune.UsageError, match=r"unknown layer 'head'\nThere is no layer."):
        onnxprune.explain(model, "head")
    with pytest.raises(onnxprune.UsageError, match="no scores to draw: no layer was found"):
        found.plot(tmp_path / "a.png")
    with pytest.raises(onnxprune.UsageError, match=r"'\*' names no group: no layer was found"):
        compare_kept(model, "*", [1])
    onnx.save(model, tmp_path / "a.onnx")
    outcome = run("explain", tmp_path / "a.onnx", "*")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{found}\n", "")


def test_a_pattern_may_name_several() -> None:
    assert {part.group for part in onnxprune.explain(DIGITS, "stage*")} >= {
        "/stage1/first/conv/Conv",
        "/stage2/first/conv/Conv",
    }


def test_readers_are_those_of_the_input_file() -> None:
    """Offsets, too, where a clean-up moved them: two of the channels in front are dead."""
    net = Net("joined", 1)
    x = net.input("x", 2, 3, 4, 4)
    dead = net.random.normal(size=(8, 3, 1, 1)) * (np.arange(8) >= 2)[:, None, None, None]
    first = net.node("Conv", x, net.initializer("w", dead), name="first")
    second = net.node("Conv", x, net.weight("v", 8, 3, 1, 1), name="second")
    joined = net.node("Concat", first, second, axis=1, name="join")
    model = net.build(net.conv("last", joined, 16, 4, 1))
    assert onnxprune.explain(model, "second", granularity=1).note.startswith("removed 2 of")
    found = only(onnxprune.explain(model, "second", granularity=1))
    assert found.readers is not None
    (consumer,) = found.readers.consumers
    assert (consumer.offset, consumer.entries) == (8, 8)
    document = found.to_dict()
    assert [one["offset"] for one in document["consumers"]] == [8]
    assert document["passes"] == ["join"]


def test_a_trace_explains() -> None:
    traced = onnxprune.trace(DIGITS)
    found = only(onnxprune.explain(traced, "stage1/first", criterion="l1", ratio=0.25))
    assert sum(c.kept for c in found.channels) == 24


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plots(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    found = onnxprune.explain(mobile(), "stem", preset="tao", threshold=0.7)
    for name in ("a", "b"):
        found.plot(tmp_path / f"{name}.{ending}")
    data = (tmp_path / f"a.{ending}").read_bytes()
    assert data == (tmp_path / f"b.{ending}").read_bytes()
    assert data.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        assert data.count(b"<path") > 32


def test_plots_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = onnxprune.explain(mobile(), "stem")
    pytest.importorskip("matplotlib")
    with pytest.raises(onnxprune.UsageError, match=r"found ending '.pdf', expected .png or .svg"):
        found.plot(tmp_path / "a.pdf")
    with pytest.raises(onnxprune.UsageError, match="there are no scores to draw"):
        onnxprune.explain(blocked(), "first").plot(tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(onnxprune.errors.InstallationError, match=r"pip install 'onnxprune\[plot\]'"):
        found.plot(tmp_path / "a.png")


def test_the_command(run: Run, tmp_path: Path) -> None:
    outcome = run("explain", DIGITS, "stage1/first", "--threshold", 0.75, "--policy", "union")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("/stage1/first/conv/Conv: 32 channels; ")
    assert lines[2].startswith("threshold 0.75: ")
    assert lines[4:6] == [
        "read by Conv '/stage1/second/conv/Conv' (axis 1, 0 to 31); a channel takes 288 numbers",
        "passed on by 1 BatchNormalization, 1 Relu",
    ]
    assert lines[7].split() == ["rank", "channel", "raw(1)", "norm(1)", "merged", "kept", "why"]
    assert len(lines) == 8 + 32
    document = run("explain", DIGITS, "head", "--json").document
    (group,) = document["groups"]
    assert group["status"] == "blocked"
    assert group["chain"] == ["Gemm '/head/Gemm'", "graph output 'logits'"]


def test_the_command_replays_and_draws(run: Run, prune: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan, picture = tmp_path / "plan.json", tmp_path / "scores.svg"
    assert prune("--preset", "tao", "--threshold", 0.8, "--plan-out", plan).code == 0
    outcome = run("explain", DIGITS, "stem/conv", "--plan", plan, "--plot", picture, "--json")
    assert outcome.code == 0
    assert picture.is_file()
    entry = json.loads(plan.read_text())["groups"][0]
    assert [c["index"] for c in outcome.document["groups"][0]["channels"] if c["kept"]] == entry["keep"]
    refused = run("explain", DIGITS, "stem", "--plan", plan, "--ratio", 0.5)
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: --ratio has no effect with --plan")


def test_settings_from_a_file_and_the_command_line(run: Run, prune: Run, tmp_path: Path) -> None:
    """Preset under file under flags; a target on the command line replaces that of the file."""
    path = tmp_path / "settings.toml"
    path.write_text(
        'preset = "tao"\ngranularity = 4\nno-verify = true\nexclude = ["stem"]\n[ratio]\n"*" = 0.25\n'
    )
    document = prune("--config", path, "--json", "--min-channels", 6).document
    wanted = {
        "granularity": 4,
        "ratio": {"*": 0.25},
        "min_channels": 6,
        "policy": "union",
        "exclude": ["stem"],
    }
    assert wanted.items() <= document["options"].items()
    document = prune("--config", path, "--json", "--keep-macs", 0.5).document
    assert document["options"]["keep_macs"] == 0.5
    assert "ratio" not in document["options"]
    path.write_text("granularty = 4")
    refused = prune("--config", path)
    assert refused.code == 2
    assert (
        refused.err == f"error: unknown setting of '{path}' 'granularty'\nhint: Did you mean 'granularity'?\n"
    )
    path.write_text('exclude = "stem"')
    assert prune("--config", path).err == "error: exclude: found 'stem', expected a list\n"


def test_ratios_and_indices_from_files(prune: Run, tmp_path: Path) -> None:
    ratios, gone = tmp_path / "ratios.toml", tmp_path / "gone.toml"
    ratios.write_text('"stage1/first" = 0.25\n')
    counts = {g["name"]: g["kept"] for g in prune("--ratio", ratios, "--json").document["groups"]}
    assert counts["/stage1/first/conv/Conv"] == 24
    gone.write_text('"stem/conv" = [0, 5]\n')
    document = prune("--remove", gone, "--json").document
    assert document["groups"][0]["kept"] == 30


def test_an_impossible_budget_is_exit_1(prune: Run, tmp_path: Path) -> None:
    outcome = prune("--keep-params", 0.001)
    assert outcome.code == 1
    assert outcome.err.startswith("error: keep-params 0.001 cannot be met: found 0.")
    assert not (tmp_path / "slim.onnx").exists()


def test_notes_are_told(run: Run, tmp_path: Path) -> None:
    from .test_group_policies import shared_scale

    onnx.save(shared_scale(2), tmp_path / "m.onnx")
    flags = ("--group-policy", "none", "--reshape-channel-axis", "-1", "--provider", "cpu")
    outcome = run("prune", tmp_path / "m.onnx", "-o", tmp_path / "s.onnx", *flags)
    assert outcome.code == 0
    assert "every block keeps the same inner channels, because all blocks share 'scale'" in outcome.err
