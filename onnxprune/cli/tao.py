"""NVIDIA TAO's prune, with its own flags and spec files."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import click

from . import options
from .progress import say
from .prune import hand_over
from .verb import Verb

EXCLUDED = ("-el", "--excluded_layers")

NETWORK = "onnxprune.tao"
"""Where the context has the name of the network."""


class Prune(Verb):
    """A verb with a flag that takes several values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read ``-el a b c`` as that flag once for each."""
        flat: list[str] = []
        inside = False
        for argument in args:
            if argument in EXCLUDED:
                inside = True
            elif inside and not argument.startswith("-"):
                flat += [EXCLUDED[0], argument]
            else:
                inside = False
                flat.append(argument)
        return super().parse_args(ctx, flat)


class Tao(click.Group):
    """A group that skips what TAO's own launcher has before the verb: ``model``, and a network."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, and remember the network."""
        words = list(takewhile(lambda word: word not in self.commands, args))
        if len(words) < len(args) and len(words) <= 2:
            ctx.meta[NETWORK] = words[-1] if words else ""
            args = args[len(words) :]
        return super().resolve_command(ctx, args)


@click.group(cls=Tao)
def command() -> None:
    """NVIDIA TAO's prune: its flags and its spec, on an ONNX export."""


@command.command("prune", cls=Prune)
@click.argument("changes", nargs=-1, metavar="[prune.KEY=VALUE]...")
@click.option(
    "-e",
    "--experiment_spec",
    "--experiment_spec_file",
    "--experiment_spec_path",
    "spec",
    metavar="SPEC.yaml",
    help="A spec; flags come first.",
)
@click.option(
    "-m",
    "-pm",
    "--model",
    "--pretrained_model",
    "model",
    metavar="MODEL.onnx",
    help="What is pruned: an ONNX export.",
)
@click.option(
    "-o",
    "--output_file",
    "--output_dir",
    "output",
    metavar="OUT",
    help="A .onnx file, or a folder; it is made.",
)
@click.option("--results_dir", metavar="OUT", help="The same, where there is no -o.")
@click.option("-n", "--normalizer", metavar="max|L2|off", help="Default max.")
@click.option(
    "-eq",
    "--equalization_criterion",
    metavar="NAME",
    help="union, intersection, arithmetic_mean or geometric_mean. Default union.",
)
@click.option("-pg", "--pruning_granularity", type=int, metavar="N", help="Default 8.")
@click.option(
    "-pth", "--pruning_threshold", type=float, metavar="T", help="On the normalized norm. Default 0.1."
)
@click.option("-nf", "--min_num_filters", type=int, metavar="N", help="Default 16.")
@click.option("-el", "--excluded_layers", multiple=True, metavar="NAME ...", help="Layers that stay whole.")
@click.option(
    "-k", "--key", metavar="KEY", help="Taken and not used: it opens .tlt files, which only TAO reads."
)
@click.option("-v", "--verbose", is_flag=True, hidden=True, expose_value=False)
@click.option("--gpus", "--gpu_index", "--num_processes", "--log_file", hidden=True, expose_value=False)
@options.json_option
@options.quiet_option
@click.pass_context
def prune(
    context: click.Context,
    /,
    changes: tuple[str, ...],
    spec: str | None,
    results_dir: str | None,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Prune an ONNX export as TAO prunes: a threshold on normalized norms, coupled layers equalized."""
    from ..doors.counted import counted
    from ..doors.tao import TRAINING, YAML, arguments, read_spec

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    given["network"] = context.meta.get(NETWORK, "")
    if results_dir:
        given.setdefault("output", results_dir)
    told = [] if not spec or spec.lower().endswith(YAML) else [TRAINING]
    read = read_spec("" if told else spec or "", changes) if changes or (spec and not told) else {}
    handed, notes = arguments({**read, **given})
    hand_over(context, handed, told + notes, quiet, as_json)
    if not (quiet or as_json):
        before, after = (counted(path).parameters for path in (handed[0], handed[2]))
        say(f"pruning ratio (pruned model / original model): {after / before if before else 1:.6f}")
