"""The NetsPresso model compressor, with its own options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import options
from .progress import say
from .prune import hand_over
from .verb import Verb

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, **settings: Any) -> Callable[[F], F]:
    """An option with ``-`` or ``_`` in its name."""
    both = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    return click.option(*both, name, **settings)


@click.group()
def command() -> None:
    """The NetsPresso model compressor: its methods and options."""


@command.command("compress", cls=Verb)
@click.argument("model")
@click.option(
    "-o",
    "--output",
    "--output_dir",
    "--output-dir",
    "output",
    required=True,
    metavar="OUT",
    help="A .onnx file, or a folder; it is made.",
)
@_option("compression_method", metavar="NAME", help="PR_L2 (default), PR_GM, PR_NN, PR_ID.")
@_option(
    "recommendation_method", metavar="SLAMP", help="Rank all channels of the network; so does none of both."
)
@click.option(
    "--ratio",
    "--compression_ratio",
    "--compression-ratio",
    "--recommendation_ratio",
    "--recommendation-ratio",
    "ratio",
    type=float,
    metavar="R",
    help="Share of the channels that goes. Default 0.5.",
)
@click.option("--values", metavar="FILE.toml", help="Ratios, or for PR_ID indices, by layer.")
@_option("policy", metavar="NAME", help="sum, average (default), backward.")
@_option(
    "layer_norm",
    metavar="NAME",
    help="none, standard_score (default), tss_norm, linear_scaling, softmax_norm.",
)
@_option("group_policy", metavar="NAME", help="sum, average (default), count, none.")
@_option("reshape_channel_axis", type=int, metavar="K", help="0, 1, -1 (default), -2.")
@_option("step_size", type=int, metavar="N", help="Default 2.")
@_option("step_op", metavar="NAME", help="round_up, round_down, round (default), none.")
@click.option("--reverse", is_flag=True, help="Refused: what it means is not public.")
@click.option(
    "--data", "--dataset_path", "--dataset-path", "data", metavar="PATH", help="Samples; PR_NN takes them."
)
@options.json_option
@options.quiet_option
@click.pass_context
def compress(context: click.Context, /, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Compress MODEL, an ONNX file, by removing channels as NetsPresso does."""
    from ..doors.counted import counted
    from ..doors.netspresso import arguments

    handed, notes = arguments(flags)
    hand_over(context, handed, notes, quiet, as_json)
    if not (quiet or as_json):
        before, after = counted(handed[0]), counted(handed[2])
        pairs = (before.parameters, after.parameters, "parameters"), (before.macs, after.macs, "MACs")
        times = [f"{x / y:.2f}x fewer {what}" for x, y, what in pairs if y]
        say(f"compressed: {', '.join(times)}")
