"""Flags that several verbs share. A verb subscribes to a set of them by its decorator.

The parameters bear the names of the keyword arguments of the Python API, so a verb passes them on
as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ..errors import unknown_name

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


class OneOf(click.Choice[Any]):
    """One of a few values; a mistake names the nearest."""

    def __init__(self, *values: str | int) -> None:
        super().__init__(values)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of that name."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise unknown_name(_flag(param), str(value), map(str, self.choices)) from None


class Pass(click.Option):
    """An option that takes the name of a registered pass; help and mistakes list those there are."""

    def __init__(self, declarations: Sequence[str], **settings: Any) -> None:
        super().__init__(declarations, metavar="NAME", show_default=True, **settings)

    def registered(self) -> list[str]:
        """Names of the passes of the kind that the option is called after."""
        from ..registry import names

        return names(str(self.name))

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Add the names to the help."""
        flag, text = super().get_help_record(ctx) or ("", "")
        return flag, f"{text}  One of: {', '.join(self.registered())}."

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Refuse a name that nothing is registered under."""
        if value is not None and value not in self.registered():
            raise unknown_name(_flag(self), value, self.registered())
        return super().process_value(ctx, value)


def _flag(param: click.Parameter | None) -> str:
    return f"value of {param.opts[-1]}" if param else "value"


def _together(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """One decorator for several options, shown in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def trace_options(function: F) -> F:
    """``--norm``, ``--reshape-channel-axis``: what counts as prunable."""
    return _together([
        click.option(
            "--norm", type=OneOf("prune", "pin"), default="prune", show_default=True,
            help="Channels whose removal changes the statistics of a normalization: prune them, "
            "with the statistics of those that are kept, or pin them.",
        ),
        click.option(
            "--reshape-channel-axis", type=OneOf(0, 1, -1, -2),
            help="Factor of a split channel axis that is pruned: 0 or -2 for the outer one (whole "
            "heads), 1 or -1 for the inner one.  [default: by use]",
        ),
    ])(function)  # fmt: skip


def score_options(function: F) -> F:
    """``--criterion``, ``--normalizer``, ``--policy``: how channels are scored."""
    return _together([
        click.option(
            "--criterion", cls=Pass, default="l2",
            help="Score of a channel in one layer.",
        ),
        click.option(
            "--normalizer", cls=Pass, default="max",
            help="Makes the scores of layers comparable.",
        ),
        click.option(
            "--policy", cls=Pass, default="average",
            help="One score from those of the layers that share a channel.",
        ),
    ])(function)  # fmt: skip


def selection_options(function: F) -> F:
    """How many channels go, and where."""
    return _together([
        click.option(
            "--ratio", type=float, default=0.5, show_default=True, metavar="R",
            help="Fraction of channels removed from every group.",
        ),
        click.option(
            "--granularity", type=int, default=8, show_default=True, metavar="N",
            help="Kept channel counts are multiples of N.",
        ),
        click.option(
            "--rounding", type=OneOf("nearest", "up", "down", "none"), default="nearest",
            show_default=True, help="Of the kept count, in steps of the granularity.",
        ),
        click.option(
            "--min-channels", type=int, default=1, show_default=True, metavar="N",
            help="Fewest channels kept in a group.",
        ),
        click.option(
            "--exclude", multiple=True, metavar="PATTERN",
            help="Leave groups whole whose name, node or weight matches; repeatable. A glob, or "
            "whole components of a path: 'layer1/conv1' matches '/layer1/conv1/Conv'.",
        ),
    ])(function)  # fmt: skip


def data_options(function: F) -> F:
    """``--data``, ``--seed``, ``--provider``: what models run on."""
    return _together([
        click.option(
            "--data", metavar="FILE.npz",
            help="Inputs by name; synthetic ones are made up otherwise.",
        ),
        click.option(
            "--seed", type=int, default=0, show_default=True, metavar="N",
            help="Of synthetic inputs, and of criteria that draw random numbers.",
        ),
        click.option(
            "--provider", type=OneOf("auto", "cuda", "cpu"), default="auto", show_default=True,
            help="Where onnxruntime runs; auto takes CUDA where it works.",
        ),
    ])(function)  # fmt: skip


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


def given(context: click.Context, names: Sequence[str]) -> list[str]:
    """Flags among some parameters that the user set on the command line."""
    source = click.core.ParameterSource.COMMANDLINE
    return [
        param.opts[-1]
        for param in context.command.params
        if param.name in names and context.get_parameter_source(param.name) is source
    ]
