"""Files that ``torch.save`` writes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...plugins import needed
from ..recipes import State
from .format import Format


def _read(path: Path) -> State:
    torch = needed("torch", "torch")
    found = torch.load(path, map_location="cpu", weights_only=True)
    tables = list(_tables(found, torch.Tensor))
    if len(tables) != 1:
        what = "several tables of tensors" if tables else "no tensors by name"
        raise UsageError(
            f"'{path}': found {what}, expected one state dict", "Save module.state_dict() alone."
        )
    return arrays_of(tables[0])


def _tables(found: Any, tensor: type) -> Iterator[Mapping[str, Any]]:
    """Mappings of names to tensors in what a file holds."""
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


def _write(state: State, *_: Path) -> bytes:
    torch, buffer = needed("torch", "torch"), io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in state.items()}, buffer)
    return buffer.getvalue()


FORMAT = Format(
    (".pt", ".pth", ".bin", ".ckpt"),
    _read,
    _write,
    "torch",
    "torch",
    hint="A checkpoint holds module.state_dict(), not the module: torch.save(module.state_dict(), ...).",
)
