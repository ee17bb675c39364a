"""Criteria of what consumers read, refits, prices of groups, and what allocation makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from models.build import BUILDERS, Net
from onnxprune.data.dataset import open_data
from onnxprune.moments.consumers import Reading
from onnxprune.moments.held import Held
from onnxprune.moments.ranking import Ranked, rank
from onnxprune.moments.reads import Read, reads_of
from onnxprune.moments.removal import Removal, refit
from onnxprune.moments.second import Means, MomentSums
from onnxprune.moments.segment import Parts
from onnxprune.recovery.allocation import expected, probe
from onnxprune.recovery.harm import OriginalOutputs
from onnxprune.scoring.registry import lookup
from onnxprune.scoring.table import GroupScore, ScoreTable
from onnxprune.selection.budget import _slopes
from onnxprune.selection.cost import macs
from onnxprune.selection.recovered import Recovery

from .conftest import DIGITS, Run
from .full import sampled

CALIBRATION = DIGITS.parent / "digits_train.npz"


def read(name: str) -> tuple[Read, Read]:
    """Two consumers of 12 channels with random weights and correlated inputs: 3x3 and 1x1."""
    rng = np.random.default_rng(0)
    traced = onnxprune.trace(BUILDERS["residual"]())
    (consumer, *_) = Reading(traced).of(traced[0]).layers
    layer = consumer.layer
    assert layer is not None
    found = []
    for entries, outputs in ((9, 7), (1, 5)):
        width = 12 * entries
        rows = rng.standard_normal((4000, 1, width)) @ rng.standard_normal((width, width)) + 2
        sums = MomentSums()
        sums.add(rows.astype(np.float32))
        columns = np.repeat(np.arange(12), entries)[None]
        matrix = rng.standard_normal((1, outputs, width))
        found.append(Read(consumer, layer, matrix, columns, sums.moments()))
    return found[0], found[1]


def error(found: Read, gone: Any) -> float:
    """What the best weights without some channels lose, relative to the variance of each output."""
    scale = np.linalg.norm(found.scaled, axis=2) / np.linalg.norm(found.matrix, axis=2)
    gap = (found.matrix - refit(found, gone).matrix) * scale[:, :, None]
    return float(np.einsum("goi,gij,goj->", gap, found.second, gap))


def test_costs_are_what_the_best_weights_lose() -> None:
    """They add up: what the first channels cost one by one is what all of them cost together."""
    reads = read("")
    removal = lookup("criterion", "reconstruction")(reads, 12)
    np.testing.assert_array_equal(np.sort(removal.order), np.arange(12))
    for count in range(1, 10):
        together = sum(error(r, removal.order[:count]) for r in reads)
        assert removal.costs[:count].sum() == pytest.approx(together, rel=1e-6)
    alone = [sum(error(r, np.array([c])) for r in reads) for c in range(12)]
    assert removal.order[0] == np.argmin(alone)


def test_a_refit_is_least_squares_on_the_columns_that_stay() -> None:
    found, _ = read("")
    gone = np.array([2, 5, 11])
    kept = np.flatnonzero(~np.isin(found.columns[0], gone))
    root = np.linalg.cholesky(found.second[0]).T
    expected = np.linalg.lstsq(root[:, kept], root @ found.matrix[0].T, rcond=None)[0].T
    new = refit(found, gone)
    np.testing.assert_allclose(new.matrix[0][:, kept], expected, rtol=1e-6, atol=1e-8)
    assert not np.delete(new.matrix[0], kept, axis=1).any()
    mean = found.moments.mean[0]
    np.testing.assert_allclose(new.matrix[0] @ mean + new.offset[0], found.matrix[0] @ mean)


def test_wanda_is_squared_weights_times_second_moments() -> None:
    reads = read("")
    removal = lookup("criterion", "wanda")(reads, 12)
    expected = np.zeros(12)
    for found in reads:
        lost = (np.square(found.scaled[0]) * np.diag(found.moments.second[0])).sum(axis=0)
        expected += lost.reshape(12, -1).sum(axis=1)
    np.testing.assert_allclose(removal.costs, np.sort(expected))
    np.testing.assert_array_equal(removal.order, np.argsort(expected))


def test_scores_sort_as_the_order_does() -> None:
    removal = Removal(np.array([2, 0, 3, 1]), np.array([1.0, 0.5, 0.5, 2.0]))
    np.testing.assert_array_equal(np.argsort(removal.scores), removal.order)
    np.testing.assert_allclose(removal.scores, [1, 2, 1, 1], rtol=1e-6)


def test_a_cheap_step_behind_a_dear_one_pays_for_both() -> None:
    costs = np.cumsum([1.0, 1.0, 9.0, 1.0, 1.0, 30.0])
    found = _slopes(costs, np.array([1, 2, 3, 4, 5, 6]) * 0.5)
    np.testing.assert_allclose(found, np.array([1, 1, 11 / 3, 11 / 3, 11 / 3, 30]) / 0.5, rtol=1e-6)
    np.testing.assert_allclose(_slopes(costs[1::2], np.array([2.0, 4.0, 6.0])), [1, 5, 15.5], rtol=1e-6)


def test_a_step_that_saves_pays_for_those_before_it_that_save_nothing() -> None:
    prices = _slopes(np.array([1.0, 2.0, 3.0, 5.0, 6.0]), np.array([0.0, 0.0, 0.5, 0.5, 0.6]))
    np.testing.assert_allclose(prices, [6, 6, 6, 30, 30], rtol=1e-6)


@pytest.mark.parametrize("name", sampled([n for n in BUILDERS if n != "residual"], lambda k, _: k % 3 == 0))
def test_every_network_is_ranked_or_says_why_not(name: str) -> None:
    traced = onnxprune.trace(BUILDERS[name]())
    made = open_data(traced, None, samples=4)
    table = onnxprune.score(traced, criterion="reconstruction", data=Held(made, 2**28))
    for group in traced:
        found = table[group.name]
        assert not np.isnan(found.merged).any(), group.name
        assert (found.costs is None) == bool(found.problem), group.name
        if found.costs is not None:
            assert len(found.costs) == len(group)
            assert (found.costs >= 0).all()


def test_costs_are_shares_of_what_consumers_give() -> None:
    """However many outputs these have: so costs of the last layer compare with those of others."""
    traced = onnxprune.trace(DIGITS)
    data = Held(open_data(traced, CALIBRATION, samples=144), 2**28)
    means = Means(memory=2**28)
    found = rank(traced, traced.groups, lookup("criterion", "wanda"), data, means)
    reads = {
        one.group.name: one.reads for part in reads_of(traced, traced.groups, data, means) for one in part
    }
    for group in traced:
        removal, mine = found[group.name].removal, reads[group.name]
        assert removal is not None
        lost = [
            float(
                (np.square(r.scaled).sum(axis=1) * np.einsum("gii->gi", r.moments.second))[
                    r.columns >= 0
                ].sum()
            )
            for r in mine
        ]
        outputs = [r.matrix.shape[0] * r.matrix.shape[1] for r in mine]
        assert removal.costs.sum() == pytest.approx(sum(lost) / np.mean(outputs))


def test_few_rows_protect_a_group(run: Run, tmp_path: Any) -> None:
    """A rank-deficient moment makes channels look free."""
    traced = onnxprune.trace(DIGITS)
    data = Held(open_data(traced, CALIBRATION, samples=16), 2**28)
    table = onnxprune.score(traced, criterion="reconstruction", data=data)
    found = table["/stage2/first/conv/Conv"]
    assert found.problem == (
        "Conv '/stage2/second/conv/Conv' reads 576 columns: found 256 rows, expected 288"
    )
    kept = onnxprune.select(traced, table, keep_macs=0.9, scope="global", granularity=1)
    entry = next(g for g in kept.groups if g.name == "/stage2/first/conv/Conv")
    assert entry.status == "kept"
    assert entry.reason == f"its costs are not known: {found.problem}"
    many = Held(open_data(traced, CALIBRATION, samples=2), 2**28)
    ((small,),) = reads_of(traced, [traced.find("stage2/first")[0]], many, Means(memory=2**20))
    assert small.problem == "moments of its consumers take 15 MiB: found --memory 1 MiB"


def test_a_group_of_which_too_little_is_known_is_priced_by_its_half() -> None:
    """Its order is that of its weights; a budget that it has to give to is met."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,8] x) => (float[n,4] y) <float[8,96] first, float[96,4] second> {
          h = MatMul (x, first)
          a = Relu (h)
          y = MatMul (a, second)
        }"""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in (("first", (8, 96)), ("second", (96, 4))):
        value = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    data = {"x": rng.standard_normal((48, 8)).astype(np.float32)}
    result = onnxprune.prune(model, keep_macs=0.5, data=data, recover="none", provider="cpu")
    group = next(g for g in result.plan.groups if g.status == "pruned")
    assert len(group.keep) == 48
    weights = onnxprune.score(result.trace, criterion="l2", normalizer="none")[group.name].merged
    assert list(group.keep) == sorted(np.argsort(-weights)[:48].tolist())


def test_the_price_of_a_group_is_the_harm_of_its_half(run: Run) -> None:
    traced = onnxprune.trace(DIGITS)
    data = Held(open_data(traced, CALIBRATION, samples=144), 2**28)
    table = onnxprune.score(traced, criterion="reconstruction", data=data.part(0, 2 / 3))
    reference = OriginalOutputs(traced.model, data.part(2 / 3, 1))
    assert sum(batch.size for batch in reference.batches) == 48
    found = probe(table, reference)
    assert [p.group for p in found] == [g.name for g in traced]
    for one, group in zip(found, traced, strict=True):
        costs = table[group.name].costs
        assert costs is not None
        assert (one.channels, one.removed, one.refitted) == (len(group), len(group) // 2, True)
        assert one.cost == pytest.approx(costs[: len(group) // 2].sum())
        assert 0 < one.harm < 0.5  # with consumers refitted; without, half a group does up to 3 nats
    behind = probe(table, OriginalOutputs(traced.model, data.part(2 / 3, 1), memory=2**28))
    assert [p.harm for p in behind] == pytest.approx([p.harm for p in found], rel=1e-3)
    halves = {p.group: p.channels - p.removed for p in found}
    price = table.priced({p.group: p.price for p in found})
    assert expected(price, halves) == pytest.approx({p.group: p.harm for p in found})
    priced = table.priced({found[0].group: 3.0})
    before, after = table[found[0].group].costs, priced[found[0].group].costs
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after, 3 * before)


def test_only_what_is_behind_other_weights_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of every part that ran: all of them, or those from the first one that reads the weights."""
    model = onnxprune.load(DIGITS)
    ran: Any = []
    data = Held(open_data(onnxprune.trace(DIGITS), CALIBRATION, samples=16), 2**28)
    cut = Parts.cut
    monkeypatch.setattr(Parts, "cut", lambda *given: ran.append(len(cut(*given).graph.node)) or cut(*given))
    nodes = list(model.proto.graph.node)
    place = next(k for k, node in enumerate(nodes) if node.name == "/stage2/first/conv/Conv")
    name = nodes[place].input[1]
    weight = next(numpy_helper.to_array(t) for t in model.proto.graph.initializer if t.name == name)
    other = Recovery({name: weight / 2})
    found = [OriginalOutputs(model, data, memory=memory).of_weights(other) for memory in (2**28, 0)]
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[0] == pytest.approx(OriginalOutputs(model, data).of(other.apply(model)), rel=1e-3)
    assert ran == [place, len(nodes) - place, place, len(nodes)]


