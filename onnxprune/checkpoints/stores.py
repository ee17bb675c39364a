"""Checkpoints as files: PyTorch's, safetensors, and archives of numpy arrays.

What they hold are arrays by name; what else a file holds (an optimizer, a number of epochs) belongs to the
network as it was, and does not come along.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InstallationError, UsageError
from ..model.writing import write_atomically
from .recipes import State

TORCH = (".pt", ".pth", ".bin", ".ckpt")
"""Endings of files that ``torch.save`` writes."""

ENDINGS = (*TORCH, ".safetensors", ".npz")


def needed(package: str, extra: str) -> Any:
    """A package that an extra installs.

    Raises
    ------
    InstallationError
        If it is missing.
    """
    try:
        return import_module(package)
    except ImportError:
        raise InstallationError(
            f"{package} is not installed", f"Install it with: pip install 'onnxprune[{extra}]'"
        ) from None


def read_state(path: str | Path) -> State:
    """Arrays of a checkpoint by the names of its entries.

    Raises
    ------
    UsageError
        If it cannot be read, or holds no arrays by name.
    InstallationError
        If a package is missing that reads it.
    """
    kind = Path(path).suffix.lower()
    if not Path(path).is_file():
        raise UsageError(f"cannot read '{path}': no such file", "Expected a checkpoint.")
    if kind == ".npz":
        return _guarded(path, lambda: _read_npz(path))
    if kind == ".safetensors":
        load = needed("safetensors.numpy", "torch").load_file
        return _guarded(path, lambda: dict(load(path)))
    if kind in TORCH:
        torch = needed("torch", "torch")
        return arrays_of(_entries(_guarded(path, lambda: _load(torch, path)), torch.Tensor, path))
    raise _unknown(path)


def _read_npz(path: str | Path) -> State:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _load(torch: Any, path: str | Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _guarded(path: str | Path, read: Callable[[], Any]) -> Any:
    """Whatever a reader raises about a file of somebody else's is one sentence."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # readers share no base of their exceptions
        said = " ".join(str(error).split())[:200]
        hint = "A checkpoint holds module.state_dict(), not the module: torch.save(module.state_dict(), ...)."
        raise UsageError(f"cannot read '{path}': {type(error).__name__}: {said}", hint) from None


def _entries(found: Any, tensor: type, path: str | Path) -> Mapping[str, Any]:
    """The one mapping of names to tensors in what a file holds."""
    tables = list(_tables(found, tensor))
    if len(tables) != 1:
        what = "several tables of tensors" if tables else "no tensors by name"
        raise UsageError(
            f"'{path}': found {what}, expected one state dict", "Save module.state_dict() alone."
        )
    return tables[0]


def _tables(found: Any, tensor: type) -> Iterator[Mapping[str, Any]]:
    if not isinstance(found, Mapping):
        return
    if found and all(isinstance(value, tensor) for value in found.values()):
        yield found
        return
    for name, value in found.items():
        if not str(name).startswith("optim"):
            yield from _tables(value, tensor)


def arrays_of(tensors: Mapping[str, Any]) -> State:
    """Tensors of PyTorch as arrays that share their memory; 16-bit brain floats become 32-bit ones."""
    found = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        found[name] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return found


def write_state(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint, atomically.

    Raises
    ------
    UsageError
        If its ending says nothing.
    InstallationError
        If a package is missing that writes it.
    """
    kind = Path(path).suffix.lower()
    whole = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in state.items()}
    if kind == ".safetensors":
        data = needed("safetensors.numpy", "torch").save(whole)
    elif kind == ".npz":
        data = _npz(whole)
    elif kind in TORCH:
        torch, buffer = needed("torch", "torch"), io.BytesIO()
        torch.save({name: torch.from_numpy(array.copy()) for name, array in whole.items()}, buffer)
        data = buffer.getvalue()
    else:
        raise _unknown(path)
    write_atomically(Path(path), data)


def _npz(state: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in state.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def check_ending(path: str | Path) -> None:
    """Refuse a file of which nobody knows how to write it, before any work is done.

    Raises
    ------
    UsageError, InstallationError
    """
    kind = Path(path).suffix.lower()
    if kind not in ENDINGS:
        raise _unknown(path)
    if kind != ".npz":
        needed("torch" if kind in TORCH else "safetensors.numpy", "torch")


def _unknown(path: str | Path) -> UsageError:
    return UsageError(f"'{path}': found no known ending, expected one of {', '.join(ENDINGS)}")
