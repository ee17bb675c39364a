"""Flags that several verbs share. A verb subscribes to a set of them by its decorator.

The parameters bear the names of the keyword arguments of the Python API, so a verb passes them on
as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import UsageError, unknown_name
from ..model.writing import remove_abandoned
from ..printable import docstring
from .files import Target, also_read, check_targets, targets
from .isolation import Limits, in_child, possible

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


class Verb(click.Command):
    """A command that looks, before it works, at where its results go."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        settings["help"] = settings.get("help") or docstring(settings["callback"])
        super().__init__(name, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Check the targets, then run; in a process of its own where that is wanted and possible."""
        check_targets(ctx)
        limits = Limits(ctx.params.pop("time_limit", MOST_SECONDS), ctx.params.pop("memory_limit", None))
        isolate = ctx.params.pop("isolate", None)
        if isolate is None:
            isolate = ctx.info_name == "verify" or os.environ.get("CI") == "true"
        if not (isolate and ctx.obj and possible()):
            return super().invoke(ctx)
        try:
            raise click.exceptions.Exit(in_child(partial(super().invoke, ctx), limits))
        finally:
            for target in targets(ctx):
                remove_abandoned(Path(target))


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


class Bytes(click.ParamType[int]):
    """A number of bytes, with a unit or without."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        power = "KMG".find(text[-1:]) + 1 if text[-1:] else 0
        try:
            return int(float(text[:-1] if power else text) * 1024**power)
        except (ValueError, OverflowError):
            raise UsageError(
                f"{_flag(param).removeprefix('value of --')}: found '{value}', expected bytes such as 2G"
            ) from None


class Pass(click.Option):
    """An option that takes the name of a registered pass; help and mistakes list those there are."""

    def __init__(self, declarations: Sequence[str], **settings: Any) -> None:
        super().__init__(declarations, metavar="NAME", show_default=True, **settings)

    def registered(self) -> list[str]:
        """Names of the passes of the kind that the option is called after."""
        from ..scoring.registry import names

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


class Criterion(Pass):
    """A registered criterion, or scores that are given in a file."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Let the path of an .npz file pass."""
        if str(value).endswith(".npz"):
            return value
        return super().process_value(ctx, value)


def _ratio(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """A number, or ratios by layer from a TOML file or a table of the configuration."""
    if value is None or isinstance(value, Mapping) or str(value).endswith(".toml"):
        return _table(context, param, value)
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a valid float", context, param) from None


def _table(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """A table of the configuration, or a TOML file that holds one."""
    from ..selection.config import read_toml

    if value is None or isinstance(value, Mapping):
        return value
    also_read(context, value)
    return read_toml(value)


def _flag(param: click.Parameter | None) -> str:
    return f"value of {param.opts[-1]}" if param else "value"


def _together(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
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
        if isinstance(option, click.Option) and option.multiple and isinstance(found.get(str(option.name)), str):  # fmt: skip
            raise UsageError(f"{option.opts[-1].lstrip('-')}: found '{found[str(option.name)]}', expected a list")  # fmt: skip
    context.default_map = found


def settings(context: click.Context, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among some flags that were given, on the command line or in a file.

    A target on the command line replaces any in the file.
    """
    from ..selection.settings import TARGETS, Settings

    source = click.core.ParameterSource
    told = {name: context.get_parameter_source(name) for name in Settings.__annotations__ if name in flags}  # fmt: skip
    decided = any(told.get(name) is source.COMMANDLINE for name in TARGETS)
    return {
        name: flags[name]
        for name, place in told.items()
        if place is source.COMMANDLINE or (place is source.DEFAULT_MAP and not (decided and name in TARGETS))
    }


def trace_options(function: F) -> F:
    """``--norm``, ``--reshape-channel-axis``, ``--group-policy``: what counts as prunable."""
    return _together([
        click.option(
            "--norm", type=OneOf("prune", "pin"), default="prune", show_default=True,
            help="Channels whose removal changes the statistics of a normalization: prune them, "
            "with the statistics of those that are kept, or pin them.",
        ),
        click.option(
            "--reshape-channel-axis", type=OneOf(0, 1, -1, -2, "both"),
            help="Factor of a split channel axis that is pruned: 0 or -2 for the outer one (whole "
            "heads), 1 or -1 for the inner one, both for either, as groups of their own.  "
            "[default: by use]",
        ),
        click.option(
            "--group-policy", type=OneOf("average", "sum", "count", "none"), default="average",
            show_default=True, help="Blocks of a split channel axis keep the same inner channels, "
            "by their average or sum; or, with count and none, as many of their own.",
        ),
    ])(function)  # fmt: skip


def score_options(function: F) -> F:
    """``--criterion``, ``--normalizer``, ``--policy``, ``--samples``: how channels are scored."""
    return _together([
        click.option(
            "--criterion", cls=Criterion, default="l2",
            help="Score of a channel in one layer, or an .npz file of scores by weight or node.",
        ),
        click.option(
            "--normalizer", cls=Pass, default="max",
            help="Makes the scores of layers comparable.",
        ),
        click.option(
            "--policy", cls=Pass, default="average",
            help="One score from those of the layers that share a channel.",
        ),
        click.option(
            "--samples", type=int, metavar="N",
            help="Use so many samples of --data, for scores and for recovery.",
        ),
    ])(function)  # fmt: skip


def target_options(function: F) -> F:
    """``--ratio`` and whatever may stand in its place: how much goes."""
    return _together([
        click.option(
            "--ratio", type=click.UNPROCESSED, callback=_ratio, default=0.5, show_default=True, metavar="R|FILE.toml",
            help="Fraction of channels removed from every group, or such fractions by layer.",
        ),
        click.option(
            "--threshold", type=float, metavar="T",
            help="Keep the channels whose score is above T, and round their number up.",
        ),
        click.option(
            "--keep-macs", type=float, metavar="F", help="Share of the MACs that may remain.",
        ),
        click.option(
            "--keep-params", type=float, metavar="F",
            help="Share of the parameters that may remain.",
        ),
        click.option(
            "--keep-size", type=float, metavar="F",
            help="Share of the bytes of the file that may remain.",
        ),
        click.option(
            "--remove", type=click.UNPROCESSED, callback=_table, metavar="FILE.toml",
            help="Indices of the channels that go, by layer.",
        ),
        click.option(
            "--scope", type=OneOf("layer", "global"), default="layer", show_default=True,
            help="Prune every group alike, or rank the channels of all groups together.",
        ),
        click.option(
            "--allocate", type=OneOf("uniform", "global", "harm"),
            help="In place of --scope: uniform; global by cost per share of the budget; or such costs "
            "times what half of each group does to the outputs.  [default: harm for a budget with --data]",
        ),
    ])(function)  # fmt: skip


def selection_options(function: F) -> F:
    """How many channels go, and where."""
    return _together([
        target_options,
        click.option(
            "--granularity", type=int, default=8, show_default=True, metavar="N",
            help="Kept channel counts are multiples of N.",
        ),
        click.option(
            "--rounding", type=OneOf("nearest", "up", "down", "none"), default="up",
            show_default=True,
            help="Of the kept count, in steps of the granularity; up never removes more than is asked.",
        ),
        click.option(
            "--min-channels", type=int, default=1, show_default=True, metavar="N",
            help="Fewest channels kept in a group.",
        ),
        click.option(
            "--min-share", type=float, default=0.1, show_default=True, metavar="F",
            help="Smallest share of a group that rounding leaves; 0 with --threshold.",
        ),
        click.option(
            "--exclude", multiple=True, metavar="PATTERN",
            help="Leave groups whole whose name, node or weight matches; repeatable. A glob, or "
            "whole components of a path: 'layer1/conv1' matches '/layer1/conv1/Conv'.",
        ),
        click.option(
            "--include", multiple=True, metavar="PATTERN",
            help="Prune no other groups than those that match; repeatable.",
        ),
        click.option(
            "--preset", type=OneOf("tao", "netspresso", "rknn"),
            help="Defaults of another tool: NVIDIA TAO prune, NetsPresso model compressor, RKNN "
            "model_pruning (the clean-up alone).",
        ),
        click.option(
            "--config", metavar="FILE.toml", is_eager=True, expose_value=False,
            callback=_read_config,
            help="Settings by the names of these flags; those on the command line come first.",
        ),
    ])(function)  # fmt: skip


PROVIDERS = ("auto", "cuda", "tensorrt", "cpu")


def data_options(function: F) -> F:
    """``--data``, ``--profile``, ``--seed``, ``--provider``: what models run on."""
    return _together([
        click.option(
            "--data", metavar="PATH",
            help="Samples: an .npz file with an array per input, or a folder of .npy files or "
            "images; synthetic ones are made up otherwise.",
        ),
        click.option(
            "--profile", metavar="NAME|FILE|JSON",
            help="How images become inputs: imagenet, caffe, tf, unit, none, or JSON with size, "
            "resize, crop, layout, channels, scale, mean, std on top of a preset.",
        ),
        click.option(
            "--seed", type=int, default=0, show_default=True, metavar="N",
            help="Of synthetic inputs, and of criteria that draw random numbers.",
        ),
        click.option(
            "--provider", type=OneOf(*PROVIDERS), default="auto", show_default=True,
            help="Where onnxruntime runs; auto takes CUDA where it works.",
        ),
    ])(function)  # fmt: skip


def recover_options(function: F) -> F:
    """``--recover``, ``--memory``: how the weights are fitted after surgery."""
    return _together([
        click.option(
            "--recover", metavar="NAME",
            help="Fit the layers behind removed channels to the original's outputs on --data: none, "
            "bias, moments, lstsq, or auto, which also minds activations.  "
            "[default: auto with --data, else none]",
        ),
        click.option(
            "--memory", type=Bytes(), metavar="N[K|M|G]",
            help="Bytes that statistics of --data may take beside the models.  [default: 2G]",
        ),
    ])(function)  # fmt: skip


def sample_options(function: F) -> F:
    """``--samples``, ``--labels``: how many data, and what they show."""
    return _together([
        click.option(
            "--samples", type=int, metavar="N",
            help="Use the first N samples only.",
        ),
        click.option(
            "--labels", metavar="FILE|names",
            help="Class of every sample: a .json, .csv or .npy file, or 'names' for the number "
            "that a file name starts with.  [default: the array 'labels' of an .npz file]",
        ),
    ])(function)  # fmt: skip


def pair_options(function: F) -> F:
    """``--slim-provider``, ``--tf32``: how two models run beside each other."""
    return _together([
        click.option(
            "--slim-provider", type=OneOf(*PROVIDERS), metavar="PROVIDER",
            help="Where the slim model runs, if elsewhere.",
        ),
        click.option(
            "--tf32", is_flag=True,
            help="Let GPUs round the factors of float32 products to 10 bits.",
        ),
    ])(function)  # fmt: skip


def gate_options(function: F) -> F:
    """Limits beyond which the exit code is 1."""
    return _together([
        click.option("--min-cosine", type=float, metavar="C", help="Gate: cosine of the worst sample."),
        click.option("--max-abs", type=float, metavar="D", help="Gate: largest absolute difference."),
        click.option(
            "--min-agreement", type=float, metavar="F",
            help="Gate: share of samples with the same best class.",
        ),
        click.option(
            "--max-accuracy-drop", type=float, metavar="F",
            help="Gate: accuracy (or metric) of DENSE less that of SLIM.",
        ),
        click.option(
            "--max-latency-ratio", type=float, metavar="F",
            help="Gate: latency of SLIM over that of DENSE.",
        ),
    ])(function)  # fmt: skip


MOST_SECONDS = 3600.0
"""Seconds that a process of its own may take by default."""


def isolation_options(function: F) -> F:
    """``--isolate``, ``--time-limit``, ``--memory-limit``: a process of its own, and what it may take."""
    return _together([
        click.option(
            "--isolate/--no-isolate", default=None,
            help="Work in a process of its own, so that a model that crashes it is an error like any "
            "other.  [default: in verify, and where CI=true]",
        ),
        click.option(
            "--time-limit", type=click.FloatRange(min=0, min_open=True), default=MOST_SECONDS,
            show_default=True, metavar="SECONDS", help="Of that process.",
        ),
        click.option(
            "--memory-limit", type=click.FloatRange(min=0, min_open=True), metavar="GB",
            help="Of that process.  [default: nine tenths of the machine's]",
        ),
    ])(function)  # fmt: skip


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


def given(context: click.Context, names: Sequence[str]) -> list[str]:
    """Flags among some parameters that the user set on the command line."""
    source = click.core.ParameterSource.COMMANDLINE
    return [
        param.opts[-1]
        for param in context.command.params
        if param.name in names and context.get_parameter_source(param.name) is source
    ]
