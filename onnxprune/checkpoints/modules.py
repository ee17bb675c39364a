"""PyTorch modules, cut by a plan. This file needs PyTorch, and is imported by ``onnxprune.torch`` alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from ..model.node import Node
from .attention import lose_heads
from .sizes import ALL_HEADS, HEAD_WIDTHS, HEADS, Resized, group_count, heads_left, sizes_left

KNOWN = (
    nn.modules.conv._ConvNd, nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.Embedding, nn.PReLU,
    nn.modules.batchnorm._NormBase, nn.MultiheadAttention, nn.RNNBase,
)  # fmt: skip
"""Modules whose sizes follow from their weights, also where others made one of their own of them."""

WEIGHTS = ("weight", "weight_v", "parametrizations.weight.original1", "parametrizations.weight.original")
"""What the entry with the shape of the weight is called, also where it is computed from others."""


def cut_module(
    module: nn.Module, state: Mapping[str, np.ndarray], cuts: Mapping[str, Any], nodes: Mapping[str, Node]
) -> nn.Module:
    """A copy of a module with other weights, and sizes to match.

    Parameters
    ----------
    state : mapping of str to array
        The new weights.
    cuts : mapping
        Entry -> kept indices per axis, for those that shrink.
    nodes : mapping
        Entry -> node of the slim ONNX file that reads it.
    """
    old = module.state_dict()
    slim = _copied(module)
    resized = {
        name: Resized(tuple(tensor.shape), tuple(state[name].shape), _rows(cuts, name))
        for name, tensor in old.items()
    }
    made: dict[int, Any] = {}
    for name, tensor in slim.state_dict(keep_vars=True).items():
        if name in cuts or not _same(old[name], state[name]):
            _set(slim, name, made.setdefault(id(tensor), _like(tensor, state[name])))
    for path, part in slim.named_modules():
        inside = {
            name.removeprefix(f"{path}." if path else ""): entry
            for name, entry in resized.items()
            if not path or name.startswith(f"{path}.")
        }
        if any(entry.before != entry.after for entry in inside.values()):
            weight = next((name for name in WEIGHTS if name in inside), "")
            _fit(part, inside, weight, nodes.get(f"{path}.{weight}" if path else weight))
    return slim


def _copied(module: nn.Module) -> nn.Module:
    """A copy; weights that a module last computed from others (an older weight_norm) have no graph there."""
    held = (value for part in module.modules() for value in vars(part).values())
    made = [value for value in held if isinstance(value, torch.Tensor) and not value.is_leaf]
    return copy.deepcopy(module, {id(tensor): tensor.detach().clone() for tensor in made})


def _rows(cuts: Mapping[str, Any], name: str) -> np.ndarray | None:
    return cuts[name][0] if cuts.get(name) else None


def _same(tensor: Any, array: np.ndarray) -> bool:
    return tuple(tensor.shape) == array.shape and bool(
        (tensor.cpu() == torch.from_numpy(np.array(array))).all()
    )


def _like(tensor: Any, array: np.ndarray) -> Any:
    """An array as a tensor of the kind of another one."""
    made = torch.from_numpy(np.array(array)).to(tensor.device, tensor.dtype)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def _set(module: nn.Module, name: str, tensor: Any) -> None:
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, tensor)


def _fit(part: nn.Module, entries: Mapping[str, Resized], weight: str, node: Node | None) -> None:
    """Change the sizes that one module holds."""
    if isinstance(part, KNOWN):
        _fit_known(part, entries, weight, node)
    elif not type(part).__module__.startswith("torch.nn."):
        _fit_own(part, entries)


def _fit_known(part: Any, entries: Mapping[str, Resized], name: str, node: Node | None) -> None:
    """Modules of PyTorch: their attributes follow from their weights."""
    if isinstance(part, nn.MultiheadAttention):
        lose_heads(part, entries)
        return
    weight = entries.get(name)
    shape = weight.after if weight is not None else ()
    if isinstance(part, nn.modules.conv._ConvNd):
        groups = int(node.attr("group", 1)) if node is not None and "Conv" in node.op else part.groups
        part.groups = groups
        transposed = part.transposed
        part.in_channels = shape[0] if transposed else shape[1] * groups
        part.out_channels = shape[1] * groups if transposed else shape[0]
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = shape
    elif isinstance(part, nn.LayerNorm | nn.RMSNorm) and shape:
        part.normalized_shape = shape
    elif isinstance(part, nn.GroupNorm):
        groups = group_count(part.num_groups, part.num_channels, weight.rows if weight else None)
        part.num_groups, part.num_channels = groups, shape[0]
    elif isinstance(part, nn.Embedding):
        part.num_embeddings, part.embedding_dim = shape
    elif isinstance(part, nn.RNNBase):
        part.hidden_size, part.input_size = (entries[n].after[1] for n in ("weight_hh_l0", "weight_ih_l0"))
    elif isinstance(part, nn.PReLU):
        part.num_parameters = shape[0]
    elif hasattr(part, "num_features"):
        part.num_features = next(entry.after[0] for entry in entries.values() if entry.after)


def _fit_own(part: Any, entries: Mapping[str, Resized]) -> None:
    """Modules of others: heads by their names, other sizes where one old size has one new one."""
    held = {n: v for n, v in vars(part).items() if isinstance(v, int) and not isinstance(v, bool) and v > 1}
    heads = next((name for name in HEADS if name in held), "")
    done: set[str] = set()
    if heads:
        done |= {heads, *HEAD_WIDTHS, *ALL_HEADS}
        if (found := heads_left(held[heads], entries)) is not None:
            setattr(part, heads, found[0])
            for name in (name for name in HEAD_WIDTHS if name in held):
                setattr(part, name, held[name] * found[2] // found[1])
            for name in (name for name in ALL_HEADS if name in held):
                setattr(part, name, held[name] * found[0] * found[2] // (held[heads] * found[1]))
    leaves = {name for name, child in part.named_children() if isinstance(child, KNOWN)}
    own = [name for name in entries if "." not in name or name.partition(".")[0] in leaves]
    known = list(sizes_left(entries, own))
    for name, value in held.items():
        sizes = next((one for one in known if value in one), {}) if name not in done else {}
        if value in sizes:
            setattr(part, name, sizes[value])
    _fit_fillers(part, entries)
    for name, value in [*vars(part).items()]:
        if isinstance(value, tuple | list) and value and all(type(size) is int for size in value):
            setattr(part, name, type(value)(_sizes_of(value, part, entries, known[0])))


def _fit_fillers(part: nn.Module, entries: Mapping[str, Resized]) -> None:
    """Buffers of equal numbers that no checkpoint holds: zeros in place of a bias of keys."""
    sizes = next(sizes_left(entries, [name for name in entries if "." not in name]))
    for name, tensor in part.named_buffers(recurse=False):
        kept = sizes.get(len(tensor)) if tensor.dim() == 1 and name not in entries else None
        if kept is not None and (tensor == tensor[0]).all():
            setattr(part, name, tensor[:kept].clone())


def _sizes_of(
    value: Sequence[int], part: nn.Module, entries: Mapping[str, Resized], known: Mapping[int, int]
) -> Iterator[int]:
    """New sizes of several: one for each of its numbered members, or all of the module itself."""
    members = [name for name, _ in part.named_children() if name.isdecimal()]
    for number, size in enumerate(value):
        inside = [name for name in entries if name.startswith(f"{number}.")]
        own = next(sizes_left(entries, inside)) if len(members) == len(value) else known
        yield own.get(size, size)


def outputs_of(value: Any) -> Iterator[np.ndarray]:
    """Tensors in what a module returns, in the order in which exporters list them."""
    if isinstance(value, torch.Tensor):
        yield (
            value.detach().float().cpu().numpy()
            if value.is_floating_point()
            else value.detach().cpu().numpy()
        )
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from outputs_of(one)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            yield from outputs_of(one)


def run_module(module: nn.Module, inputs: Sequence[Any]) -> list[np.ndarray]:
    """What a module computes, in evaluation mode; its mode stays."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            return list(outputs_of(module(*inputs)))
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def followed(module: nn.Module) -> Iterator[list[str]]:
    """Paths of the modules that are at work, outermost first; what raised is the last one."""
    active: list[str] = []
    hooks = []

    def done(*_: Any) -> None:
        active.pop()

    for path, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda *_, path=path: active.append(path)))
        hooks.append(part.register_forward_hook(done))
    try:
        yield active
    finally:
        for hook in hooks:
            hook.remove()


def tensors_of(arrays: Sequence[np.ndarray], module: nn.Module) -> list[Any]:
    """Arrays as tensors where a module has its weights."""
    first = next(iter(module.parameters()), None)
    device = first.device if first is not None else "cpu"
    return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
