"""Flags that several verbs share. A verb subscribes to a set of them by its decorator.

The parameters bear the names of the keyword arguments of the Python API, so a verb passes them on
as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import click

from ..errors import UsageError
from ..plugins import load_plugin
from ..settings.table import BUDGETS, OPTIONS, TARGETS, of
from .files import Target, also_read
from .isolation import MOST_SECONDS
from .values import Bytes, Criterion, OneOf, Pass, number_or_name, ratio, table

F = TypeVar("F", bound=Callable[..., Any])


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator for several options, shown in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _read_config(context: click.Context, param: click.Parameter, value: str | None) -> None:
    """Let a file give the values of flags that are not on the command line."""
    if value is None:
        return
    from ..selection.config import read_config

    also_read(context, value)
    named = {
        flag.lstrip("-").replace("-", "_"): str(option.name)
        for option in context.command.params
        for flag in (*option.opts, *option.secondary_opts)
        if flag.startswith("--") and option is not param
    }
    found = {named[name]: setting for name, setting in read_config(value, named).items()}
    for option in context.command.params:
        if isinstance(option, Target) and option.name in found:
            raise UsageError(
                f"'{value}' says where to write: {option.opts[-1].lstrip('-')}",
                "Give that on the command line.",
            )
        given = found.get(str(option.name))
        if isinstance(option, click.Option) and option.multiple and isinstance(given, str):
            raise UsageError(f"{option.opts[-1].lstrip('-')}: found '{given}', expected a list")
    context.default_map = found


def _load_plugins(context: click.Context, param: click.Parameter, value: tuple[str, ...]) -> None:
    """Import plugins before any name is looked up."""
    for name in value:
        if name.endswith(".py"):
            also_read(context, name)
        load_plugin(name)


plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py|MODULE",
    is_eager=True,
    expose_value=False,
    callback=_load_plugins,
    help="Python code that registers criteria, rules, metrics and the like.  [repeatable]",
)


def settings(context: click.Context, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among some flags that were given, on the command line or in a file.

    A target on the command line replaces any in the file.
    """
    from ..selection.settings import Settings

    source = click.core.ParameterSource
    known = [name for name in Settings.__annotations__ if name in flags]
    told = {name: context.get_parameter_source(name) for name in known}
    decided = any(told.get(name) is source.COMMANDLINE for name in TARGETS)
    return {
        name: flags[name]
        for name, place in told.items()
        if place is source.COMMANDLINE or (place is source.DEFAULT_MAP and not (decided and name in TARGETS))
    }


SPECIAL: dict[str, dict[str, Any]] = {
    "ratio": {"type": click.UNPROCESSED, "callback": ratio},
    "remove": {"type": click.UNPROCESSED, "callback": table},
    "memory": {"type": Bytes()},
    "granularity": {"type": click.UNPROCESSED, "callback": number_or_name},
    "criterion": {"cls": Criterion},
    "normalizer": {"cls": Pass},
    "policy": {"cls": Pass},
    "recover": {"type": str},
}
"""Settings whose flags take more than a value of a plain type."""

TYPES = {"int": int, "int | None": int, "float": float, "float | None": float}


def setting(name: str, **more: Any) -> Callable[[F], F]:
    """The flag of a setting, from its row in the table.

    Parameters
    ----------
    **more
        What differs in one verb.
    """
    option = OPTIONS[name]
    if option.type == "bool":
        return click.option(f"--{option.flag}", is_flag=True, help=option.help)
    known: dict[str, Any] = {"help": option.help}
    if option.metavar:
        known["metavar"] = option.metavar
    if option.unset:
        known["help"] += f"  [default: {option.unset}]"
    elif option.default not in (None, ()):
        known |= {"default": option.default, "show_default": True}
    if option.type == "Sequence[str]":
        known["multiple"] = True
        known["help"] += "  [repeatable]"
    elif option.choices:
        known["type"] = OneOf(*option.choices)
    elif option.type in TYPES:
        known["type"] = TYPES[option.type]
    return click.option(f"--{option.flag}", **{**known, **SPECIAL.get(name, {}), **more})


def _settings(*names: str) -> Callable[[F], F]:
    return _together(*map(setting, names))


trace_options = _settings("norm", "reshape_channel_axis", "group_policy", "parts")
"""What counts as prunable."""

score_options = _settings("criterion", "normalizer", "policy", "samples")
"""How channels are scored."""

config_option = click.option(
    "--config",
    metavar="FILE.toml",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="Settings by the names of these flags; those on the command line come first.",
)

selection_options = _together(_settings(*(o.name for o in of("select"))), setting("preset"), config_option)
"""How many channels go, and where."""

budget_options = _settings(*BUDGETS)
"""How much may remain."""

data_options = _settings("data", "profile", "seed", "provider")
"""What models run on."""

machine_options = _settings(*(option.name for option in of("machine")))
"""How models run that are timed."""

latency_option = click.option("--latency", is_flag=True, help="Time the model, and show milliseconds, too.")

recover_options = _settings("recover", "memory")
"""How the weights are fitted after surgery."""

sample_options = _settings("samples", "labels")
"""How many data, and what they show."""

pair_options = _settings(*(option.name for option in of("pair")))
"""How two models run beside each other."""

gate_options = _settings(*(option.name for option in of("gates")))
"""Limits beyond which the exit code is 1."""

isolation_options = _together(
    click.option(
        "--isolate/--no-isolate",
        default=None,
        help="Work in a process of its own, so that a model that crashes it is an error like any "
        "other.  [default: in verify, and where CI=true]",
    ),
    click.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        default=MOST_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Of that process.",
    ),
    click.option(
        "--memory-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GB",
        help="Of that process.  [default: nine tenths of the machine's]",
    ),
)
"""A process of its own, and what it may take."""


def out_option(text: str, kind: type[Target] = Target) -> Callable[[F], F]:
    """Where the result goes."""
    return click.option("-o", "--output", "out", cls=kind, required=True, metavar="OUT", help=text)


plan_out_option = click.option(
    "--plan-out", cls=Target, metavar="FILE", help="Write the plan: what is kept in every layer."
)
verify_option = click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Check the result before it is written."
)
markdown_option = click.option(
    "--markdown", cls=Target, metavar="FILE", help="Write Markdown for a pull request."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
unchanged_option = click.option(
    "--fail-if-unchanged", is_flag=True, help="Write nothing where nothing can go, and exit with 1."
)
html_option = click.option(
    "--html",
    cls=Target,
    metavar="FILE",
    help="Write the report as one page for a browser, with a picture of the network.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


def refuse_beside(context: click.Context, beside: str, names: Collection[str], why: str) -> None:
    """Refuse flags on the command line that another one leaves without effect.

    Raises
    ------
    UsageError
        With the first of them.
    """
    told = click.core.ParameterSource.COMMANDLINE
    for param in context.command.params:
        if param.name in names and context.get_parameter_source(param.name) is told:
            raise UsageError(f"{param.opts[-1]} has no effect with {beside}", why)
