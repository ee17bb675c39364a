"""The rules of the house that no single review would notice being broken."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnxprune

from .conftest import DIGITS, ROOT

ENGINE = sorted((ROOT / "onnxprune").rglob("*.py"))
PASSES = sorted((ROOT / "passes").rglob("*.py"))

LONGEST_FILE = 500
LONGEST_FUNCTION = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def length(function: Function) -> int:
    """Lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, relative ones spelled out."""
    package = path.parent.relative_to(ROOT).parts
    if package[0] == "passes":
        package = ("onnxprune", *package)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*start, *(node.module or "").split(".")]).rstrip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", ENGINE, ids=named)
def test_the_engine_imports_no_pass(path: Path) -> None:
    found = [name for name in imported(path) if re.match(r"(onnxprune\.)?passes(\.|$)", name)]
    assert not found


def test_imports_are_seen() -> None:
    """The test above would not notice if relative imports were spelled out wrongly."""
    found = set(imported(ROOT / "onnxprune" / "rules" / "conv.py"))
    assert {"onnxprune.model.node.Node", "onnxprune.rules.registry.rule"} <= found


@pytest.mark.parametrize("path", [*ENGINE, *PASSES], ids=named)
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    functions = [n for n in ast.walk(tree(path)) if isinstance(n, Function)]
    long = {f.name: length(f) for f in functions if length(f) > LONGEST_FUNCTION}
    assert not long


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes, functions and methods of a module."""
    for node in body:
        if isinstance(node, (ast.ClassDef, Function)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", [*ENGINE, *PASSES], ids=named)
def test_public_names_are_documented(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module)
    assert not [name for name, node in public(module.body) if not ast.get_docstring(node)]


@pytest.mark.parametrize("path", [*ENGINE, *PASSES], ids=named)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [n.func for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"]
    if path.parent.name != "cli":
        assert not [name for name in imported(path) if name.split(".")[0] in ("click", "rich")]


def test_public_names() -> None:
    assert onnxprune.__all__ == [
        "BudgetError", "Group", "Log", "Model", "ModelError", "OnnxPruneError", "Plan",
        "PlanError", "Report", "Result", "SurgeryError", "Trace", "UsageError", "__version__",
        "clean", "criterion", "explain", "load", "metric", "normalizer", "policy", "prune", "quantize", "rewrite", "score", "select", "trace", "verify", "verify_retrained",
    ]  # fmt: skip
    for name in onnxprune.__all__:
        assert getattr(onnxprune, name) is not None
    assert set(onnxprune.__all__) <= set(dir(onnxprune))
    with pytest.raises(AttributeError, match="has no attribute 'prunes'"):
        _ = onnxprune.prunes


def test_functions_are_not_hidden_by_modules_of_the_same_name() -> None:
    code = f"""
import onnxprune
import onnxprune.jobs.verify, onnxprune.coupling.trace, onnxprune.jobs.prune, onnxprune.surgery.rewriter
result = onnxprune.prune({str(DIGITS)!r})
traced = onnxprune.trace({str(DIGITS)!r})
plan = onnxprune.select(traced, onnxprune.score(traced))
slim = onnxprune.rewrite(traced.model, plan)
assert slim.proto == result.model.proto
assert onnxprune.verify(traced.model, slim, plan=plan, provider="cpu")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
