"""Back into training: a PyTorch module, cut as its ONNX export was.

    import onnxprune, onnxprune.torch

    result = onnxprune.prune("dense.onnx", ratio=0.5)
    slim = onnxprune.torch.slim(module, result.plan, onnx="dense.onnx")
    ...                                         # train slim as you trained module
    model = onnxprune.torch.reweight(result.model, slim, before=...)

It takes PyTorch: ``pip install 'onnxprune[torch]'``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoints.cutting import SlimState, cut_state
from .checkpoints.formats.pytorch import arrays_of
from .checkpoints.proof import Agreement, agree, uneven, without_training
from .checkpoints.reweighting import filled
from .checkpoints.reweighting import reweight as reweighted
from .errors import SurgeryError, UsageError
from .model.file import Model, ModelLike
from .model.loading import load
from .model.node import Node
from .plugins import needed
from .selection.plan import Plan

if TYPE_CHECKING:
    import torch

__all__ = ["compare", "reweight", "slim"]

OTHER = 1e-3
"""Relative difference from which on an export is another network: rounding reaches a hundredth of it."""


def slim(
    module: torch.nn.Module,
    plan: Plan | str | os.PathLike[str],
    *,
    onnx: ModelLike,
    weights: ModelLike | None = None,
    inputs: Sequence[Any] | None = None,
    verify: bool = True,
) -> torch.nn.Module:
    """A copy of a module, cut as a plan cuts its ONNX export, ready to be trained.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed. With the weights that were exported.
    plan : Plan or path
    onnx : path, bytes, ModelProto, gs.Graph or Model
        The export of ``module`` that the plan was made for.
    weights : the same, optional
        Slim file whose weights the copy takes: recovered ones are a better start.
    inputs : sequence of tensors, optional
        Arguments of the module, one per input of the export; made up otherwise.
    verify : bool
        Run the copy and the slim ONNX file on the same inputs, and compare.

    Raises
    ------
    PlanError
        If a constant that shrinks cannot be traced to one entry of ``module.state_dict()``.
    SurgeryError
        If the copy does not run, or computes something else than the slim ONNX file.
    InstallationError
        If PyTorch is missing.
    """
    needed("torch", "torch")
    from .checkpoints import modules

    plan = plan if isinstance(plan, Plan) else Plan.load(plan)
    dense = load(onnx)
    found = cut_state(
        dense, plan, arrays_of(module.state_dict()), load(weights) if weights is not None else None
    )
    state = {name: np.array(array) for name, array in found.state.items()}
    made = modules.cut_module(module, state, found.cuts, _readers(found))
    if verify:
        _prove(module, made, dense, found, inputs)
    return made


def _readers(found: SlimState) -> dict[str, Node]:
    """Entry -> node of the slim file that reads it as a weight."""
    from .model.graph import Graph

    nodes = {node.output: node for node in Graph(found.model).nodes if node.outputs}
    readers: dict[str, Node] = {}
    for link in found.origins.mapped:
        if link.recipe is not None and link.use.slot == 1 and link.use.output in nodes:
            readers.setdefault(link.recipe.entries[0], nodes[link.use.output])
    return readers


def _prove(module: Any, made: Any, dense: Model, found: SlimState, inputs: Sequence[Any] | None) -> None:
    """Compare both pairs: what the dense pair differs by is what the slim one may.

    Raises
    ------
    SurgeryError
    """
    from .checkpoints.modules import followed

    before = filled(dense, found.origins.mapped, arrays_of(module.state_dict()))
    base = compare(module, before, inputs=inputs)
    if base.difference > OTHER:
        raise UsageError(
            f"the module is not the one that was exported: {base}",
            "Give the module with the weights that were exported; a file exported in training mode may draw random numbers, which verify=False leaves unchecked.",
        )
    try:
        with followed(made) as active:
            got = compare(made, found.model, inputs=inputs, base=base)
    except UsageError:
        raise
    except Exception as error:  # a forward of somebody else's raises anything
        said = f"{active[-1]}: " if active and active[-1] else ""
        said += " ".join(str(error).split())[:300]
        why = uneven(dense, found.model) or "Its code computes a size from another one that shrinks otherwise"
        raise SurgeryError(
            f"the slim module does not run: {type(error).__name__}: {said}",
            f"{why}, or leave that layer whole with --exclude.",
        ) from error
    if not got:
        why = uneven(dense, found.model) or "Its code depends on a size in a way that is not known"
        raise SurgeryError(
            f"the slim module is not the slim ONNX file: {got}",
            f"{why}, or leave that layer whole with --exclude.",
        )


def compare(
    module: torch.nn.Module,
    onnx: ModelLike,
    *,
    inputs: Sequence[Any] | None = None,
    base: Agreement | None = None,
) -> Agreement:
    """Run a module and an ONNX file on the same inputs, both in evaluation mode.

    Parameters
    ----------
    base : Agreement, optional
        Of another such pair, which the difference is judged by.

    Returns
    -------
    Agreement
        Its ``difference``, relative L2 of the worst output; true where that is rounding.

    Raises
    ------
    UsageError
        If the inputs or the outputs do not match.
    """
    needed("torch", "torch")
    from .checkpoints import modules

    model = without_training(load(onnx))
    given = None if inputs is None else [np.asarray(one.detach().cpu().numpy()) for one in inputs]

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return modules.run_module(module, inputs or modules.tensors_of(arrays, module))

    return agree(model, run, given, base)


def reweight(
    onnx: ModelLike,
    module: torch.nn.Module | Mapping[str, torch.Tensor],
    *,
    before: torch.nn.Module | Mapping[str, torch.Tensor] | None = None,
) -> Model:
    """A copy of a slim ONNX file with the weights of a trained module.

    Parameters
    ----------
    onnx : path, bytes, ModelProto, gs.Graph or Model
        The slim file, with the weights of ``before``.
    module : module or state dict
        Trained.
    before : module or state dict, optional
        Before it was trained: values then tell which entry is which constant; names alone do otherwise.

    Raises
    ------
    PlanError
        If entries are missing, of another shape, or cannot be told apart.
    """
    needed("torch", "torch")
    return reweighted(load(onnx), _state(module), None if before is None else _state(before)).model


def _state(given: Any) -> dict[str, np.ndarray]:
    table = given.state_dict() if hasattr(given, "state_dict") else given
    return {name: np.array(array) for name, array in arrays_of(table).items()}
