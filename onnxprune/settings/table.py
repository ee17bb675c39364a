"""The table of settings: name, stages, type, default, help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .option import Option, finite, granularity, indices, integer, not_nan, number, patterns, ratio, share

TITLES = {"cuda": "CUDA", "tensorrt": "TensorRT", "openvino": "OpenVINO"}
"""Execution providers that may not run, and what each is called."""

PROVIDERS = ("auto", *TITLES, "cpu")

ORT = "ort"
"""What stands for the ORT format among places to verify on."""

TABLE = (
    Option(
        "preset", ("job",), "str | None", None,
        "Defaults of another tool: NVIDIA TAO prune, NetsPresso model compressor, RKNN "
        "model_pruning (the clean-up alone).",
        choices=("tao", "netspresso", "rknn"),
    ),
    # trace
    Option(
        "norm", ("trace",), "str", "prune",
        "Channels whose removal changes the statistics of a normalization: prune them, "
        "with the statistics of those that are kept, or pin them.",
        "Such are LayerNormalization and a mean over channels.",
        choices=("prune", "pin"),
    ),
    Option(
        "reshape_channel_axis", ("trace",), "int | str | None", None,
        "Factor of a split channel axis that is pruned: 0 or -2 for the outer one (whole "
        "heads), 1 or -1 for the inner one, both for either, as groups of their own.",
        "By default whole heads, whole GroupNormalization groups, the inside of the groups of a grouped "
        "convolution, and otherwise the larger factor; where one axis is cut in several ways, what leaves "
        "most units.",
        choices=(0, 1, -1, -2, "both"), unset="by use",
    ),
    Option(
        "group_policy", ("trace",), "str", "average",
        "Blocks of a split channel axis keep the same inner channels, by their average or sum; or, with "
        "count and none, as many of their own.",
        "That is where it is legal; the notes of a trace say where it is not.",
        choices=("average", "sum", "count", "none"),
    ),
    Option(
        "parts", ("trace",), "str", "free",
        "Equal parts that a tensor is divided into keep as many channels as it fits, or stay equal.",
        "Code such as ``chunk(2)`` needs equal ones, where a module is trained on; they lose the same entries.",
        choices=("free", "equal"),
    ),
    # score
    Option(
        "criterion", ("score",), "str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | Criterion", "l2",
        "Score of a channel in one layer, or an .npz file of scores by weight or node; pruning on --data takes "
        "reconstruction where none is named.",
        "A registered name; or scores by weight or node name, as a mapping or such a file; or a function "
        "of the same form (see ``onnxprune.registry``).",
        registry="criterion",
    ),
    Option(
        "normalizer", ("score",), "str | Normalizer", "max",
        "Makes the scores of layers comparable.", "A registered name, or a function.",
        registry="normalizer",
    ),
    Option(
        "policy", ("score",), "str | Policy", "average",
        "One score from those of the layers that share a channel.",
        "A registered name, or a function. With backward every criterion is taken of the tensor behind "
        "the last join of a group.",
        registry="policy",
    ),
    # select
    Option(
        "ratio", ("select",), "float | Mapping[str, float]", 0.5,
        "Fraction of channels removed from every group, or such fractions by layer.",
        "0 <= ratio < 1; by group, node or weight name in a mapping, where groups that it does not name "
        "keep everything. Another target takes its place.",
        check=ratio, metavar="R|FILE.toml", hint="It is the fraction of channels removed, such as 0.5.",
    ),
    Option(
        "threshold", ("select",), "float", None,
        "Keep the channels whose score is above T, and round their number up.",
        "The score is the merged one, and strictly above: NVIDIA TAO's counting.",
        check=finite, metavar="T",
    ),
    Option(
        "keep_macs", ("select",), "float", None, "Share of the MACs that may remain.",
        "Budgets may be combined.", check=share, metavar="F",
    ),
    Option(
        "keep_params", ("select",), "float", None, "Share of the parameters that may remain.",
        check=share, metavar="F",
    ),
    Option(
        "keep_size", ("select",), "float", None, "Share of the bytes of the file that may remain.",
        check=share, metavar="F",
    ),
    Option(
        "keep_latency", ("select",), "float", None,
        "Share of the latency that may remain, as measured on --provider with --threads and --batch.",
        "What fewer channels bring is predicted from one profile of the original; ``onnxprune.prune`` "
        "measures the result and corrects the prediction until the budget holds.",
        check=share, metavar="F",
    ),
    Option(
        "remove", ("select",), "Mapping[str, Sequence[int]]", None,
        "Indices of the channels that go, by layer.", check=indices, metavar="FILE.toml",
    ),
    Option(
        "scope", ("select",), "str", "layer",
        "Prune every group alike, or rank the channels of all groups together; for a latency by score per "
        "time that is saved.",
        choices=("layer", "global"),
    ),
    Option(
        "allocate", ("select",), "str", None,
        "In place of --scope: uniform; global by cost per share of the budget; or such costs "
        "times what half of each group does to the outputs.",
        "Uniform is layer. Global ranks by score where the criterion knows no costs. What groups do is "
        "measured by ``onnxprune.prune``. Costs leave at least an eighth of a group unless told.",
        choices=("uniform", "global", "harm"), unset="harm for a budget with --data",
    ),
    Option(
        "granularity", ("select",), "int | str", "auto",
        "Kept channel counts are multiples of N; auto takes for every group what --target rewards.",
        "Or the whole group. Counts that fill no block of the kernels can run slower than the unpruned "
        "model; auto takes smaller steps where a group is too narrow for what is asked, and, with --data, where "
        "larger ones are expected to harm more.",
        check=granularity, metavar="N|auto",
    ),
    Option(
        "target", ("select",), "str | None", None,
        "Whose kernels auto has in mind.",
        "Nothing is measured for it, so a plan does not depend on the machine where it is made; but with "
        "--keep-latency it is the machine that is timed.",
        choices=("ort-cpu", "openvino", "cuda", "tensorrt"),
        unset="ort-cpu, or what is timed",
    ),
    Option(
        "rounding", ("select",), "str", "up",
        "Of the kept count, in steps of the granularity; up never removes more than is asked.",
        "To the nearest, halves go down; in steps of one channel ``round(ratio * channels)`` go.",
        choices=("nearest", "up", "down", "none"),
    ),
    Option(
        "min_channels", ("select",), "int", 1, "Fewest channels kept in a group.",
        check=integer(1), metavar="N",
    ),
    Option(
        "min_share", ("select",), "float", 0.1,
        "Smallest share of a group that rounding leaves; 0 with --threshold, an eighth where costs on --data decide.",
        "A tenth keeps layers from collapsing (PruningBench, arXiv 2406.12315).",
        check=number("a share from 0 to 1", lambda value: 0 <= value <= 1), metavar="F",
    ),
    Option(
        "exclude", ("select",), "Sequence[str]", (),
        "Leave groups whole whose name, node or weight matches. A glob, or "
        "whole components of a path: 'layer1/conv1' matches '/layer1/conv1/Conv'.",
        check=patterns, metavar="PATTERN",
    ),
    Option(
        "include", ("select",), "Sequence[str]", (),
        "Prune no other groups than those that match.", check=patterns, metavar="PATTERN",
    ),
    # data
    Option(
        "data", ("score", "data"), "Data | None", None,
        "Samples: an .npz file with an array per input, or a folder of .npy files or "
        "images; synthetic ones are made up otherwise.",
        "Or a mapping of arrays by input, or a ``DataSet`` of batches.", metavar="PATH",
    ),
    Option(
        "labels", ("data",), "Any", None,
        "Class of every sample: a .json, .csv or .npy file, or 'names' for the number "
        "that a file name starts with.",
        metavar="FILE|names", unset="the array 'labels' of an .npz file",
    ),
    Option(
        "samples", ("score", "data"), "int | None", None, "Use N samples of --data, evenly spread.",
        "Of synthetic inputs, so many runs.", check=integer(1), metavar="N", unset="512 for recovery, else all",
    ),
    Option(
        "profile", ("score", "data"), "Any", None,
        "How images become inputs: imagenet, caffe, tf, unit, none, or JSON with size, "
        "resize, crop, layout, channels, scale, mean, std on top of a preset.",
        metavar="NAME|FILE|JSON",
    ),
    Option(
        "seed", ("score", "data"), "int", 0,
        "Of synthetic inputs, and of criteria that draw random numbers.", check=integer(0), metavar="N",
    ),
    Option(
        "provider", ("job",), "str", "auto",
        "Where onnxruntime runs; auto takes CUDA where it works.", choices=PROVIDERS,
    ),
    Option(
        "slim_provider", ("pair",), "str | None", None, "Where the slim model runs, if elsewhere.",
        choices=PROVIDERS, metavar="PROVIDER",
    ),
    Option(
        "tf32", ("pair",), "bool", False,
        "Let GPUs round the factors of float32 products to 10 bits.",
    ),
    Option(
        "also", ("matrix",), "Sequence[str]", (),
        "Verify there, too: each provider is a row, and one that does not run is an error; "
        "ort is the slim model in onnxruntime's own format, on the CPU.",
        metavar="PROVIDER",
    ),
    Option(
        "threads", ("machine",), "int | None", None,
        "Threads of one operator, where models are timed.", check=integer(1), metavar="N",
        unset="onnxruntime's",
    ),
    Option(
        "batch", ("machine",), "int | None", None,
        "Samples of a run, where models are timed that leave that open.", check=integer(1), metavar="N",
        unset="1",
    ),
    # recover
    Option(
        "recover", ("recover",), "str | None", None,
        "Fit the layers behind removed channels to the original's outputs on --data: none, "
        "bias, moments, lstsq, or auto, which also minds activations.",
        choices=("none", "auto"), registry="recovery", metavar="NAME",
        unset="auto with --data, else none",
    ),
    Option(
        "memory", ("score", "recover"), "int", 2 * 2**30,
        "Bytes that --data may make pruning take, beside the models, their analysis and the samples.",
        check=integer(1), metavar="N[K|M|G]", unset="2G",
    ),
    # gates
    Option(
        "min_cosine", ("gates",), "float | None", None, "Gate: cosine of the worst sample.",
        "Of the worst output.", check=number("a cosine, -1 to 1", lambda cosine: -1 <= cosine <= 1),
        metavar="C",
    ),
    Option(
        "max_abs", ("gates",), "float | None", None, "Gate: largest absolute difference.",
        check=number("a number that is at least 0", lambda limit: limit >= 0), metavar="D",
    ),
    Option(
        "min_agreement", ("gates",), "float | None", None,
        "Gate: share of samples with the same best class.",
        check=number("a share, 0 to 1", lambda share: 0 <= share <= 1), metavar="F",
    ),
    Option(
        "max_accuracy_drop", ("gates",), "float | None", None,
        "Gate: accuracy (or metric) of DENSE less that of SLIM.", check=not_nan, metavar="F",
    ),
    Option(
        "max_latency_ratio", ("gates",), "float | None", None,
        "Gate: latency of SLIM over that of DENSE.",
        check=number("a number above 0", lambda ratio: ratio > 0), metavar="F",
    ),
    # other jobs
    Option(
        "runs", ("bench",), "int", 30, "Measured runs of each model; up to three times as many where sessions differ.",
        check=integer(1), metavar="N",
    ),
    Option(
        "ratios", ("sensitivity",), "Sequence[float]", (0.25, 0.5, 0.75),
        "Fractions of the channels of a group that are removed.", metavar="R,R,...",
    ),
)  # fmt: skip

OPTIONS = {option.name: option for option in TABLE}

DEFAULTS: dict[str, Any] = {option.name: option.default for option in TABLE}

TARGETS = ("ratio", "threshold", "keep_macs", "keep_params", "keep_size", "keep_latency", "remove")
"""Settings that say how much goes. A preset's gives way to any that is given."""

BUDGETS = tuple(name for name in TARGETS if name.startswith("keep_"))
"""Those that say how much of something may remain; they may be combined."""

ALONE: dict[str, Any] = {"granularity": 1}
"""Defaults where each group is pruned alone: its curve has every count."""


def of(*stages: str) -> Iterator[Option]:
    """The rows that some stages take, in the order of the table."""
    return (option for option in TABLE if set(stages).intersection(option.stages))