@pytest.mark.parametrize(("gone", "step"), [(32, 16), (92, 16), (60, 4), (20, 4)])
def test_steps_are_as_coarse_as_costs_hardly_more(gone: int, step: int) -> None:
    """A budget that so many channels of one group meet, each of which costs the same."""
    traced = onnxprune.trace(DIGITS)
    group = next(g for g in traced if len(g) == 128)
    scores = {g.name: GroupScore(g, (), np.zeros(len(g)), np.full(len(g), 1e9)) for g in traced}
    scores[group.name] = GroupScore(group, (), np.arange(128.0), np.ones(128))
    table = ScoreTable(traced, scores, ranked={group.name: Ranked(None)})
    left = macs(traced, traced.sizes(group.units[:gone])) / macs(traced, traced.sizes())
    plan = onnxprune.select(traced, table, keep_macs=left, scope="global")
    assert plan.options["granules"][group.name] == step
    (keep,) = (g.keep for g in plan.groups if g.name == group.name)
    assert len(keep) == (128 - gone) // step * step


@pytest.mark.parametrize("how", ["global", "harm"])
def test_groups_that_are_weighed_by_costs_keep_an_eighth(run: Run, tmp_path: Any, how: str) -> None:
    """That some are cut to it is said; told to, they keep less."""
    with np.load(CALIBRATION) as stored:
        np.savez(tmp_path / "x.npz", image=stored["image"][:144])
    flags = "--data", tmp_path / "x.npz", "--recover", "none", "--allocate", how
    common = (
        "prune",
        DIGITS,
        "-o",
        tmp_path / "slim.onnx",
        "--keep-macs",
        0.06,
        "--granularity",
        1,
        "--no-verify",
        *flags,
    )
    told = run(*common, "--plan-out", tmp_path / "plan.json")
    groups = onnxprune.Plan.load(tmp_path / "plan.json").groups
    least = [g.name for g in groups if len(g.keep) * 8 == g.channels]
    assert least == [g.name for g in groups if g.reason == "as few as may stay"]
    assert not any(len(g.keep) * 8 < g.channels for g in groups)
    of = least[0] if len(least) == 1 else f"{len(least)} groups, such as {least[0]}"
    assert (
        f"as few channels as may stay are left of {of}: a larger budget or --min-share leaves more\n"
        in told.err
    )
    assert "as few channels as may stay" not in run(*common, "--min-share", 0).err


