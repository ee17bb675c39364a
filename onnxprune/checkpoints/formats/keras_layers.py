"""Configurations of Keras layers: the sizes in them, once weights are smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import UsageError

Shapes = Mapping[str, tuple[Sequence[int], Sequence[int]]]
"""Entry -> its shape before and after."""

KERNEL, SECOND = ("kernel", "0"), ("pointwise_kernel", "recurrent_kernel", "1")
"""What a weight is called: by its name, or by its number in files of version 3."""

SIZES = {
    "Conv1D": (("filters", KERNEL, -1),), "Conv1DTranspose": (("filters", KERNEL, -2),),
    "Conv2D": (("filters", KERNEL, -1),), "Conv2DTranspose": (("filters", KERNEL, -2),),
    "Conv3D": (("filters", KERNEL, -1),), "Conv3DTranspose": (("filters", KERNEL, -2),),
    "SeparableConv1D": (("filters", SECOND, -1),), "SeparableConv2D": (("filters", SECOND, -1),),
    "DepthwiseConv1D": (), "DepthwiseConv2D": (), "Dense": (("units", KERNEL, -1),),
    "Embedding": (("output_dim", ("embeddings", "0"), -1),),
    "SimpleRNN": (("units", SECOND, 0),), "LSTM": (("units", SECOND, 0),), "GRU": (("units", SECOND, 0),),
    "MultiHeadAttention": (
        ("num_heads", ("query",), 1), ("key_dim", ("query",), 2), ("value_dim", ("value",), 2),
    ),
    "BatchNormalization": (), "LayerNormalization": (), "PReLU": (),
}  # fmt: skip
"""Class -> the sizes that it holds, each with the weight and the axis that have it."""


def resized(config: Any, shapes: Shapes) -> Any:
    """The configuration of a network whose weights are smaller.

    Parameters
    ----------
    config : object of JSON
        As Keras writes it; changed in place.

    Raises
    ------
    UsageError
        If a layer is smaller in a way that its configuration cannot say, or nobody knows how.
    """
    layers = list(_layers(config))
    names = Counter(layer["config"].get("name") for layer in layers)
    for layer in layers:
        name = layer["config"].get("name")
        own = {entry: both for entry, both in shapes.items() if name in entry.split("/")[:-1]}
        if any(tuple(before) != tuple(after) for before, after in own.values()):
            _resize(layer, {entry: after for entry, (_, after) in own.items()}, names[name])
        elif layer["class_name"] == "Reshape":
            _free(layer["config"])
    for part in _parts(config):
        if part is not config:
            part.pop("build_config", None)  # the shapes of inputs: Keras finds them again
    return config


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """All objects of a configuration."""
    if isinstance(config, dict):
        yield config
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _parts(value)


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Every layer that holds no others."""
    for part in _parts(config):
        inner = part.get("config")
        if "class_name" in part and isinstance(inner, dict) and not {"layer", "layers"} & inner.keys():
            yield part


def _resize(layer: dict[str, Any], weights: Mapping[str, Sequence[int]], alike: int) -> None:
    kind, config = layer["class_name"], layer["config"]
    if alike > 1 or kind not in SIZES or config.get("groups", 1) != 1:
        raise UsageError(
            f"layer '{config['name']}' ({kind}) is smaller in a way that its configuration cannot say, or is not known to say",
            "Leave it whole with '--exclude', or write the weights alone (.npz, or .weights.h5 from such a file) and build the network by yourself.",
        )
    for size, called, axis in SIZES[kind]:
        shape = max((shape for entry, shape in weights.items() if _is(entry, called)), key=len)
        config[size] = int(shape[axis])


def _is(entry: str, called: Sequence[str]) -> bool:
    """Whether an entry, or the layer that it is in, is called so."""
    return any(name in called for name in entry.split("/")[-2:])


def _free(config: Any) -> None:
    """A Reshape computes its last size, which may be a number of channels."""
    target = [*config["target_shape"]]
    wide = [axis for axis, size in enumerate(target) if size != 1]
    if wide and -1 not in target:
        target[wide[-1]] = -1
    config["target_shape"] = target
