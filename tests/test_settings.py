"""One row per setting: what the command line, TOML files, signatures and docstrings say is the table's."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ForwardRef

import click
import pytest

import onnxprune
from onnxprune.checks.gates import Limits
from onnxprune.data.dataset import DataSettings, open_data
from onnxprune.jobs.bench import bench
from onnxprune.jobs.sensitivity import sensitivity
from onnxprune.reports.comparison import MEASURES
from onnxprune.runtime.session import PROVIDERS as KNOWN_PROVIDERS
from onnxprune.selection.config import read_config
from onnxprune.selection.settings import (
    PRESETS,
    RecoverSettings,
    ScoreSettings,
    SelectSettings,
    Settings,
    TraceSettings,
    check,
    merge,
)
from onnxprune.settings.schema import form
from onnxprune.settings.table import ALONE, DEFAULTS, OPTIONS, PROVIDERS, TABLE, TARGETS, of
from onnxprune.timing.machine import MachineSettings

from .conftest import Run

STAGES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "trace": (TraceSettings, ()),
    "score": (ScoreSettings, ()),
    "select": (SelectSettings, ()),
    "recover": (RecoverSettings, ("memory",)),
    "machine": (MachineSettings, ()),
    "data": (DataSettings, ("data",)),
    "gates": (Limits, ()),
}
"""Static types of the settings of a stage, and names that it takes from elsewhere."""

FUNCTIONS: dict[Callable[..., Any], tuple[str, ...]] = {
    onnxprune.prune: ("job", "trace", "score", "select", "recover", "machine"),
    onnxprune.explain: ("job", "trace", "score", "select", "recover", "machine"),
    onnxprune.trace: ("trace",),
    onnxprune.score: ("score",),
    onnxprune.select: ("select",),
    onnxprune.verify: ("data", "pair", "gates"),
    bench: ("data", "pair", "bench"),
    sensitivity: ("data", "sensitivity"),
}

FLAGS = {
    "prune": ("job", "trace", "score", "select", "recover", "machine"),
    "explain": ("job", "trace", "select", "machine"),
    "inspect": ("trace",),
    "verify": ("data", "pair", "gates"),
    "bench": ("data", "pair", "bench"),
    "sensitivity": ("data", "sensitivity"),
    "clean": (),
}
"""Stages whose settings a verb has flags for, all of them."""


def written(kind: Any) -> dict[str, str]:
    """Annotations of a dictionary type, as they are written."""
    found = {
        name: a.__forward_arg__ if isinstance(a, ForwardRef) else a
        for name, a in kind.__annotations__.items()
    }
    return {name: str(text) for name, text in found.items()}


def flags(verb: str) -> dict[str, click.Option]:
    command = importlib.import_module(f"onnxprune.cli.{verb}").command
    return {str(p.name): p for p in command.params if isinstance(p, click.Option)}


@pytest.mark.parametrize("stage", STAGES)
def test_static_types_are_those_of_the_table(stage: str) -> None:
    kind, others = STAGES[stage]
    rows = {option.name: option.type for option in of(stage) if option.name not in others}
    assert rows == written(kind)


def test_each_name_has_one_row() -> None:
    assert len(OPTIONS) == len(TABLE)
    assert set(TARGETS) <= {option.name for option in of("select")}
    assert OPTIONS["preset"].choices == tuple(PRESETS)
    assert PROVIDERS[1:] == tuple(n for n in PROVIDERS if n in KNOWN_PROVIDERS)
    assert set(PROVIDERS) == {"auto", *KNOWN_PROVIDERS}


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.name)
def test_a_default_passes_its_own_check(option: Any) -> None:
    option.refuse(option.default, [option.default] if option.registry else ())
    assert option.help.endswith(".")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_signatures_show_the_table(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    wanted = {option.name: option.default for option in of(*FUNCTIONS[function])}
    assert wanted.items() <= {name: p.default for name, p in parameters.items()}.items()
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert "lambda" not in str(inspect.signature(function))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_docstrings_list_every_parameter(function: Callable[..., Any]) -> None:
    text = inspect.getdoc(function) or ""
    entries = re.findall(r"^(\w[\w, ]*)(?: :|$)", text, re.MULTILINE)
    listed = [name for names in entries for name in names.split(", ")]
    for name in inspect.signature(function).parameters:
        assert listed.count(name) == 1, name
    assert "**settings" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "\nRaises\n" in text or function is bench


def test_help_of_prune_says_what_comes_back() -> None:
    text = inspect.getdoc(onnxprune.prune) or ""
    assert (
        "\ngranularity : int | str, default 'auto'\n    Kept channel counts are multiples of N; auto" in text
    )
    assert "\nallocate : {'uniform', 'global', 'harm'}, default: harm for a budget with ``data``\n" in text
    assert "\nReturns\n-------\nResult\n" in text
    assert "\nBudgetError\n" in text


@pytest.mark.parametrize("verb", FLAGS)
def test_flags_are_those_of_the_table(verb: str) -> None:
    found = flags(verb)
    assert {option.name for option in of(*FLAGS[verb])} <= found.keys()
    for name, flag in found.items():
        if name not in OPTIONS:
            continue
        option = OPTIONS[name]
        assert flag.opts == [f"--{option.flag}"]
        default = ALONE.get(name, option.default) if verb == "sensitivity" else option.default
        if name == "ratios":
            default = ",".join(map(str, default))
        if default is None or default == () or option.type == "bool" or option.unset:
            assert not flag.show_default
            assert not option.unset or f"[default: {option.unset}]" in (flag.help or "")
        else:
            assert flag.default == default
        if (verb, name) != ("sensitivity", "criterion"):
            assert (flag.help or "").startswith(option.help)
        if option.choices and not option.registry:
            assert isinstance(flag.type, click.Choice)
            assert tuple(flag.type.choices) == option.choices


def test_settings_files_know_the_same_names(tmp_path: Path) -> None:
    named = {option.name for option in of("job", "trace", "score", "select", "recover", "machine")} - {
        "provider"
    }
    assert named == {"preset", *Settings.__annotations__}
    path = tmp_path / "settings.toml"
    values = {int: "1", float: "0.5", float | dict[str, float] | str: "0.5", int | str: "1"}
    lines = [f"{OPTIONS[n].flag} = {values.get(form(OPTIONS[n]), repr('text'))}\n" for n in sorted(named)]
    path.write_text("".join(lines))
    assert read_config(path, named).keys() == named
    for name in named:
        path.write_text(f"{name} = 1979-05-27\n")  # a date is no value of any setting
        with pytest.raises(onnxprune.UsageError, match=f"{name}: expected "):
            read_config(path, named)
    for name in named - {"preset"}:
        if name not in TARGETS and DEFAULTS[name] is not None:
            assert merge(None, {name: DEFAULTS[name]}, {}) == {name: DEFAULTS[name]}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("reshape_channel_axis", 2, "unknown reshape-channel-axis '2'"),
        ("reshape_channel_axis", True, "unknown reshape-channel-axis 'True'"),
        ("norm", "pine", "unknown norm 'pine'"),
        ("criterion", "l3", "unknown criterion 'l3'"),
        ("recover", "lsq", "unknown recover 'lsq'"),
        ("samples", 0, "samples: found 0, expected at least 1"),
        ("ratio", 1.0, "ratio: found 1, expected 0 <= ratio < 1"),
        ("exclude", "stem", "exclude: found stem, expected a list of patterns"),
    ],
)
def test_impossible_values_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(onnxprune.UsageError) as error:
        check(name, value)
    assert error.value.message == message


def test_whole_numbers_of_arrays_are_whole_numbers() -> None:
    np = pytest.importorskip("numpy")
    check("granularity", np.int64(4))
    check("ratio", np.float32(0.5))


@pytest.mark.parametrize("text", ['"stage1/first" = 0.25\n', '[ratio]\n"stage1/first" = 0.25\n'])
def test_ratios_stand_alone_or_in_their_table(prune: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "ratios.toml"
    path.write_text(text)
    document: Mapping[str, Any] = prune("--ratio", path, "--json").document
    counts = {g["name"]: g["kept"] for g in document["groups"]}
    assert counts["/stage1/first/conv/Conv"] == 24
    assert document["options"]["ratio"] == {"stage1/first": 0.25}


def test_indices_may_stand_in_their_table(prune: Run, tmp_path: Path) -> None:
    path = tmp_path / "gone.toml"
    path.write_text('[remove]\n"stem/conv" = [0, 5]\n')
    assert prune("--remove", path, "--json").document["groups"][0]["kept"] == 30


def test_a_table_beside_other_settings_is_refused(prune: Run, tmp_path: Path) -> None:
    path = tmp_path / "ratios.toml"
    path.write_text('granularity = 4\n[ratio]\n"*" = 0.25\n')
    outcome = prune("--ratio", path)
    assert outcome.code == 2
    assert outcome.err == (
        f"error: ratio: '{path}' holds 'granularity' beside the table [ratio], expected that table alone\n"
        "hint: Settings of several kinds go with --config.\n"
    )


def test_made_up_data_take_the_table_s_seed() -> None:
    assert inspect.signature(open_data).parameters["seed"].default == DEFAULTS["seed"]


def test_sensitivity_shows_what_it_measures() -> None:
    measure = flags("sensitivity")["measure"].type
    assert isinstance(measure, click.Choice)
    assert tuple(measure.choices) == tuple(MEASURES)