def test_data_change_the_defaults(run: Run, tmp_path: Any) -> None:
    flags = "--data", CALIBRATION, "--samples", 144, "--recover", "none", "--provider", "cpu", "--json"
    out = tmp_path / "slim.onnx"
    found = run("prune", DIGITS, "-o", out, "--keep-macs", 0.5, *flags).document["options"]
    assert (found["criterion"], found["allocate"]) == ("reconstruction", "harm")
    assert (found["min_share"], found["data"]) == (0.125, str(CALIBRATION))
    assert len(found["prices"]) == 7
    found = run("prune", DIGITS, "-o", out, *flags).document["options"]
    assert (found["criterion"], "allocate" in found) == ("reconstruction", False)
    named = run("prune", DIGITS, "-o", out, "--keep-macs", 0.5, "--criterion", "l1", *flags)
    assert (named.document["options"]["criterion"], "allocate" in named.document["options"]) == ("l1", False)


def test_a_plan_of_measured_harm_is_explained_by_it(run: Run, tmp_path: Any) -> None:
    plan = tmp_path / "plan.json"
    flags = "--data", CALIBRATION, "--samples", 144, "--recover", "none", "--provider", "cpu"
    run("prune", DIGITS, "-o", tmp_path / "slim.onnx", "--keep-macs", 0.4, "--plan-out", plan, *flags)
    kept = {g.name: g.keep for g in onnxprune.Plan.load(plan).groups}
    told = run("explain", DIGITS, "*Conv", "--plan", plan, "--provider", "cpu", "--json").document["groups"]
    assert len(told) == 7
    for group in told:
        assert [c["index"] for c in group["channels"] if c["kept"]] == list(kept[group["group"]])


