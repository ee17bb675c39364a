"""Selection: targets, names, settings, presets, configuration files; TAO's run on a small network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from models.build import BUILDERS, Net
from onnxprune import BudgetError, UsageError
from onnxprune.coupling.trace import Trace, trace
from onnxprune.selection.config import read_config
from onnxprune.selection.cost import macs, parameters
from onnxprune.selection.rounding import Rounding
from onnxprune.selection.settings import PRESETS, Settings, merge
from onnxprune.surgery.surgeon import rewrite_trace

from .building import between
from .cases import CASES
from .conftest import DIGITS, ROOT, exact

MODELS = Path(os.environ.get("ONNXPRUNE_MODELS", ROOT.parent / "shared" / "models"))
REAL = ("derived_mobilenet_v2_fp32", "mlperf_resnet8", "yolox_nano", "cifar10_vit_ibp_3_3_8", "kws_dscnn_l")
TARGETS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def kept(result: onnxprune.Result) -> dict[str, int]:
    return {g.name: len(g.keep) for g in result.plan.groups if g.status != "blocked"}


# NVIDIA TAO on a network like MobileNetV2 -------------------------------------------------------


def mobile(stem: int = 32) -> onnx.ModelProto:
    """A stem, a depthwise and a pointwise convolution, an inverted residual with an Add."""
    net = Net("mobile", 11)
    x = net.input("x", 1, 3, 16, 16)

    def conv(name: str, source: str, out: int, size: int, kernel: int = 1, group: int = 1) -> str:
        w = net.weight(f"{name}.weight", out, size // group, kernel, kernel)
        pads = [kernel // 2] * 4
        return net.node("Conv", source, w, net.bias(f"{name}.bias", out), name=name, group=group, pads=pads)

    x = net.node("Clip", conv("stem", x, stem, 3, 3), net.scalar(0), net.scalar(6))
    x = net.node("Clip", conv("depthwise", x, stem, stem, 3, stem), net.scalar(0), net.scalar(6))
    x = conv("point", x, 24, stem)
    y = net.node("Relu", conv("expand", x, 96, 24))
    y = net.node("Relu", conv("deep", y, 96, 96, 3, 96))
    x = net.node("Add", x, conv("project", y, 24, 96), name="add")
    return net.build(conv("head", x, 10, 24))


def tao_keep(stat: np.ndarray, threshold: float, granularity: int, least: int) -> list[int]:
    """NVIDIA TAO's counting, written down from its source; ties keep the lowest index."""
    n = len(stat)
    k = max(int((stat > threshold).sum()), min(least, n))
    k = min(-(-k // granularity) * granularity, n)
    return sorted(np.argsort(-stat, kind="stable")[:k].tolist())


@pytest.mark.parametrize("policy", ["union", "intersection", "arithmetic_mean", "geometric_mean"])
@pytest.mark.parametrize("threshold", [0.3, 0.55, 0.68, 0.9, 2.0])
def test_tao_keeps_the_best_of_the_merged_statistic(threshold: float, policy: str) -> None:
    """The stem keeps what stem and depthwise together say, not what the stem alone would."""
    model = mobile()
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    merge_of: Any = {
        "union": np.max,
        "intersection": np.min,
        "arithmetic_mean": np.mean,
        "geometric_mean": lambda s, axis: np.exp(np.log(s).mean(axis)),
    }[policy]
    result = onnxprune.prune(
        model, preset="tao", threshold=threshold, policy=policy, verify=True, provider="cpu"
    )
    found = {g.name: list(g.keep) for g in result.plan.groups}
    for group, members in {
        "stem": ["stem", "depthwise"],
        "point": ["point", "project"],
        "expand": ["expand", "deep"],
    }.items():
        norms = [
            np.sqrt(
                (stored[f"{m}.weight"].astype(np.float64) ** 2).reshape(len(stored[f"{m}.weight"]), -1).sum(1)
            )
            for m in members
        ]
        stats = np.stack([n / n.max() for n in norms])
        assert found[group] == tao_keep(np.asarray(merge_of(stats, axis=0)), threshold, 8, 16)
    assert exact(result)


def test_the_stem_alone_would_decide_otherwise() -> None:
    """Or the test above would show nothing."""
    traced = trace(mobile())
    (scores,) = [s for s in onnxprune.score(traced, policy="union").values() if s.group.name == "stem"]
    alone = tao_keep(scores.layers[0].normalized, 0.9, 8, 16)
    assert alone != tao_keep(scores.merged, 0.9, 8, 16)


# Targets ----------------------------------------------------------------------------------------


def share(traced: Trace, plan: onnxprune.Plan, name: str) -> float:
    """What is left of the MACs, of the parameters, or of the file as it is written."""
    full, slim = traced.sizes(), traced.sizes(plan.removed(traced))
    if name == "keep_macs":
        return macs(traced, slim) / macs(traced, full)
    if name == "keep_params":
        return parameters(traced, slim) / parameters(traced, full)
    written = rewrite_trace(traced, plan.removed(traced))
    return len(written.proto.SerializeToString()) / len(traced.model.proto.SerializeToString())


def check_budget(traced: Trace, name: str, target: float, **flags: object) -> float:
    """Reach a target or be told the nearest; never above, and within one granule."""
    scores = onnxprune.score(traced)
    try:
        plan = onnxprune.select(traced, scores, **{name: target}, **flags)  # type: ignore[arg-type]
    except BudgetError as error:
        nearest = float(error.hint.split()[2])
        assert nearest > target
        plan = onnxprune.select(traced, scores, **{name: nearest}, **flags)  # type: ignore[arg-type]
        target = nearest
    reached = share(traced, plan, name)
    assert reached <= target
    assert not closer(traced, plan, name, target, **flags), "one granule less would do, too"
    return reached


def closer(traced: Trace, plan: onnxprune.Plan, name: str, target: float, **flags: object) -> bool:
    """Whether any granule of any group could be given back without exceeding the target."""
    granules = plan.options.get("granules", {})
    counting = Rounding(int(flags.get("granularity", 1)), granules=granules)  # type: ignore[call-overload]
    fits = []
    for number, entry in enumerate(plan.groups):
        group = next((g for g in traced if g.name == entry.name), None)
        if group is None or len(entry.keep) == len(group):
            continue
        scores = np.array(entry.scores)
        more = min(len(group), len(entry.keep) + counting.step(group))
        order = np.lexsort((np.arange(len(group)), -scores))[:more]
        data = plan.to_dict()
        data["groups"][number]["keep"] = sorted(order.tolist())
        fits.append(share(traced, onnxprune.Plan.from_dict(data), name) <= target)
    return any(fits)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", ["keep_macs", "keep_params", "keep_size"])
@pytest.mark.parametrize("builder", ["inverted_residual", "inception", "transformer", "grouped", "unet"])
def test_budgets_of_small_networks(builder: str, name: str, scope: str) -> None:
    traced = trace(BUILDERS[builder]())
    for target in (0.8, 0.5, 0.3):
        check_budget(traced, name, target, granularity=2, scope=scope)


@pytest.mark.parametrize("name", ["keep_macs", "keep_params", "keep_size"])
def test_budgets_of_a_trained_network(name: str) -> None:
    traced = trace(DIGITS)
    found = [check_budget(traced, name, target) for target in TARGETS]
    assert found == sorted(found, reverse=True)


@pytest.mark.skipif(not MODELS.is_dir(), reason="no folder of real models (ONNXPRUNE_MODELS)")
@pytest.mark.parametrize("model", REAL)
def test_budgets_of_real_networks(model: str) -> None:
    traced = trace(MODELS / f"{model}.onnx")
    scores = onnxprune.score(traced)
    for name in ("keep_macs", "keep_params", "keep_size"):
        for target in (0.8, 0.4):
            try:
                plan = onnxprune.select(traced, scores, granularity=2, **{name: target})  # type: ignore[arg-type]
            except BudgetError:
                continue
            assert target - 0.02 < share(traced, plan, name) <= target


def test_budgets_are_combined() -> None:
    traced = trace(DIGITS)
    plan = onnxprune.select(traced, onnxprune.score(traced), keep_macs=0.6, keep_params=0.5)
    assert share(traced, plan, "keep_macs") <= 0.6
    assert share(traced, plan, "keep_params") <= 0.5


def test_a_budget_that_is_met_already_removes_nothing() -> None:
    result = onnxprune.prune(DIGITS, keep_macs=1.0)
    assert all(g.status != "pruned" for g in result.plan.groups)


def test_an_impossible_budget_names_the_nearest() -> None:
    traced = trace(DIGITS)
    with pytest.raises(BudgetError) as caught:
        onnxprune.select(traced, onnxprune.score(traced), keep_macs=0.001)
    assert caught.value.exit_code == 1
    nearest = float(caught.value.hint.split()[2])
    assert caught.value.message == f"keep-macs 0.001 cannot be met: found {nearest:g} at the least"
    plan = onnxprune.select(traced, onnxprune.score(traced), keep_macs=nearest)
    assert 0 <= nearest - share(traced, plan, "keep_macs") < 1e-4


def test_a_global_ratio_prunes_where_scores_are_low() -> None:
    traced = trace(DIGITS)
    scores = onnxprune.score(traced)
    plan = onnxprune.select(traced, scores, ratio=0.5, scope="global", granularity=1)
    pooled = np.concatenate([s.merged for s in scores.values()])
    gone = np.concatenate([np.delete(g.scores, g.keep) for g in plan.groups if g.status == "pruned"])
    assert len(gone) == traced.units // 2
    np.testing.assert_allclose(np.sort(gone), np.sort(pooled)[: len(gone)], rtol=1e-6)


# Names ------------------------------------------------------------------------------------------


def test_include_and_exclude() -> None:
    included = onnxprune.prune(DIGITS, include=["stage1", "stem/conv"], exclude=["stem"])
    status = {g.name: (g.status, g.reason) for g in included.plan.groups}
    assert status["/stage1/first/conv/Conv"][0] == "pruned"
    assert status["/stem/conv/Conv"] == ("kept", "excluded by 'stem'")
    assert status["/stage2/first/conv/Conv"] == ("kept", "not included")


def test_ratios_by_layer() -> None:
    ratios = {"stage1/first": 0.25, "stem.conv.weight": 0.5}
    result = onnxprune.prune(DIGITS, ratio=ratios, granularity=1)
    counts = kept(result)
    assert counts["/stage1/first/conv/Conv"] == 24
    assert counts["/stage2/first/conv/Conv"] == 64
    assert counts["/stem/conv/Conv"] == 16


def test_the_name_of_a_group_comes_before_a_pattern() -> None:
    exact = onnxprune.prune(DIGITS, ratio={"*": 0.5, "/stage1/first/conv/Conv": 0.25}, granularity=1)
    assert kept(exact)["/stage1/first/conv/Conv"] == 24
    assert kept(exact)["/stem/conv/Conv"] == 16


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"ratio": 1},
            "ratio: found 1, expected 0 <= ratio < 1\nIt is the fraction of channels removed, such as 0.5.",
        ),
        (
            {"ratio": {"stem": 1.5}},
            "ratio: found {'stem': 1.5}, expected 0 <= ratio < 1\nIt is the fraction of channels removed, such as 0.5.",
        ),
        ({"ratio": {"stm": 0.5}}, "unknown layer 'stm'"),
        (
            {"ratio": {"*": 0.5, "stem": 0.25}},
            "ratio: found 0.5 by '*' and 0.25 by 'stem' for group '/stem/conv/Conv', expected one value for coupled layers",
        ),
        (
            {"ratio": 0.5, "threshold": 0.1},
            "found both ratio and threshold, expected one of them\nEach says how much goes.",
        ),
        ({"keep_macs": 0}, "keep-macs: found 0, expected a share above 0, at most 1"),
        ({"keep_size": 1.5}, "keep-size: found 1.5, expected a share above 0, at most 1"),
        ({"granularity": 2.5}, "granularity: found 2.5, expected an integer"),
        ({"min_channels": 0}, "min-channels: found 0, expected at least 1"),
        ({"min_share": -1}, "min-share: found -1, expected a share from 0 to 1"),
        ({"rounding": "upp"}, "unknown rounding 'upp'\nDid you mean 'up'?"),
        ({"scope": "globl"}, "unknown scope 'globl'\nDid you mean 'global'?"),
        ({"group_policy": "nune"}, "unknown group-policy 'nune'\nDid you mean 'none'?"),
        ({"policy": "unoin"}, "unknown policy 'unoin'\nDid you mean 'union'?"),
        ({"normalizer": "tao-l3"}, "unknown normalizer 'tao-l3'\nDid you mean 'tao_l2'?"),
        ({"criterion": "fgpm"}, "unknown criterion 'fgpm'\nDid you mean 'fpgm'?"),
        ({"preset": "toa"}, "unknown preset 'toa'\nDid you mean 'tao'?"),
        ({"threshold": float("nan")}, "threshold: found nan, expected a number"),
        ({"granulariy": 2}, "unknown setting 'granulariy'\nDid you mean 'granularity'?"),
        ({"exclude": "stem"}, "exclude: found stem, expected a list of patterns"),
        ({"remove": {"stem": [40]}}, "remove 'stem': found index 40, expected 0 to 31"),
        (
            {"remove": {"stem": range(32)}},
            "remove: found all 32 channels of group '/stem/conv/Conv', expected at most 31",
        ),
        ({"remove": {"head": [1]}}, "remove 'head': channel 1 cannot go: graph output 'logits'"),
        (
            {"remove": {"stem": [1]}, "exclude": ["stem"]},
            "remove: group '/stem/conv/Conv' is excluded by 'stem'",
        ),
        (
            {"remove": {"stem": "1"}},
            "remove: found {'stem': '1'}, expected lists of channel indices by layer",
        ),
    ],
)
def test_errors(settings: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        onnxprune.prune(DIGITS, **settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)


def test_channels_of_one_unit_go_together() -> None:
    """A head of attention cannot lose one of its dimensions by index."""
    traced = trace(BUILDERS["transformer"]())
    group = next(g for g in traced if g.width > 1)
    layer = group.kernels[0].node.name
    with pytest.raises(UsageError, match=r"remove '.*': channel \d+ is coupled with one that is named"):
        onnxprune.select(traced, onnxprune.score(traced), remove={layer: [0]})


# Presets and files --------------------------------------------------------------------------------


def test_presets_hold_known_settings_only() -> None:
    for preset in PRESETS.values():
        assert set(preset) <= set(Settings.__annotations__)
        merge(None, {}, preset)


def test_a_target_replaces_that_of_a_preset() -> None:
    assert onnxprune.prune(DIGITS, preset="tao").plan.options["threshold"] == 0.1
    options = onnxprune.prune(DIGITS, preset="tao", ratio=0.25).plan.options
    assert options["ratio"] == 0.25
    assert "threshold" not in options
    assert options["rounding"] == "up"


def test_rknn_removes_only_what_contributes_nothing() -> None:
    result = onnxprune.prune(DIGITS, preset="rknn")
    assert result.after.parameters == result.before.parameters
    planted = onnx.load(DIGITS)
    for tensor in planted.graph.initializer:
        if tensor.name in ("stage1.first.conv.weight", "stage1.first.norm.bias"):
            array = numpy_helper.to_array(tensor).copy()
            array[5] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        elif tensor.name == "stage1.first.norm.running_mean":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(32, np.float32), tensor.name))
    kept = {g.name: len(g.keep) for g in onnxprune.prune(planted, preset="rknn").plan.groups}
    assert kept["/stage1/first/conv/Conv"] == 31
    assert sum(kept.values()) == 416 + 10 - 1


