"""What a report says of itself: it is true only of what was checked and found right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.checks.accepted import ALONE, NOISE, furthest
from onnxprune.checks.report import Report
from onnxprune.checks.widened import widened
from onnxprune.jobs import prune as pipeline
from onnxprune.jobs.sensitivity import sensitivity
from onnxprune.model.file import Model
from onnxprune.reports.result import Result
from onnxprune.surgery.surgeon import rewrite_trace
from onnxprune.testing import assert_parity

from .battery import outputs
from .building import net
from .conftest import Run


def two_layers() -> onnx.ModelProto:
    return net("h = Conv (x, W)\nr = Relu (h)\ny = Conv (r, V)", W=(16, 3, 3, 3), V=(4, 16, 1, 1))()


def unrunnable() -> onnx.ModelProto:
    """Made-up tokens lie outside its table."""
    text = "k = Add (i, far)\ne = Gather (T, k)\nh = MatMul (e, W)\nr = Relu (h)\ny = MatMul (r, V)"
    return net(text, inputs="int64[3] i", far=100, T=(4, 8), W=(8, 32), V=(32, 5))()


def stored(model: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], Any]) -> onnx.ModelProto:
    """Copy of a model with a stored tensor changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensor = next(t for t in changed.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    edit(array)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return changed


def detector(head: str = "y = Mul (v, v)", **weights: Any) -> onnx.ModelProto:
    """Where a map is large, which it is nowhere, and what a head makes of the values there."""
    text = f"""
        h = Conv (x, W)
        r = Relu (h)
        s = Conv (r, S)
        g = Greater (s, t)
        z = NonZero (g)
        p = Transpose <perm=[1, 0]> (z)
        v = GatherND (s, p)
        {head}"""
    return net(text, W=(8, 3, 3, 3), S=(1, 8, 1, 1), t=1e6, **weights)()


# What a report is worth -----------------------------------------------------------------------


def test_what_could_not_be_verified_is_not_true() -> None:
    result = onnxprune.prune(unrunnable(), verify=True, provider="cpu")
    assert result.report is not None
    assert "the original does not run on these inputs" in result.report.problem
    assert not result.report
    assert not result.report.failed
    assert result.report.exact is None
    with pytest.raises(AssertionError, match="not verified"):
        assert_parity(unrunnable(), result.model, plan=result.plan, provider="cpu")


def test_an_empty_output_proves_nothing() -> None:
    """All nodes are compared then, and nothing is said of a change that nobody saw."""
    found = onnxprune.prune(detector(), ratio=0.5, verify=True, provider="cpu")
    assert "exact layer by layer" in str(found.report.headline if found.report else "")
    assert (found.report and found.report.change) == ()
    found.model.proto.CopyFrom(stored(found.model.proto, "W", lambda w: np.multiply(w, -1, out=w)))
    wrong = onnxprune.verify(detector(), found.model, plan=found.plan, provider="cpu")
    assert wrong.exact is False
    assert wrong.wrong is not None
    assert wrong.wrong.layer == "h"
    assert "change not measured: the outputs hold no numbers" in wrong.headline
    with pytest.raises(onnxprune.UsageError, match="min-cosine cannot be checked: no output holds anything"):
        onnxprune.verify(detector(), found.model, provider="cpu", min_cosine=0.5)


def test_nothing_is_sensitive_where_outputs_hold_no_number() -> None:
    data = {"x": np.full((2, 3, 8, 8), np.nan, np.float32)}
    for model, given, hint in ((detector(), None, "Give inputs"), (two_layers(), data, "Give other inputs")):
        text = f"found no number in them on these inputs\n{hint} with --data"
        with pytest.raises(onnxprune.UsageError, match=text):
            sensitivity(model, data=given, provider="cpu")


def test_what_is_nowhere_finite_proves_nothing() -> None:
    """Two models whose outputs are all NaN agree in nothing: no gate is passed by that."""
    result = onnxprune.prune(two_layers(), ratio=0.5)
    data = {"x": np.full((2, 3, 8, 8), np.nan, np.float32)}
    report = onnxprune.verify(two_layers(), result.model, plan=result.plan, data=data, provider="cpu")
    assert report.headline == "not verified: output 'y' holds no number on these inputs"
    assert (bool(report), report.exact, report.change) == (False, None, ())
    with pytest.raises(onnxprune.UsageError, match="min-cosine cannot be checked"):
        onnxprune.verify(two_layers(), result.model, data=data, provider="cpu", min_cosine=0.5)


def test_layers_that_saw_nothing_are_not_proven() -> None:
    head = "w = Unsqueeze (v, o)\nm = MatMul (w, U)\nq = Relu (m)\ny = MatMul (q, V)"
    model = detector(head, o=np.array([1]), U=(1, 16), V=(16, 3))
    report = onnxprune.prune(model, ratio=0.5, verify=True, provider="cpu").report
    assert report is not None
    assert report.headline == "not verified: output 'y' holds no number on these inputs"
    assert (bool(report), report.failed, report.exact) == (False, False, None)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rewriter halve a weight."""

    def wrong(*given: Any) -> Model:
        slim = rewrite_trace(*given)
        return Model(stored(slim.proto, "V", lambda v: np.multiply(v, 0.5, out=v)))

    monkeypatch.setattr(pipeline, "rewrite_trace", wrong)


@pytest.mark.usefixtures("broken")
def test_a_wrong_result_is_not_handed_out() -> None:
    with pytest.raises(onnxprune.SurgeryError, match=r"the slim model is wrong: cpu: surgery WRONG") as error:
        onnxprune.prune(two_layers(), verify=True, provider="cpu")
    assert error.value.exit_code == 1
    assert "on_failure='return'" in error.value.hint


@pytest.mark.usefixtures("broken")
def test_a_wrong_result_is_returned_on_request() -> None:
    result = onnxprune.prune(two_layers(), verify=True, provider="cpu", on_failure="return")
    assert result.report is not None
    assert (bool(result.report), result.report.exact, result.report.verdict) == (False, False, "WRONG")


@pytest.mark.parametrize("function", [onnxprune.prune, onnxprune.clean])
def test_unknown_ways_to_fail(function: Callable[..., Any]) -> None:
    with pytest.raises(onnxprune.UsageError, match="unknown value of on_failure 'ignore'"):
        function(two_layers(), on_failure="ignore")


# Exact, wrong, not proven ---------------------------------------------------------------------


def half(model: onnx.ModelProto) -> Result:
    return onnxprune.prune(model, granularity=1, clean=False)


def judged(dense: onnx.ModelProto, slim: onnx.ModelProto, result: Result) -> Report:
    return onnxprune.verify(dense, slim, plan=result.plan, provider="cpu")


def test_integers_are_not_excused() -> None:
    text = """
        h = Conv (x, W)
        r = Relu (h)
        c = Conv (r, V)
        p = ReduceMean <axes=[2,3], keepdims=0> (c)
        i = ArgMax <axis=1, keepdims=0> (p)
        [shift] j = Add (i, one)
        k = Mod (j, four)
        y = Gather (T, k)"""
    dense = net(text, W=(16, 3, 3, 3), V=(4, 16, 1, 1), one=[1], four=[4], T=(4, 5))()
    result = half(dense)
    assert judged(dense, result.model.proto, result).verdict == "exact"

    def increase(array: np.ndarray) -> None:
        array += 1

    report = judged(dense, stored(result.model.proto, "one", increase), result)
    assert (bool(report), report.exact, report.verdict) == (False, False, "WRONG")
    assert report.wrong is not None
    assert (report.wrong.layer, report.wrong.tolerance) == ("shift", 0)


def test_booleans_are_not_excused() -> None:
    text = """
        h = Conv (x, W)
        r = Relu (h)
        c = Conv (r, V)
        [mask] b = Greater (c, zero)
        y = Where (b, c, zero)"""
    dense = net(text, W=(16, 3, 3, 3), V=(4, 16, 1, 1), zero=0.0)()
    result = half(dense)
    assert judged(dense, result.model.proto, result).verdict == "exact"
    slim = onnx.ModelProto()
    slim.CopyFrom(result.model.proto)
    next(n for n in slim.graph.node if n.name == "mask").op_type = "Less"
    report = judged(dense, slim, result)
    assert report.wrong is not None
    assert report.wrong.layer == "mask"


def sequence() -> onnx.ModelProto:
    text = "h = MatMul (x, W)\n r = Relu (h)\n a = MatMul (r, V)\n b = MatMul (r, U)\n [list] y = SequenceConstruct (a, b)"
    return net(text, inputs="float[N,5] x", outputs="seq(float[N,3]) y", W=(5, 8), V=(8, 3), U=(8, 3))()


def test_what_was_left_out_is_not_proven(run: Run, tmp_path: Path) -> None:
    """The elements of a sequence change places: every tensor is right, and the outputs are not."""
    dense = sequence()
    result = half(dense)
    assert judged(dense, result.model.proto, result).verdict == "exact"
    slim = onnx.ModelProto()
    slim.CopyFrom(result.model.proto)
    last = next(n for n in slim.graph.node if n.name == "list")
    last.input[:] = list(reversed(last.input))
    report = judged(dense, slim, result)
    assert (bool(report), report.exact, report.verdict, report.wrong) == (False, False, "not proven", None)
    assert report.left_out == ("SequenceConstruct 'list'",)
    assert str(report).startswith("surgery not proven, end to end: ")

    onnx.save(dense, tmp_path / "dense.onnx")
    onnx.save(slim, tmp_path / "slim.onnx")
    result.plan.save(tmp_path / "plan.json")
    files = tmp_path / "dense.onnx", tmp_path / "slim.onnx", "--plan", tmp_path / "plan.json"
    junit = tmp_path / "junit.xml"
    outcome = run("verify", *files, "--provider", "cpu", "--junit", junit)
    assert outcome.code == 1
    assert outcome.err.startswith("error: the slim model is not proven right: cpu: surgery not proven (")
    assert "; SequenceConstruct 'list' cannot be compared alone)" in outcome.err
    assert "surgery not proven: the outputs differ, and nodes cannot be compared alone" in outcome.out
    assert 'message="not proven"' in junit.read_text()


def test_random_numbers_of_a_body_are_no_bug(run: Run, tmp_path: Path) -> None:
    """Each model draws its own, as no output of the body tells them."""
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        g (float[4,2,6] x) => (float[4,2,3] y) {
          h = MatMul (x, W)
          last, all = Scan <num_scan_inputs = 1,
            body = b (float[2,16] s, float[2,16] piece) => (float[2,16] next, float[2,16] out) {
              next = Add (s, piece)
              p = Sigmoid (next)
              out = Bernoulli (p)
          }> (start, h)
          y = MatMul (all, V)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in {"W": (6, 16), "V": (16, 3), "start": (2, 16)}.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        )
    onnx.save(model, tmp_path / "m.onnx")
    files = tmp_path / "m.onnx", "-o", tmp_path / "o.onnx"
    outcome = run("prune", *files, "--granularity", 1, "--provider", "cpu")
    assert "Scan 'last' (it draws random numbers) cannot be compared alone" in outcome.err, (
        outcome.err + outcome.out
    )
    assert "bug" not in outcome.err
    assert (outcome.code, (tmp_path / "o.onnx").exists()) == (1, False)


# What is accepted -----------------------------------------------------------------------------


def test_a_large_neighbour_hides_nothing() -> None:
    """Three of four channels are zeroed, beside one that is ten million times larger."""
    text = "h = Conv (x, W)\nr = Relu (h)\n[last] y = Conv (r, V, B)"
    bias = np.array([1e7, 0, 0, 0], np.float32)
    dense = net(text, W=(16, 3, 3, 3), V=(4, 16, 1, 1), B=bias)()
    result = half(dense)
    assert judged(dense, result.model.proto, result).verdict == "exact"

    def clear(array: np.ndarray) -> None:
        array[1:] = 0

    report = judged(dense, stored(result.model.proto, "V", clear), result)
    assert report.wrong is not None
    assert report.wrong.part in {f"entry {k} of axis 1" for k in (1, 2, 3)}


def test_a_value_near_zero_invents_nothing() -> None:
    """In one channel large terms cancel: what is left of them is rounding."""
    text = "h = Conv <pads=[1,1,1,1]> (x, W)\nr = Relu (h)\n[last] y = Conv (r, V)"
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 3, 3, 3)).astype(np.float32)
    mixed = rng.normal(size=(4, 16, 1, 1)).astype(np.float32)
    mixed[2, 8:] = -mixed[2, :8] * np.float32(1 + 3e-7)
    dense = net(text, W=np.concatenate([kernel, kernel]), V=mixed)()
    by_pairs = {"h": [*range(0, 8, 2), *range(8, 16, 2)]}
    result = onnxprune.prune(dense, remove=by_pairs, clean=False)
    report = judged(dense, result.model.proto, result)
    assert report.verdict == "exact", report


def test_a_closed_gate_invents_nothing() -> None:
    """Sigmoids near zero are computed in steps of the last bit of 1, which no change of inputs foretells."""
    rng = np.random.default_rng(0)
    bias = np.concatenate([np.full((1, 128), -7), np.zeros((1, 896))], axis=1).astype(np.float32)
    gates = rng.normal(size=(1, 512, 512)).astype(np.float32)
    text = "h = MatMul (x, D)\nr = Relu (h)\n[last] y, yh, yc = LSTM <hidden_size=128> (r, W, R, B)"
    dense = net(text, inputs="float[1,1,16] x", D=(16, 512), W=gates, R=(1, 512, 128), B=bias)()
    result = onnxprune.prune(dense, ratio=0.5, exclude=["last"], clean=False, verify=True)
    assert result.report is not None
    assert result.report.verdict == "exact"

    def damage(array: np.ndarray) -> None:
        array[:, 0] *= np.float32(1.01)

    wrong = judged(dense, stored(result.model.proto, "W", damage), result)
    assert wrong.verdict == "WRONG"
    assert wrong.wrong is not None
    assert wrong.wrong.layer == "last"


@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_gates_let_through_no_more_than_goes_in(size: float) -> None:
    """A step of a gate is one of the last bit of 1 times what goes through it: of quiet inputs that is little."""
    rng = np.random.default_rng(0)
    arrays = {n: rng.normal(size=s) / 16 for n, s in {"W": (1, 1024, 64), "R": (1, 1024, 256)}.items()}
    floats: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    dense = net("y = LSTM <hidden_size=256> (x, W, R)", inputs="float[20,1,64] x", **floats)()
    data = {"x": rng.normal(size=(20, 1, 64)).astype(np.float32) * np.float32(size)}
    result = onnxprune.prune(dense, ratio=0.5, clean=False)

    def damage(array: np.ndarray) -> None:
        array[0, ::7] *= np.float32(1.001)

    for slim, verdict in ((result.model.proto, "exact"), (stored(result.model.proto, "W", damage), "WRONG")):
        assert onnxprune.verify(dense, slim, plan=result.plan, data=data, provider="cpu").verdict == verdict


@pytest.mark.parametrize("seed", [1, 3])
def test_a_closed_gate_in_a_loop_invents_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    body = """b (float[1,128] s, float[1,512] xt) => (float[1,128] so, float[1,128] yo) {
        a = MatMul (xt, W)  b = MatMul (s, R)  c = Add (a, b)  d = Add (c, B)
        so = Sigmoid (d)  yo = Identity (so) }"""
    text = f"h = MatMul (x, D)\nr = Relu (h)\n[last] e, y = Scan <num_scan_inputs=1, body={body}> (S, r)"
    arrays = {
        "W": rng.normal(size=(512, 128)),
        "D": rng.normal(size=(16, 512)),
        "R": rng.normal(size=(128, 128)) / 30,
        "B": np.full(128, -9),
        "S": np.zeros((1, 128)),
    }
    floats: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    dense = net(text, inputs="float[1,1,16] x", **floats)()
    result = onnxprune.prune(dense, ratio={"h": 0.5}, granularity=1, clean=False, verify=True)
    assert result.report is not None
    assert result.report.verdict == "exact"


@pytest.mark.parametrize(
    ("noise", "cap", "accepted"),
    [(0.0, ALONE, 1e-5), (1e-5, ALONE, NOISE * 1e-5), (1.0, ALONE, 0.5), (1.0, 1e-5, 1e-5)],
)
def test_what_is_accepted_of_what_a_last_bit_does(noise: float, cap: float, accepted: float) -> None:
    reference = np.ones((2, 50))
    moved = reference + noise

    def relative(error: float) -> float:
        found = reference.astype(np.float32) + np.float32(error)
        judged = furthest(reference.astype(np.float32), found, [found + (moved - reference)], cap)
        return np.inf if judged.lost else judged.relative

    assert relative(accepted * 0.9) <= 1e-5 < relative(accepted * 1.1)


@pytest.mark.parametrize(("terms", "times"), [(1, NOISE), (NOISE**2, NOISE), (4 * NOISE**2, 2 * NOISE)])
def test_long_sums_differ_by_more(terms: int, times: float) -> None:
    reference, bit = np.ones(50, np.float32), np.float32(2**-18)

    def relative(error: float) -> float:
        found = reference + np.float32(error) * bit
        return furthest(reference, found, [found + bit], terms=terms).relative

    assert relative(0.99 * times) <= 1e-5 < relative(1.01 * times)


@pytest.mark.parametrize("damage", [0.0, 1e-3])
def test_one_row_times_a_long_matrix(damage: float) -> None:
    """There onnxruntime adds all terms one after the other, so that rounding adds up; mistakes are seen."""
    rng = np.random.default_rng(0)
    long = 16384
    weights: dict[str, Any] = {
        "W": rng.normal(size=(64, long)).astype(np.float32) / 8,
        "V": rng.normal(size=(long, 1024)).astype(np.float32) / 128,
    }
    dense = net("h = MatMul (x, W)\ny = MatMul (h, V)", inputs="float[1,64] x", **weights)()
    result = onnxprune.prune(dense, ratio=0.5, clean=False)

    def damaged(array: np.ndarray) -> None:
        array[5, 3] += damage

    slim = stored(result.model.proto, "V", damaged)
    report = onnxprune.verify(dense, slim, plan=result.plan, provider="cpu")
    assert report.verdict == ("WRONG" if damage else "exact")


@pytest.mark.parametrize("made", ["h", '"", h'])
@pytest.mark.parametrize("damage", [0.0, 3e-4])
def test_a_recurrent_layer_whose_last_state_alone_is_read(made: str, damage: float) -> None:
    """As many terms are added up in one number of it as where all its states are read."""
    rng, sizes = np.random.default_rng(0), {"W": (1, 1024, 64), "R": (1, 1024, 256), "V": (256, 20)}
    weights: dict[str, Any] = {
        name: rng.normal(size=size).astype(np.float32) / 16 for name, size in sizes.items()
    }
    text = f"{made} = LSTM <hidden_size=256> (x, W, R)\ny = MatMul (h, V)"
    dense = net(text, inputs="float[20,1,64] x", **weights)()
    result = onnxprune.prune(dense, ratio=0.5, clean=False)

    def damaged(array: np.ndarray) -> None:
        array[0, ::7] *= 1 + damage

    slim = stored(result.model.proto, "W", damaged)
    report = onnxprune.verify(dense, slim, plan=result.plan, provider="cpu")
    assert report.verdict == ("WRONG" if damage else "exact")


@pytest.mark.parametrize("damage", [0.0, 1e-2])
def test_of_a_chaotic_layer_nothing_is_told_but_mistakes_before_it_goes_astray(damage: float) -> None:
    """After some steps last bits decide all states: the layer is neither right nor wrong by those."""
    rng = np.random.default_rng(3)
    arrays = {
        "W": rng.normal(size=(1, 128, 1024)) / 32,
        "R": 3 * rng.normal(size=(1, 128, 128)) / 128**0.5,
        "D": rng.normal(size=(16, 1024)) / 4,
    }
    floats: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    text = "h = MatMul (x, D)\n[chaos] y = RNN <hidden_size=128> (h, W, R)"
    dense = net(text, inputs="float[200,1,16] x", **floats)()
    result = onnxprune.prune(dense, ratio=0.5, granularity=1, exclude=["chaos"], clean=False)

    def damaged(array: np.ndarray) -> None:
        array[0, 3] *= np.float32(1 + damage)

    slim = stored(result.model.proto, "W", damaged)
    report = onnxprune.verify(dense, slim, plan=result.plan, provider="cpu")
    told = onnxprune.verify(dense, slim, plan=result.plan, provider="cpu", layers=True)
    assert report.verdict == told.verdict == ("WRONG" if damage else "not proven")
    assert report.left_out == (() if damage else ("RNN 'chaos'",))
    assert "last bits decide" in " ".join(d.remark for d in told.single)
    assert str(told)


def test_what_is_lost_along_one_axis_is_no_mistake_along_another() -> None:
    """A gate that flips for good at a late step differs in all of its late states."""
    reference = np.ones((100, 50), np.float32)
    found, moved = reference.copy(), reference.copy()
    found[90:] = np.random.default_rng(0).choice([-1, 1], size=(10, 50))
    found[90:, 0] = moved[90:, 0] = -1
    judged = furthest(reference, found, [moved])
    assert judged.lost
    assert judged.relative <= 1e-5
    found[5, 3] = moved[5, 3] = 1.01
    assert furthest(reference, found, [moved]).relative > 1e-5


@pytest.mark.parametrize(("value", "terms", "seen"), [(1e37, 100, False), (1e36, 100, True), (1e37, 1, True)])
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_long_sums_overflow_on_the_way_or_not(value: float, terms: int, odd: float, seen: bool) -> None:
    one, other = np.array([1, value], np.float32), np.array([1, odd], np.float32)
    assert (furthest(one, other, terms=terms).relative > 1e-5) == seen
    assert (furthest(other, one, terms=terms).relative > 1e-5) == seen


def test_sums_that_overflow_are_not_wrong() -> None:
    """The order of the terms decides which entries are infinite; what is left is compared."""
    rng = np.random.default_rng(0)
    wide = {n: rng.normal(size=s).astype(np.float32) for n, s in {"W": (16, 512), "V": (512, 2048)}.items()}
    text = "h = MatMul (x, W)\ny = MatMul (h, V)"
    dense = net(text, inputs="float[1,16] x", W=wide["W"], V=wide["V"] * np.float32(1e37))()
    result = onnxprune.prune(dense, ratio=0.5, granularity=1, clean=False)

    def judged(slim: onnx.ModelProto) -> str:
        return onnxprune.verify(dense, slim, plan=result.plan, provider="cpu").verdict

    assert judged(result.model.proto) == "exact"
    assert judged(stored(result.model.proto, "V", lambda array: array[:2].sort(axis=0))) == "WRONG"


def test_a_small_slice_is_judged_by_its_own_noise() -> None:
    reference = np.array([[1e4] * 9, [1e-4] * 9], np.float32)
    found = reference + np.array([[0.0], [1e-7]], np.float32)
    assert furthest(reference, found).part == "entry 1 of axis 0"
    moved = found + np.array([[0.0], [2e-8]], np.float32)
    assert furthest(reference, found, [moved]).relative <= 1e-5
    assert furthest(reference, found, [found + np.array([[1.0], [0]], np.float32)]).relative > 1e-5


def test_packed_integers_have_to_be_equal() -> None:
    import ml_dtypes

    one = np.array([1, 2], ml_dtypes.int4)
    assert furthest(one, one).relative == 0
    assert furthest(one, np.array([1, 3], ml_dtypes.int4)).relative == 0.5


def test_a_statistic_of_the_wrong_groups_is_seen() -> None:
    """The masked original takes the number of groups from nowhere else than the plan."""
    text = "h = Conv (x, W)\nn = GroupNormalization <num_groups=4> (h, S, B)\nr = Relu (n)\ny = Conv (r, V)"
    arrays: dict[str, Any] = {"S": np.ones(16, np.float32), "B": np.zeros(16, np.float32)}
    settings: Any = {"opset": 21, "ir_version": 10, "outputs": "float[N,4,6,6] y"}
    dense = net(text, **settings, W=(16, 3, 3, 3), V=(4, 16, 1, 1), **arrays)()
    result = half(dense)
    slim = onnx.ModelProto()
    slim.CopyFrom(result.model.proto)
    node = next(n for n in slim.graph.node if n.op_type == "GroupNormalization")
    (groups,) = (a for a in node.attribute if a.name == "num_groups")
    assert judged(dense, slim, result).verdict == "exact"
    groups.i = 1
    assert judged(dense, slim, result).verdict == "WRONG"


def test_damage_to_the_border_is_seen() -> None:
    """One row of many, and a faint one, is padded otherwise."""
    text = "h = Conv <pads=[1,1,1,1]> (x, W)\nr = Relu (h)\ny = Conv (r, V)"
    dense = net(text, inputs="float[1,3,64,64] x", W=(8, 3, 3, 3), V=(4, 8, 1, 1))()
    result = half(dense)
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    x[:, :, 2:] *= 1e6
    slim = onnx.ModelProto()
    slim.CopyFrom(result.model.proto)
    slim.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, 0, 0]), "pads"))
    slim.graph.node.insert(0, onnx.helper.make_node("Pad", ["x", "pads"], ["edge"], "edge", mode="edge"))
    slim.graph.node[1].input[0] = "edge"
    slim.graph.node[1].attribute[0].ints[:] = [0, 1, 1, 1]
    settings: dict[str, Any] = {"plan": result.plan, "data": {"x": x}, "provider": "cpu"}
    assert onnxprune.verify(dense, result.model, **settings).verdict == "exact"
    report = onnxprune.verify(dense, slim, **settings)
    assert report.wrong is not None
    assert report.wrong.part == "entry 0 of axis 2"


# 16-bit floats --------------------------------------------------------------------------------


def in_half(kind: str) -> onnx.ModelProto:
    text = f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g ({kind}[2,3,8,8] x, bool yes) => ({kind}[2,4,8,8] y) {{
          h = Conv (x, W)
          f = Cast <to=1> (h)
          g = Relu (f)
          r = Cast <to={onnx.TensorProto.DataType.Value(kind.upper())}> (g)
          t = If (yes) <
            then_branch = a () => ({kind}[2,4,8,8] u) {{ u = Conv (r, V) }},
            else_branch = b () => ({kind}[2,4,8,8] v) {{
              c = Conv (r, V)
              v = Mul (c, factor)
            }}
          >
          y = Identity (t)
        }}"""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind.upper()))
    for name, shape in {"W": (16, 3, 1, 1), "V": (4, 16, 1, 1)}.items():
        array = (rng.normal(size=shape) / shape[1] ** 0.5).astype(np.float32).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    factor = numpy_helper.from_array(np.ones(1, np.float32).astype(dtype) * dtype.type(1.5))
    branch = model.graph.node[4].attribute[1].g
    branch.node.insert(0, onnx.helper.make_node("Constant", [], ["factor"], value=factor))
    return model


def test_a_wide_model_computes_the_same() -> None:
    dense = in_half("float16")
    rng = np.random.default_rng(1)
    for yes in (True, False):
        x = rng.normal(size=(2, 3, 8, 8)).astype(np.float16)
        narrow = outputs(dense, {"x": x, "yes": np.array(yes)}, reference=True)["y"]
        wide = outputs(widened(dense), {"x": x.astype(np.float32), "yes": np.array(yes)})["y"]
        assert wide.dtype == np.float32
        gap = np.linalg.norm(narrow.astype(np.float64) - wide) / np.linalg.norm(wide)
        assert 1e-5 < gap < 2e-3, "what 11 bits round"


def test_small_damage_to_16_bit_floats_is_seen() -> None:
    """It moves the outputs by less than 16 bits round."""
    dense = in_half("float16")
    result = half(dense)
    assert judged(dense, result.model.proto, result).verdict == "exact"

    def nudge(array: np.ndarray) -> None:
        array[0, 0] *= np.float16(1.002)

    report = judged(dense, stored(result.model.proto, "V", nudge), result)
    assert report.verdict == "WRONG"
    assert max(d.relative for d in report.surgery) < 5e-3
