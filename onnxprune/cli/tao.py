"""NVIDIA TAO's prune, with its own flags and spec files."""

from __future__ import annotations

from typing import Any

import click

from . import options
from .handing import costs, hand_over
from .progress import say

EXCLUDED = ("-el", "--excluded_layers")


class Prune(options.Verb):
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


@click.group()
def command() -> None:
    """NVIDIA TAO's prune: its flags and its spec, on an ONNX export."""


@command.command("prune", cls=Prune)
@click.option("-e", "--experiment_spec", "spec", metavar="SPEC.yaml", help="A spec; flags come first.")
@click.option("-m", "-pm", "--model", "--pretrained_model", "model", metavar="MODEL.onnx", help="What is pruned: an ONNX export.")  # fmt: skip
@click.option("-o", "--output_file", "--output_dir", "--results_dir", "output", metavar="OUT", help="A .onnx file, or a folder; it is made.")  # fmt: skip
@click.option("-n", "--normalizer", metavar="max|L2|off", help="Default max.")
@click.option("-eq", "--equalization_criterion", metavar="NAME", help="union, intersection, arithmetic_mean or geometric_mean. Default union.")  # fmt: skip
@click.option("-pg", "--pruning_granularity", type=int, metavar="N", help="Default 8.")
@click.option(
    "-pth", "--pruning_threshold", type=float, metavar="T", help="On the normalized norm. Default 0.1."
)
@click.option("-nf", "--min_num_filters", type=int, metavar="N", help="Default 16.")
@click.option("-el", "--excluded_layers", multiple=True, metavar="NAME ...", help="Layers that stay whole.")
@click.option(
    "-k", "--key", metavar="KEY", help="Taken and not used: it opens .tlt files, which only TAO reads."
)
@options.json_option
@options.quiet_option
@click.pass_context
def prune(context: click.Context, /, spec: str | None, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Prune an ONNX export as TAO prunes: a threshold on normalized norms, coupled layers equalized."""
    from ..doors.tao import arguments, read_spec

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    chosen = {**(read_spec(spec) if spec else {}), **given}
    handed, notes = arguments(chosen)
    hand_over(context, handed, notes, quiet, as_json)
    if not (quiet or as_json):
        (before, *_), (after, *_) = costs(handed[0], handed[2])
        say(f"pruning ratio (pruned model / original model): {after / before if before else 1:.6f}")