def test_costs_take_data_and_a_criterion_that_knows_them(run: Run, tmp_path: Any) -> None:
    out = tmp_path / "slim.onnx"
    outcome = run(
        "prune", DIGITS, "-o", out, "--keep-macs", 0.5, "--allocate", "harm", "--criterion", "wanda"
    )
    assert outcome.code == 2
    assert "allocate harm measures what a group is worth: found no data, expected samples" in outcome.err
    common = "--keep-macs", 0.5, "--data", CALIBRATION
    outcome = run("prune", DIGITS, "-o", out, "--allocate", "harm", "--criterion", "l2", *common)
    assert outcome.code == 2
    assert "allocate harm: criterion 'l2' gives scores, expected costs" in outcome.err


def test_without_data_channels_are_chosen_on_smooth_noise(run: Run, tmp_path: Any) -> None:
    """That is said where it was done, and is the same each time; weights stay as surgery left them."""
    plans = [tmp_path / name for name in ("one.json", "two.json")]
    for plan in plans:
        done = run("prune", DIGITS, "-o", tmp_path / "s.onnx", "--criterion", "wanda", "--plan-out", plan)
        assert (done.code, done.err.count("chosen on smooth noise")) == (0, 1), done.err
    assert plans[0].read_bytes() == plans[1].read_bytes()
    assert "recovery" not in onnxprune.Plan.load(plans[0]).options
    assert "chosen on smooth noise" in run("explain", DIGITS, "stem", "--plan", plans[0]).out
    with_data = run("prune", DIGITS, "-o", tmp_path / "s.onnx", "--data", CALIBRATION, "--recover", "none")
    assert "smooth noise" not in with_data.err + run("prune", DIGITS, "-o", tmp_path / "s.onnx").err


