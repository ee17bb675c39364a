"""No file becomes larger than the one that it is made from.

Removing channels can need a node more (a size that the network computes has to be scaled) or a bias
that was not there. Where that takes more bytes than what goes, nothing goes, and that is said.
"""

from __future__ import annotations

from dataclasses import replace

from ..coupling.trace import Trace
from ..errors import BudgetError, PlanError
from ..model.file import Model
from ..printable import plural
from ..selection.plan import Plan
from ..selection.recovered import Recovery
from ..settings.table import BUDGETS


def growth(before: Model, after: Model) -> int:
    """Bytes by which a file becomes larger; 0 where it does not."""
    return 0 if after is before else max(0, after.nbytes() - before.nbytes())


def larger(more: int) -> str:
    """Why nothing goes of a model that would become larger by so many bytes."""
    return f"the file would become {plural(more, 'byte')} larger: what is put in takes more than what goes"


def never_larger(model: Model, traced: Trace, plan: Plan, slim: Model) -> tuple[Plan, Model]:
    """A plan and the slim model that it gave, or nothing removed where that is larger than its input.

    Parameters
    ----------
    model : Model
        The input.
    traced : Trace
        What the plan is for: the input, or what a clean-up left of it.

    Raises
    ------
    BudgetError
        If there is a budget that cannot be met then.
    """
    more = growth(model, slim)
    if not more:
        return plan, slim
    for name in BUDGETS:
        limit = plan.options.get(name)
        if limit is not None and limit < 1:
            flag = name.replace("_", "-")
            raise BudgetError(f"{flag} {limit:g} cannot be met, because {larger(more)}")
    return plan.whole(larger(more)), traced.model


def fitting(recovery: Recovery, model: Model, slim: Model) -> Recovery:
    """Recovered weights, or none where the slim model would be larger than its input with them.

    Raises
    ------
    PlanError
        If they were read from a file.
    """
    more = growth(model, recovery.apply(slim)) if recovery.weights else 0
    if not more:
        return recovery
    found = f"the slim model is {plural(more, 'byte')} larger than its input with the recovered weights"
    if not recovery.outcomes:
        raise PlanError(f"recovery: {found}", "The recovered weights belong to another model.")
    outcomes = tuple(replace(o, how="", error=o.kept, reason=found, named=True) for o in recovery.outcomes)
    options = dict(recovery.options)
    return Recovery({}, outcomes, {**options, "harm": [options["harm"][0]] * 2})