def test_netspresso_defaults() -> None:
    options = onnxprune.prune(DIGITS, preset="netspresso").plan.options
    wanted = {
        "normalizer": "standard_score", "policy": "average", "group_policy": "average",
        "reshape_channel_axis": -1, "granularity": 2, "rounding": "nearest", "ratio": 0.5,
    }  # fmt: skip
    assert wanted.items() <= options.items()


def test_a_configuration_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        'preset = "tao"\ngranularity = 4\nmin-channels = 6\nexclude = ["stage2"]\n\n[ratio]\n"*" = 0.5\n'
    )
    result = onnxprune.prune(DIGITS, config=path, min_channels=10)
    wanted = {
        "policy": "union",
        "granularity": 4,
        "min_channels": 10,
        "exclude": ["stage2"],
        "ratio": {"*": 0.5},
    }
    assert wanted.items() <= result.plan.options.items()
    assert kept(result)["/stage2/first/conv/Conv"] == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("granularty = 4", "unknown setting of '{}' 'granularty'\nDid you mean 'granularity'?"),
        ("granularity = 0", "granularity: found 0, expected at least 1"),
        ('granularity = "8"', "granularity: found 8, expected a number, or auto"),
        ("granularity = ", "cannot read '{}': Invalid value (at end of document)\nExpected a TOML file."),
        ('preset = "netspreso"', "unknown preset 'netspreso'\nDid you mean 'netspresso'?"),
    ],
)
def test_a_wrong_configuration_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        onnxprune.prune(DIGITS, config=path)
    assert str(caught.value) == message.format(path)