def test_smooth_noise_has_long_waves() -> None:
    traced = onnxprune.trace(DIGITS)
    plain, smooth = (open_data(traced, samples=8, smooth=on) for on in (False, True))
    for data, least, most in ((plain, -0.1, 0.1), (smooth, 0.4, 0.9)):
        images = np.concatenate([next(iter(batch.feeds.values())) for batch in data])
        assert images.std() == pytest.approx(1, rel=0.15)
        neighbours = float((images[..., 1:] * images[..., :-1]).mean())
        assert least < neighbours < most


def test_heads_and_inner_dimensions_have_consumers() -> None:
    """An attention block: heads end in the projection, hidden channels of the MLP in its second layer."""
    name = next(n for n in BUILDERS if "attention" in n)
    model: onnx.ModelProto = BUILDERS[name]()
    traced = onnxprune.trace(model)
    assert all(Reading(traced).of(group).layers for group in traced)


def test_of_a_channel_that_two_joined_groups_hold_one_copy_is_free() -> None:
    """The second is not: what makes up for the first is gone with it."""
    net = Net("joined", 1)
    x = net.input("x", 64, 12, 4, 4)
    weight = net.random.normal(size=(8, 12, 1, 1))
    first = net.node("Conv", x, net.initializer("w", weight[:6]), name="first")
    second = net.node("Conv", x, net.initializer("v", weight[4:]), name="second")
    model = net.build(net.conv("last", net.node("Concat", first, second, axis=1), 10, 4, 1))
    data = {"x": np.random.default_rng(2).standard_normal((64, 12, 4, 4)).astype(np.float32)}
    table = onnxprune.score(onnxprune.trace(model), criterion="reconstruction", data=data)
    costs: dict[tuple[str, int], float] = {}
    for name in ("first", "second"):
        removal = table.ranked[name].removal
        assert removal is not None
        costs |= {(name, k): cost for k, cost in zip(removal.order.tolist(), removal.costs, strict=True)}
    free = {place for place, cost in costs.items() if cost < 0.1 * np.median(list(costs.values()))}
    assert len(free) == 2
    for k in range(2):
        assert len({("first", 4 + k), ("second", k)} & free) == 1
