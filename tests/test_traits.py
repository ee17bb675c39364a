"""What is known of operators stands in the decorators of their rules, once, and it is true."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnxprune.model.operators import TRAITS, Trait, told
from onnxprune.rules import RULES

from .conftest import ROOT

SCHEMAS = {(schema.domain, schema.name): schema for schema in onnx.defs.get_all_schemas()}
NAMES = {schema.name for schema in onnx.defs.get_all_schemas_with_history()} | {op for _, op in RULES}
FILES = [p for room in ("onnxprune", "passes") for p in sorted((ROOT / room).rglob("*.py"))]

FUNCTIONS = {
    "onnxprune/model/evaluation.py": "TABLE",
    "onnxprune/shapes/control.py": "_TABLE",
    "onnxprune/shapes/microsoft.py": "_TABLE",
    "onnxprune/shapes/sequences.py": "SEQUENCES",
    "onnxprune/moments/linear.py": "_MAKERS",
    "onnxprune/cleanup/values/entrywise.py": "_PLAIN",
    "onnxprune/cleanup/values/windows.py": "_REDUCED",
    "onnxprune/recovery/affine.py": "_STEPS",
    "onnxprune/recovery/stores.py": "_BACK",
    "onnxprune/checks/inside.py": "_ENTRIES",
}
"""Tables that hold a function for every operator: nothing else could find it."""

COUNTERPARTS = {
    "onnxprune/shapes/quantized.py": "PLAIN",  # what each quantised operator computes, from which inputs
    "onnxprune/rules/quant.py": "CHANNELS_LAST",  # the operator of the same meaning in the other layout
    "onnxprune/rules/recurrent.py": "GATES",  # a number for each operator of the rule beside it
    "onnxprune/checkpoints/formats/keras_layers.py": "SIZES",  # classes of Keras, some called like operators
    "onnxprune/recovery/scales.py": "_NORMS",  # which inputs of a normalization are scale and shift
}
"""Tables that say of an operator more than a trait can."""


@pytest.mark.parametrize("kind", sorted(RULES.keys() & SCHEMAS.keys()), ids="::".join)
def test_rules_say_what_other_stages_need(kind: tuple[str, str]) -> None:
    assert RULES[kind].traits is not None, "say it in the decorator: traits=Trait.NONE if nothing holds"


def operators(node: ast.AST) -> list[str]:
    """Names of operators that a display or a string lists."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = node.value.split()
        return words if set(words) <= NAMES else []
    found: list[ast.expr | None] = []
    if isinstance(node, ast.Dict):
        found = list(node.keys)
    elif isinstance(node, (ast.Set, ast.Tuple, ast.List)):
        found = list(node.elts)
    parts = [p for e in found if e is not None for p in (e.elts if isinstance(e, ast.Tuple) else [e])]
    return [p.value for p in parts if isinstance(p, ast.Constant) and p.value in NAMES]


def tables(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Displays with three or more names of operators, and what each is called."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    called: dict[int, str] = {}
    for line in module.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(targets[0], ast.Name):
            called[id(line.value)] = targets[0].id
    for node in ast.walk(module):
        if len(set(operators(node))) >= 3:
            yield called.get(id(node), f"line {getattr(node, 'lineno', 0)}"), node


TABLES = [(str(path.relative_to(ROOT)), name, node) for path in FILES for name, node in tables(path)]


def test_operators_are_listed_in_one_place() -> None:
    """A list of names somewhere else is a trait: name it in ``Trait``, give it in the rules."""
    found = {(path, name) for path, name, _ in TABLES}
    assert found == FUNCTIONS.items() | COUNTERPARTS.items()


def test_other_tables_hold_functions() -> None:
    for path, name, node in TABLES:
        if FUNCTIONS.get(path) == name:
            assert isinstance(node, ast.Dict)
            assert not [value for value in node.values if isinstance(value, ast.Constant | ast.Tuple)], path


def test_nothing_is_told_by_the_function_of_a_rule() -> None:
    """Another rule of the same behaviour would be taken for something else."""
    compared = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Attribute) and side.attr == "apply"
    ]
    assert not compared


def test_the_rules_are_found_by_who_asks_first() -> None:
    code = "from onnxprune.model.operators import Trait, told; assert Trait.MOVES in told('', 'Concat')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("trait", list(Trait), ids=lambda trait: str(trait.name))
def test_every_trait_is_held_and_explained(trait: Trait) -> None:
    assert any(trait in traits for traits in TRAITS.values())
    assert f"\n{trait.name}\n" in inspect.cleandoc(str(Trait.__doc__))


# Whether it is true, by what onnx itself computes and declares


