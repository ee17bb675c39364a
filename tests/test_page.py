"""Tables of texts: how they are folded to the width of a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from rich.cells import cell_len

from onnxprune.reports.page import NARROWEST, Table, fold, layout, numbers, words

from .conftest import ROOT, Run
from .test_passes import with_batch_norm


def lines(table: Table, width: int) -> list[str]:
    return [line for row in layout(table, table.rows, width) for line in row]


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ("", 5, [""]),
        ("stem/conv/Conv", 20, ["stem/conv/Conv"]),
        ("/stage1/first/conv/Conv", 15, ["/stage1/first/", "conv/Conv"]),
        ("features.denseblock1.norm", 12, ["features.", "denseblock1.", "norm"]),
        ("layer_normalization_two", 16, ["layer_", "normalization_", "two"]),
        ("Carries the labels of its input.", 12, ["Carries the", "labels of", "its input."]),
        ("MatMul needs /encoder/layer.0/query", 16, ["MatMul needs", "/encoder/layer.", "0/query"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
    ],
)
def test_names_are_folded_behind_separators(text: str, width: int, wanted: list[str]) -> None:
    assert fold(text, width) == wanted


def test_folding_loses_nothing_and_keeps_the_width() -> None:
    names = ["/a/bb.c_dd" * 9, "word " * 12 + "x" * 50, "\u6f22\u5b57/" * 20]
    for name in names:
        for width in range(2, 40):
            found = fold(name, width, cell_len)
            assert "".join(found).replace(" ", "") == name.replace(" ", "")
            assert max(map(cell_len, found)) <= width


def test_the_widest_column_gives_way() -> None:
    table = Table(
        (*words("group"), *numbers("channels"), *words("why")),
        (("/model/encoder/layer_norm", "1,024", "it is an output"),),
    )
    assert lines(table, 80) == [
        "group                      channels  why",
        "/model/encoder/layer_norm     1,024  it is an output",
    ]
    assert lines(table, 42) == [
        "group            channels  why",
        "/model/encoder/     1,024  it is an output",
        "layer_norm",
    ]
    assert lines(table, 1)[1].startswith("/model/"), "no column is narrower than it can be read"
    assert len(lines(table, 1)[0].split("  ")[0].ljust(NARROWEST)) == NARROWEST


def test_a_table_without_titles_has_no_line_of_them() -> None:
    assert lines(Table((*words(""), *numbers("")), (("a", "1"), ("bb", "22"))), 80) == ["a    1", "bb  22"]


def test_long_names_stay_whole_between_separators(run: Run, tmp_path: Path) -> None:
    model = with_batch_norm()
    parts = ("encoder", "transformer_block", "attention_output", "normalization_before", "projection")
    for k, node in enumerate(model.graph.node):
        node.name = "/" + "/".join([*parts, *parts, f"{node.op_type}_{k}"])
    path = tmp_path / "long.onnx"
    onnx.save(model, path)
    table = run("inspect", path).out.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 80
    words = {w for line in table.splitlines()[1:] for w in re.split(r"[/_\s]+", line) if w.isalpha()}
    assert words
    assert words <= {"Conv", "Gemm", *re.split("[/_]", "/".join(parts))}


def test_only_the_command_line_knows_the_terminal() -> None:
    """Neither click nor rich is loaded by the API or its reports."""
    code = (
        "import sys, onnxprune, onnxprune.jobs.prune, onnxprune.jobs.bench, onnxprune.reports.tables,"
        "onnxprune.reports.outcome; print([m for m in ('click', 'rich') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
    for path in (ROOT / "onnxprune").rglob("*.py"):
        if "cli" not in path.parts:
            assert not re.search(r"^\s*(from|import) (click|rich)\b", path.read_text(), re.MULTILINE), path
