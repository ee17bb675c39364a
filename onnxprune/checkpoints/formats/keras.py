"""Weights and models of Keras: ``.weights.h5`` and ``.keras`` of version 3, ``.h5`` and ``.hdf5`` before it.

Version 3 numbers the weights of a layer in groups called after classes, and says the layer's own name
beside them; before, weights bear names. Either way an entry is called by the layers that it is in:
``backbone/conv1/0``, ``conv1/kernel``. A file that holds the configuration of the network gets one with the
new sizes, so that Keras loads it as any other.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ...plugins import needed
from ..recipes import State
from .format import Format
from .keras_layers import resized

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
"""Members of a .keras file."""

LEGACY = "layer_names"
"""What only groups of files of the older kind have."""


def _opened(path: Path) -> Any:
    """The HDF5 file that holds the weights."""
    h5py = needed("h5py", "keras")
    if path.suffix.lower() != ".keras":
        return h5py.File(path, "r")
    with zipfile.ZipFile(path) as archive:
        return h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _places(file: Any) -> dict[str, str]:
    """Name of every entry -> its place in the file."""
    root = file.get("model_weights", file)
    found = list(_named(root) if LEGACY in root.attrs else _numbered(root, ()))
    count = Counter(name for name, _ in found)
    return {place.strip("/") if count[name] > 1 else name: place for name, place in found}


def _named(root: Any) -> Iterator[tuple[str, str]]:
    for layer in map(_text, root.attrs[LEGACY]):
        for name in map(_text, root[layer].attrs["weight_names"]):
            yield name.removesuffix(":0"), root[layer][name].name


def _numbered(group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name, item in group.items():
        if hasattr(item, "shape"):
            yield "/".join((*path, name)), item.name
        elif not name.startswith("optim"):
            own = _text(item["vars"].attrs.get("name", name)) if "vars" in item else name
            yield from _numbered(item, path if name in ("layers", "vars") else (*path, own))


def _read(path: Path) -> State:
    with _opened(path) as file:
        return {name: file[place][()] for name, place in _places(file).items()}


def _write(state: State, target: Path, like: Path) -> bytes:
    buffer = io.BytesIO()
    with _opened(like) as old, needed("h5py", "keras").File(buffer, "w") as new:
        places = _places(old)
        shapes = {name: (old[place].shape, state[name].shape) for name, place in places.items()}
        _copy(old, new, {place: state[name] for name, place in places.items()})
        if "model_config" in old.attrs:
            config = resized(json.loads(_text(old.attrs["model_config"])), shapes)
            new.attrs["model_config"] = json.dumps(config)
    return (
        _archive(buffer.getvalue(), like, shapes) if target.suffix.lower() == ".keras" else buffer.getvalue()
    )


def _copy(old: Any, new: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Groups and what stands beside them; optimizers stay behind."""
    for key, value in old.attrs.items():
        new.attrs[key] = value
    for name, item in old.items():
        if hasattr(item, "shape"):
            made = new.create_dataset(name, data=arrays.get(item.name, item))
            for key, value in item.attrs.items():
                made.attrs[key] = value
        elif not name.startswith("optim"):
            _copy(item, new.create_group(name), arrays)


def _archive(weights: bytes, like: Path, shapes: Mapping[str, tuple[Any, Any]]) -> bytes:
    """A .keras file, as a copy of one."""
    if like.suffix.lower() != ".keras":
        raise UsageError(
            f"'{like}' holds no network, which a .keras file does", "Give OUT the ending of STATE."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(like) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = weights if name == WEIGHTS else old.read(name)
            if name == CONFIG:
                data = json.dumps(resized(json.loads(data), shapes)).encode()
            new.writestr(name, data)
    return buffer.getvalue()


FORMAT = Format((".h5", ".hdf5", ".keras"), _read, _write, "h5py", "keras", copies=True)
