"""Batch normalizations that an exporter folded into the layer in front of them, found again by value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from .fingerprints import orders
from .normalized import Directed, FoldedBias, FoldedWeight, Norm, Scale
from .recipes import Piece, module_of

ROLES = {
    "weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var",
    "gamma": "weight", "beta": "bias", "moving_mean": "mean", "moving_variance": "var",
}  # fmt: skip
"""What the entries of a batch normalization are called: PyTorch, Keras."""

EPSILONS = (1e-5, 1e-3, 1e-6, 1e-4, 1e-2, 1e-8, 0.0)
"""Constants of batch normalization in use: the one that fits is taken, else what the values say."""

ROUNDING = 1e-5
"""Relative difference that counts as rounding: folding takes some operations in float32, each with an
error of up to 6e-8, and sums of mean and bias may cancel."""


def norms(state: Mapping[str, np.ndarray]) -> list[Norm]:
    """What may be batch normalizations of a checkpoint: by the names of its entries, or by their order."""
    modules: dict[str, list[str]] = defaultdict(list)
    for name, array in state.items():
        if array.ndim == 1:
            modules[module_of(name)].append(name)
    return [norm for names in modules.values() for norm in _norms_of(names, state)]


def _norms_of(names: Sequence[str], state: Mapping[str, np.ndarray]) -> Iterator[Norm]:
    """The same of one module. Keras numbers the weights of a layer; gamma or beta may be missing."""
    leaves = {name[len(module_of(name)) :].lstrip("./").partition(":")[0]: name for name in names}
    roles = {ROLES[leaf]: name for leaf, name in leaves.items() if leaf in ROLES}
    if "mean" in roles and "var" in roles:
        yield Norm(roles.get("weight", ""), roles.get("bias", ""), roles["mean"], roles["var"])
    elif 2 <= len(names) <= 4 and all(leaf.isdecimal() for leaf in leaves):
        *own, mean, var = (leaves[leaf] for leaf in sorted(leaves, key=int))
        if len({state[name].size for name in names}) == 1 and (state[var] >= 0).all():
            weight, bias = own if len(own) == 2 else (*own, "") if own else ("", "")
            yield Norm(weight, bias, mean, var)
            if len(own) == 1:
                yield Norm("", own[0], mean, var)


def channel_scales(array: np.ndarray, value: np.ndarray, axis: int) -> np.ndarray | None:
    """What every channel of an array is multiplied by in a value; None where it is no multiple."""
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    found = np.moveaxis(value, axis, 0).reshape(len(rows), -1)
    first = _ratios(rows[:1], found[:1])
    if not _multiples(rows[:1], found[:1], first):
        return None  # most pairs differ in their first channel
    ratios = _ratios(rows, found)
    return ratios if _multiples(rows, found, ratios) else None


def _ratios(rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    norm = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    dot = np.einsum("ij,ij->i", rows, found, dtype=np.float64)
    return np.divide(dot, norm, out=np.full(len(rows), np.nan), where=norm > 0)


def _multiples(rows: np.ndarray, found: np.ndarray, ratios: np.ndarray) -> bool:
    off = np.abs(found - rows * np.nan_to_num(ratios)[:, None]).max(1, initial=0)
    return bool((off <= ROUNDING * np.abs(found).max(1, initial=0)).all())


def fitted(norm: Norm, scales: np.ndarray, state: Mapping[str, np.ndarray]) -> Norm | None:
    """A normalization with the eps that gives these scales; None where it does not give them."""
    if len(state[norm.var]) != len(scales):
        return None
    seen = np.isfinite(scales)
    for eps in (*EPSILONS, _solved(norm, scales, state)):
        one = replace(norm, eps=eps)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.abs(one.scale(state) - scales)[seen]
        if (off <= ROUNDING * np.abs(scales[seen])).all():
            return one
    return None


def _solved(norm: Norm, scales: np.ndarray, state: Mapping[str, np.ndarray]) -> float:
    """The eps that the scales say, by most of the channels."""
    weight = state[norm.weight].astype(np.float64) if norm.weight else np.ones(len(scales))
    known = np.isfinite(scales) & (scales != 0)
    if not known.any():
        return 0.0
    return max(float(np.median((weight[known] / scales[known]) ** 2 - state[norm.var][known])), 0.0)


def folds_of_weight(
    value: np.ndarray, names: Sequence[str], state: Mapping[str, np.ndarray], every: Sequence[Norm]
) -> Iterator[FoldedWeight]:
    """Ways to make a constant of one of some entries, and a batch normalization behind it."""
    for name in names:
        array = state[name]
        for order in orders(array.shape, value.shape):
            moved = array.transpose(order).reshape(value.shape)
            for axis in range(min(value.ndim, 2)):
                scales = channel_scales(moved, value, axis)
                if scales is None:
                    continue
                piece = Piece(name, array.shape, order, 0, array.shape[0], value.shape)
                for norm in every:
                    if (found := fitted(norm, scales, state)) is not None:
                        yield FoldedWeight(piece, found, axis)


def fold_of_bias(
    value: np.ndarray, norm: Norm, names: Sequence[str], state: Mapping[str, np.ndarray], axis: int = 0
) -> FoldedBias | None:
    """The bias behind a folded weight: of the normalization, through which one of the layer may go."""
    if value.size != len(state[norm.var]):
        return None
    for bias in ("", *names):
        if bias and state[bias].shape != (value.size,):
            continue
        made = FoldedBias(norm, bias, axis)
        terms = [state[norm.bias]] if norm.bias else []
        terms += [state[n].astype(np.float64) * norm.scale(state) for n in (norm.mean, bias) if n]
        allowed = ROUNDING * np.sum([np.abs(term) for term in terms], 0)
        if (np.abs(made.value(state, (value.size,)) - value.reshape(-1)) <= allowed + 1e-30).all():
            return made
    return None


def scales(value: np.ndarray, every: Sequence[Norm], state: Mapping[str, np.ndarray]) -> Iterator[Scale]:
    """Batch normalizations that multiply by a constant: an exporter wrote a product and a sum."""
    for norm, axis in _pairs(value, every):
        if (found := fitted(norm, value.reshape(-1).astype(np.float64), state)) is not None:
            yield Scale(found, axis)


def shifts(
    value: np.ndarray, every: Sequence[Norm], known: Mapping[str, float], state: Mapping[str, np.ndarray]
) -> Iterator[FoldedBias]:
    """Batch normalizations that add a constant.

    Parameters
    ----------
    known : mapping
        Variance -> eps, where the product said it.
    """
    for norm, axis in _pairs(value, every):
        for eps in [known[norm.var]] if norm.var in known else EPSILONS:
            if (found := fold_of_bias(value, replace(norm, eps=eps), (), state, axis)) is not None:
                yield found
                break


def _pairs(value: np.ndarray, every: Sequence[Norm]) -> Iterator[tuple[Norm, int]]:
    """Every normalization, with the axis of the channels of a constant that has no other axis."""
    wide = [axis for axis, size in enumerate(value.shape) if size > 1]
    return product(every, wide if len(wide) == 1 else ())


def directions(value: np.ndarray, state: Mapping[str, np.ndarray]) -> Iterator[Directed]:
    """Pairs of a direction and lengths that make a constant."""
    for direction, array in state.items():
        if array.shape != value.shape or array.ndim < 2:
            continue
        for axis, size in enumerate(array.shape):
            shape = tuple(size if k == axis else 1 for k in range(array.ndim))
            for length, numbers in state.items():
                if numbers.shape == shape and module_of(length) == module_of(direction):
                    made = Directed(length, direction, axis)
                    off = np.abs(made.value(state, value.shape) - value).max()
                    if off <= ROUNDING * np.abs(value).max():
                        yield made


def normalized_of(value: np.ndarray, state: Mapping[str, np.ndarray]) -> str:
    """The entry of which every channel of a constant is a multiple, but for its mean; empty for none.

    Weights that a network standardizes, or divides by a norm of all of them, are such constants.
    """
    for axis in range(min(value.ndim, 2) if value.ndim > 1 else 0):
        wanted = _standardized(value, axis)
        for name, array in state.items():
            for order in orders(array.shape, value.shape) if array.size == value.size else ():
                made = _standardized(array.transpose(order).reshape(value.shape), axis)
                if np.abs(made - wanted).max() < ROUNDING * wanted.shape[1]:
                    return name
    return ""


def _standardized(array: np.ndarray, axis: int) -> np.ndarray:
    """Channels of mean 0 and norm 1."""
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)
    rows = rows - rows.mean(1, keepdims=True)
    size = np.sqrt(np.square(rows).sum(1, keepdims=True))
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
