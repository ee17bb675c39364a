"""The table of value rules."""

from __future__ import annotations

from collections.abc import Callable

from ...model.node import Node
from ...model.operators import Trait, traits_of
from .state import Values

Function = Callable[[Values, Node], None]

VALUE_RULES: dict[tuple[str, str], Function] = {}

BY_TRAIT: dict[Trait, Function] = {}
"""Value rules for all operators of a trait that have none of their own."""


def values(*ops: str, trait: Trait | None = None) -> Callable[[Function], Function]:
    """Register the value rule of some operators.

    Parameters
    ----------
    ops : str
        Operators of the default domain.
    trait : Trait, optional
        All others that have it, of any domain.

    Raises
    ------
    ValueError
        If one of them has a value rule already.
    """

    def register(function: Function) -> Function:
        for op in ops:
            if ("", op) in VALUE_RULES:
                raise ValueError(f"operator {op} has a value rule already")
            VALUE_RULES["", op] = function
        if trait is not None:
            BY_TRAIT[trait] = function
        return function

    return register


def find_values(node: Node) -> Function | None:
    """Value rule of a node, None for an operator that has none."""
    own = VALUE_RULES.get((node.domain, node.op))
    traits = traits_of(node)
    return own or next((function for trait, function in BY_TRAIT.items() if trait in traits), None)