def test_a_missing_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        read_config(tmp_path / "none.toml", ["ratio"])


def test_plans_record_every_setting_and_replay(tmp_path: Path) -> None:
    result = onnxprune.prune(
        BUILDERS["grouped"](),
        group_policy="none",
        threshold=0.6,
        policy="union",
        granularity=4,
        scope="layer",
    )
    result.plan.save(tmp_path / "plan.json")
    again = onnxprune.prune(BUILDERS["grouped"](), plan=onnxprune.Plan.load(tmp_path / "plan.json"))
    assert again.model.proto == result.model.proto


def test_budget_that_only_a_larger_file_meets_is_none_that_is_met() -> None:
    """The network computes a shape, which surgery has to scale: more bytes than a few weights."""
    (model,) = (case.build() for case in CASES if str(case) == "ConstantOfShape-initial_state")
    assert onnxprune.prune(model, ratio=0.5, granularity=1).model.nbytes() == model.ByteSize()
    with pytest.raises(
        BudgetError, match=r"^keep-macs 0\.\d+ cannot be met, because the file would become \d+ bytes larger"
    ):
        onnxprune.prune(model, keep_macs=0.5, granularity=1)


@pytest.mark.parametrize(
    "settings", [{"ratio": {"first": 0.5}}, {"include": ["first"]}, {"exclude": ["first"]}]
)
def test_what_the_clean_up_leaves_nothing_of_may_be_named(settings: dict[str, Any]) -> None:
    """Names are those of the file: 'inspect' shows them, and a file of ratios holds them."""
    weight = np.zeros((8, 3, 3, 3), np.float32)
    weight[2] = 1
    build = between("r = Relu (h)", W1=weight, B1=np.zeros(8, np.float32))
    assert [group.name for group in onnxprune.trace(build())] == ["first"]
    plan = onnxprune.prune(build(), granularity=1, **settings).plan
    assert next(len(group.keep) for group in plan.groups if group.name == "first") == 1
    with pytest.raises(onnxprune.UsageError, match="unknown layer 'frst'\nDid you mean 'first'"):
        onnxprune.prune(build(), granularity=1, ratio={"frst": 0.5})
