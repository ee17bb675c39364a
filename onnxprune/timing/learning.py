"""What the profile of a slim model teaches about the kernels of the original.

A kernel has parts that its channels do not shrink: reading a whole image, calling it at all. How large
they are shows where fewer channels have been timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..coupling.trace import Trace
from ..labels.sizes import SizeView
from ..model.graph import Graph
from .kernels import KernelTimes, TimedKernel
from .model import PER_US, LatencyModel


def learned(
    model: LatencyModel, traced: Trace, sizes: SizeView, slim: Graph, found: KernelTimes, share: float
) -> LatencyModel:
    """The model with the share of every kernel that stayed.

    Layers keep the names of what they make, by which their kernels are found again. What the provider put
    in beside a kernel belongs to it: in the slim model there may be more of that, or less.

    Parameters
    ----------
    sizes : SizeView
        Of the slim model.
    found : KernelTimes
        Of the slim model.
    share : float
        Of the latency that it takes, to which its profile is scaled: the machine may have been busy.
    """
    whole = [replace(kernel, stays=0.0) for kernel in model.kernels]
    owners = _owners(traced.graph, whole)
    makers = [owners[traced.graph.nodes[kernel.nodes[0]].output] for kernel in whole]
    before, expected, after = (dict.fromkeys(makers, 0.0) for _ in range(3))
    terms = replace(model, kernels=tuple(whole)).terms(traced)[1:]
    for maker, kernel, term in zip(makers, whole, terms, strict=True):
        before[maker] += kernel.us
        expected[maker] += term(sizes) / PER_US
    scale = share * model.us / max(found.us, 1e-9)
    for kernel in found.kernels:
        made = slim.nodes[kernel.nodes[0]].output if kernel.nodes else ""
        if made in owners:
            after[owners[made]] += scale * kernel.us
    stays = {
        maker: min(max((after[maker] - less) / (before[maker] - less), 0.0), 1.0)
        for maker, less in expected.items()
        if after[maker] and less < before[maker]
    }
    kernels = zip(makers, model.kernels, strict=True)
    return replace(
        model, kernels=tuple(replace(kernel, stays=stays.get(k, kernel.stays)) for k, kernel in kernels)
    )


def _owners(graph: Graph, kernels: Sequence[TimedKernel]) -> dict[str, int]:
    """Tensor -> number of the kernel that makes it; those that were added make none if others do."""
    owners: dict[str, int] = {}
    for number, kernel in sorted(enumerate(kernels), key=lambda pair: pair[1].added):
        for index in kernel.nodes:
            owners.setdefault(graph.nodes[index].output, number)
    return owners
