"""What a criterion is applied to, and raw scores of all of it.

A group is measured at the weights that produce its channels; or, with calibration data, at the
tensors that those layers compute, or at the one tensor behind the last join of the group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import UsageError
from ..labels.facts import Kernel
from ..labels.vector import Labels, carried
from ..model.operators import Trait, traits_of
from .layer import Layer
from .registry import DATA, RAW, Criterion, Policy, Scores, applied, label_of, trait_of

Key = tuple[str, int]
Batches = Callable[[Sequence[str]], Iterator[dict[str, np.ndarray]]]


def measured(traced: Trace, criterion: Criterion, policy: Policy, data: bool) -> dict[str, list[Kernel]]:
    """What is measured for each group: axes of weights, or of tensors that the model computes.

    Raises
    ------
    UsageError
        If the criterion needs data and there is none.
    """
    if trait_of(criterion) == DATA and not data:
        raise UsageError(
            "this criterion looks at activations: found no data, expected calibration inputs",
            "Give them with --data FILE.npz.",
        )
    found: dict[str, list[Kernel | None]]
    if data and trait_of(policy) == RAW:
        found = {group.name: [join(traced, group)] for group in traced}
    elif trait_of(criterion) == DATA:
        found = {g.name: [output_of(traced, g, kernel) for kernel in g.kernels] for g in traced}
    else:
        found = {group.name: list(group.kernels) for group in traced}
    return {
        name: list({(k.tensor, k.axis): k for k in kernels if k is not None}.values())
        for name, kernels in found.items()
    }


def output_of(traced: Trace, group: Group, kernel: Kernel) -> Kernel | None:
    """The output of a layer, with the axis that the channels of a group run along."""
    name = kernel.node.output
    if not kernel.node.outermost:
        return None  # nested graphs keep their tensors to themselves
    for axis, labels in enumerate(traced.walk.axes.get(name, ())):
        if _covers(traced, group, labels):
            return Kernel(kernel.node, name, axis)
    return None


def _covers(traced: Trace, group: Group, labels: Labels | None) -> bool:
    """Whether an axis carries every channel of a group."""
    return carried(labels) and bool(np.isin(group.units, traced.owners(group)[labels]).all())


def join(traced: Trace, group: Group) -> Kernel | None:
    """The output of the last node that joins layers of a group, or of its last layer."""
    layers = [output_of(traced, group, kernel) for kernel in group.kernels]
    found = max(filter(None, layers), key=lambda k: k.node.index, default=None)
    for node in reversed(traced.graph.main.nodes):
        moving = [x for x in node.inputs if x in traced.walk.axes and not traced.graph.is_constant(x)]
        if Trait.JOINS not in traits_of(node) or len(moving) < 2:
            continue
        behind = output_of(traced, group, Kernel(node, node.output, 0))
        carried = (any(_covers(traced, group, v) for v in traced.walk.axes[x]) for x in moving)
        if behind is not None and all(carried):
            return behind
    return found


def measure(
    traced: Trace, criterion: Criterion, wanted: Mapping[Key, Kernel], batches: Batches | None, seed: int
) -> dict[Key, Scores]:
    """Raw scores of every layer; those of computed tensors are averaged over the batches."""
    stored = {key for key, kernel in wanted.items() if traced.walk.stored(kernel.tensor)}
    raw = {key: _scores(criterion, Layer(traced, wanted[key], seed)) for key in wanted if key in stored}
    computed = [key for key in wanted if key not in stored]
    if computed and batches is not None:
        sums: dict[Key, list[Scores]] = defaultdict(list)
        for batch in batches([name for name, _ in computed]):
            for key in computed:
                layer = Layer(traced, wanted[key], seed, np.moveaxis(batch[key[0]], key[1], 0))
                sums[key].append(_scores(criterion, layer))
        with np.errstate(invalid="ignore"):  # infinities of both signs
            means = {key: np.asarray(np.mean(found, axis=0)) for key, found in sums.items()}
        raw |= {key: mean if np.isnan(mean).all() else lowest(mean) for key, mean in means.items()}
    return raw


def lowest(merged: Scores) -> Scores:
    """Scores in which NaN, the sum of infinities of both signs, is the lowest of all."""
    return np.where(np.isnan(merged), -np.inf, merged)


def _scores(criterion: Criterion, layer: Layer) -> Scores:
    """What a criterion says of a layer, as float64. It measures a layer, or it does not.

    Raises
    ------
    UsageError
        If there is not one score per channel, or if single ones are NaN: that is neither good nor bad.
    """
    where = f"criterion '{label_of(criterion)}' of {layer.kernel.node} ('{layer.kernel.tensor}')"
    array = applied(where, criterion, layer, (layer.channels,))
    unknown = np.flatnonzero(np.isnan(array))
    if 0 < len(unknown) < len(array):
        broken = np.isnan(layer.weight[unknown[0]]).any()
        raise UsageError(
            f"{where}: found NaN for channel {unknown[0]}, expected a number",
            "The values that it looks at hold NaN themselves."
            if broken
            else "NaN for all channels says that a layer is not measured; -inf lets a channel go first.",
        )
    return array