def test_operators_with_a_seed_draw_numbers() -> None:
    seeded = {kind for kind, schema in SCHEMAS.items() if "seed" in schema.attributes}
    drawing = {kind for kind in SCHEMAS if Trait.RANDOM in told(*kind)}
    assert drawing == seeded


X = np.random.default_rng(0).standard_normal((2, 3, 4, 2)).astype(np.float32) * 3
FAR = {np.float32: 100.0, np.int64: 7, np.bool_: True}
"""Types of inputs, each with a value to put somewhere."""


def computed(op: str, inputs: list[np.ndarray]) -> np.ndarray | None:
    """First output of an operator with its default attributes; None where it does not take these."""
    names = [f"x{k}" for k in range(len(inputs))]
    attributes: dict[str, Any] = {"to": TensorProto.FLOAT} if op == "Cast" else {}
    node = helper.make_node(op, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info("y", 0, None)])
    feeds: Any = dict(zip(names, inputs, strict=True))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results: Any = ReferenceEvaluator(helper.make_model(graph)).run(["y"], feeds)
    except Exception:  # the reference raises anything where inputs do not fit
        return None
    return results[0] if isinstance(results[0], np.ndarray) else None


def works_by_entry(op: str, dtype: type[np.generic]) -> bool | None:
    """Whether every entry of the output follows from the entries in its place; None if it does not run."""
    schema = SCHEMAS["", op]
    count = 2 if schema.max_input == 2**31 - 1 else schema.min_input
    inputs = [np.roll(X, 5 * k).astype(dtype) for k in range(count)]
    before = computed(op, inputs)
    if before is None:
        return None
    order = np.random.default_rng(1).permutation(X.size)
    moved = computed(op, [value.reshape(-1)[order].reshape(X.shape) for value in inputs])
    changed = [value.copy() for value in inputs]
    for value in changed:
        value[1, 2, 3, 0] = FAR[dtype]
    after = computed(op, changed)
    if before.shape != X.shape or moved is None or after is None:
        return False
    rest = np.ones(X.shape, np.bool_)
    rest[1, 2, 3, 0] = False
    place = before.reshape(-1)[order].reshape(X.shape)
    return _same(moved, place) and _same(after[rest], before[rest])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


ONLY_HERE = ("OptionalGetElement", "ScatterND", "TensorScatter")
"""They hand something on whole if it is a tensor, or as large as what it is written into."""

PLAIN = sorted(
    op
    for (domain, op), rule in RULES.items()
    if not domain
    and ("", op) in SCHEMAS
    and not rule.pinned
    and not rule.random
    and SCHEMAS["", op].min_input
    and op not in ONLY_HERE
)


@pytest.mark.parametrize("op", PLAIN)
def test_what_works_entry_by_entry_says_so(op: str) -> None:
    """Otherwise it would take the slow path, in silence."""
    found = [works for dtype in FAR if (works := works_by_entry(op, dtype)) is not None]
    named = any(trait in told("", op) for trait in (Trait.UNARY, Trait.COMBINES, Trait.COPIES))
    assert named or not all(found or [False])


def having(trait: Trait) -> list[str]:
    return sorted(op for domain, op in TRAITS if not domain and trait in TRAITS[domain, op] and op in PLAIN)


@pytest.mark.parametrize("op", [op for t in (Trait.UNARY, Trait.COMBINES) for op in having(t)])
def test_what_is_said_to_work_entry_by_entry_does(op: str) -> None:
    assert False not in [works_by_entry(op, dtype) for dtype in FAR]


@pytest.mark.parametrize("op", having(Trait.RISES))
def test_what_rises_never_falls(op: str) -> None:
    inputs = [np.linspace(-6, 6, 1201, dtype=np.float32)]
    found = computed(op, inputs * SCHEMAS["", op].min_input)
    assert found is not None
    assert Trait.UNARY in told("", op)
    found = found[np.isfinite(found)]
    assert len(found) > 600
    assert (np.diff(found) >= -1e-6).all()  # float32 rounds by 6e-8 of values up to 20


@pytest.mark.parametrize("op", [op for op in having(Trait.BOUNDED) if op != "Clip"])
def test_what_is_bounded_is_finite(op: str) -> None:
    """Clip is so between the bounds that it is given, and analysis knows them."""
    found = computed(op, [np.array([[-np.inf, 0, 1, -np.inf]], np.float32)])
    assert found is not None
    assert np.isfinite(found).all()


def test_no_bit_of_a_trait_is_lost() -> None:
    """The bits of UNARY, COMBINES, COPIES and VIEW have no names; Python 3.11.2 dropped them in a union."""
    for trait in Trait:
        for other in Trait.__members__.values():
            assert trait in (trait | other)
            assert other in (trait | other)
    assert Trait(1 << 30).value == 1 << 30
