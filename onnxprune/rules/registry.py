"""The table of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import TRAITS, Trait, tell
from ..printable import docstring
from ..runtime.custom import Reference, Sized
from ..runtime.custom import register as register_custom

Function = Callable[[Walk, Node], None]
Sign = Callable[[Walk, Node], int]
Random = Callable[[Walk, Node], bool]

Along = Literal["", "exact", "exact or statistic", "statistic", "pinned"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one operator is handled.

    Attributes
    ----------
    pinned : str
        Why the operator pins what it touches; empty where it carries labels.
    along : str
        What becomes of channels along an axis that the operator reduces, normalizes or orders:

        - ``exact``: a removed entry adds nothing, so they go;
        - ``exact or statistic``: exact where the sign of the entries says that a zero cannot be the
          result, a statistic elsewhere;
        - ``statistic``: the result is that of the kept entries; ``norm`` says whether they go;
        - ``pinned``: they stay;
        - empty: it has no such axis.
    sign : callable or None
        Sign of the outputs, see ``signs.py``; None where nothing is known of it.
    random : callable or None
        Whether a node draws random numbers; None for operators that never do.
    """

    op: str
    domain: str
    apply: Function
    summary: str
    pinned: str = ""
    along: Along = ""
    sign: Sign | None = None
    random: Random | None = None

    @property
    def traits(self) -> Trait | None:
        """What other stages know of the operator; None where nobody said, not even that it is nothing."""
        return TRAITS.get((self.domain, self.op))


def always(c: Walk, n: Node) -> bool:
    """Trait of an operator that draws random numbers whatever its inputs are."""
    return True


RULES: dict[tuple[str, str], Rule] = {}


def rule(
    *ops: str,
    domain: str = "",
    along: Along = "",
    sign: Sign | None = None,
    random: Random | None = None,
    traits: Trait | None = None,
    shape: Sized | None = None,
    reference: Reference | None = None,
) -> Callable[[Function], Function]:
    """Register a function as the rule of some operators.

    Parameters
    ----------
    ops : str
    domain : str
    along, sign, random
        What labels need to know of the operators, see :class:`Rule`.
    traits : Trait, optional
        What other stages need to know of them; a test demands it of every operator of ONNX.
    shape : callable, optional
        Of operators of your own: ``shape(*shapes, **attributes)`` gives the shape of the output, or a
        list of one per output. By default that of the first input.
    reference : callable, optional
        Of operators of your own: ``reference(*arrays, **attributes)`` gives the output, or a tuple of
        them. Models with the operator are verified with it; without it all but the operator is.

    Raises
    ------
    ValueError
        If one of them has a rule already, or is run by onnxruntime and given a shape or a reference.
    """

    def register(function: Function) -> Function:
        summary = docstring(function).partition("\n")[0]
        for op in ops:
            register_custom(domain, op, shape, reference)
            _add(Rule(op, domain, function, summary, along=along, sign=sign, random=random))
        _tell(domain, ops, traits, random)
        return function

    return register


def _tell(domain: str, ops: Sequence[str], traits: Trait | None, random: Random | None) -> None:
    if random is not None:
        traits = Trait.RANDOM | (traits or Trait.NONE)
    if traits is not None:
        tell(domain, *ops, traits=traits)


def pinned(*ops: str, why: str, domain: str = "", traits: Trait = Trait.NONE) -> None:
    """Register operators that pin everything they touch, on purpose."""

    def freeze(c: Walk, n: Node) -> None:
        c.freeze(c.graph.reads(n), f"{n}: {why}")

    for op in ops:
        _add(Rule(op, domain, freeze, f"pins what it touches: {why}", why))
    tell(domain, *ops, traits=traits)


def find(node: Node) -> Rule | None:
    """Rule of a node, None for an operator that has none."""
    return RULES.get((node.domain, node.op))


def _add(new: Rule) -> None:
    key = (new.domain, new.op)
    if key in RULES:
        raise ValueError(f"operator {new.op} has a rule already")
    RULES[key] = new
