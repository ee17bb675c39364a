"""The table of value rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...model.node import Node
from ...rules import RULES
from .state import Values

Function = Callable[[Values, Node], None]

VALUE_RULES: dict[tuple[str, str], Function] = {}


def values(*ops: str, also: Iterable[tuple[str, str]] = ()) -> Callable[[Function], Function]:
    """Register the value rule of some operators.

    Parameters
    ----------
    ops : str
        Operators of the default domain.
    also : iterable of (domain, op)

    Raises
    ------
    ValueError
        If one of them has a value rule already.
    """

    def register(function: Function) -> Function:
        for key in [*(("", op) for op in ops), *also]:
            if key in VALUE_RULES:
                raise ValueError(f"operator {key[1]} has a value rule already")
            VALUE_RULES[key] = function
        return function

    return register


def like(function: Any) -> list[tuple[str, str]]:
    """Operators that carry labels by one rule, for a value rule that holds for all of them."""
    return [key for key, rule in RULES.items() if rule.apply is function]


def find_values(node: Node) -> Function | None:
    """Value rule of a node, None for an operator that has none."""
    return VALUE_RULES.get((node.domain, node.op))
