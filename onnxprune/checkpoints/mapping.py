"""Constants of an ONNX file -> entries of the checkpoint that it was exported from.

Every step is proven by value. Names decide only between entries that hold the same values: the name of
the constant, the module that the exporter says a node comes from, and what else that node reads. What is
left open is named, never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..printable import first_of, printable
from .fingerprints import ValueIndex, orders
from .folding import directions, fold_of_bias, folds_of_weight, normalized_of, norms, scales, shifts
from .normalized import FoldedWeight, Norm, Scale
from .recipes import Moved, Negated, Piece, Recipe, Stacked, module_of
from .rows import MOST, Rows
from .uses import Use

BY_NAME = "by name alone: the checkpoint holds other values"

OWN = "the exporter's own: all its values are equal"

SHOWN = 6
"""Entries or constants that a sentence lists at most."""


@dataclass(frozen=True)
class Link:
    """A use of a constant, and where its value comes from.

    Attributes
    ----------
    recipe : Recipe or None
        None where nothing is known.
    reason : str
        Why nothing is known, or that it is known by name alone.
    """

    use: Use
    recipe: Recipe | None
    reason: str = ""


@dataclass(frozen=True)
class Origins:
    """Every use of a constant, and where its value comes from."""

    links: tuple[Link, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def mapped(self) -> list[Link]:
        """Those that are known."""
        return [link for link in self.links if link.recipe is not None]

    @property
    def unmapped(self) -> list[Link]:
        """Those that are not."""
        return [link for link in self.links if link.recipe is None]


def aliases(state: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Entries that are another one under a second name (tied weights) -> the first name."""
    first: dict[tuple[object, ...], str] = {}
    found = {}
    for name, array in state.items():
        place = array.__array_interface__["data"][0], array.shape, array.strides
        if array.size > 1 and first.setdefault(place, name) != name:
            found[name] = first[place]
    return found


def map_constants(uses: Sequence[Use], state: Mapping[str, np.ndarray]) -> Origins:
    """Find where the values of constants come from.

    Parameters
    ----------
    uses : sequence of Use
        Of the file that was exported.
    state : mapping of str to array
        The checkpoint that it was exported from, before any further training.
    """
    second = aliases(state)
    floats = {
        name: array
        for name, array in state.items()
        if array.dtype.kind == "f" and array.size > 1 and name not in second
    }
    return Origins(tuple(_Search(uses, floats).run()), second)


class _Search:
    def __init__(self, uses: Sequence[Use], state: Mapping[str, np.ndarray]) -> None:
        self._uses, self._state = uses, state
        self._found: dict[int, Recipe] = {}
        self._open: dict[int, list[Recipe]] = {}
        self._reasons: dict[int, str] = {}
        self._nodes: dict[str, list[int]] = defaultdict(list)
        self._names: dict[str, int] = defaultdict(int)
        self._vectors: dict[str, list[str]] = defaultdict(list)
        for name, array in state.items():
            if array.ndim == 1:
                self._vectors[module_of(name)].append(name)
        for number, use in enumerate(uses):
            self._nodes[use.output].append(number)
            self._names[use.name] += 1

    def run(self) -> Iterable[Link]:
        """Whole entries, then folds, then rows; each where the steps before found nothing."""
        directory = ValueIndex(self._state)
        values: dict[str, list[Recipe]] = {}
        for number, use in enumerate(self._uses):
            if use.name not in values:
                whole = [Moved((piece,)) for piece in directory.find(use.value)]
                values[use.name] = [*whole] or [Negated(Moved((p,))) for p in directory.find(-use.value)]
            if values[use.name]:
                self._open[number] = values[use.name]
        self._decide()
        every = norms(self._state)
        self._fold(every)
        self._decide()
        self._apart(every)
        self._decide()
        rows = Rows(self._state)
        for number, use in enumerate(self._uses):
            if number not in self._open and number not in self._found:
                ways, doubtful = _parts(use.value, directory, rows)
                self._open[number] = [*directions(use.value, self._state)] or ways
                if doubtful and not self._open[number]:
                    self._reasons[number] = "several entries hold parts of it"
        self._decide()
        self._name()
        return [self._link(number, use) for number, use in enumerate(self._uses)]

    def _link(self, number: int, use: Use) -> Link:
        if number in self._found:
            return Link(use, self._found[number], self._reasons.get(number, ""))
        ways = self._open.get(number, ())
        if ways:
            shown = listed(f"'{way}'" for way in ways)
            return Link(use, None, f"its values are those of {shown}")
        if number not in self._reasons and (use.value == use.value.flat[0]).all():
            return Link(use, None, OWN)
        return Link(use, None, self._reasons.get(number) or self._nowhere(use))

    def _nowhere(self, use: Use) -> str:
        """Why a constant comes from no entry."""
        if use.shrinks and (entry := normalized_of(use.value, self._state)):
            return f"it is '{entry}', normalized by what depends on all of it, and would be so anew once some of it is gone"
        if use.sources:
            own = [name for name in use.sources if name in self._state]
            return f"the network computes it from {listed(own or use.sources)}, in a way that is not known"
        return "no entry of the checkpoint holds its values"

    def _decide(self) -> None:
        """Take what is certain, until nothing more is."""
        before = -1
        while len(self._found) > before:
            before = len(self._found)
            for number, ways in list(self._open.items()):
                if number not in self._found and (one := self._only(number, ways)) is not None:
                    self._found[number] = one

    def _only(self, number: int, ways: Sequence[Recipe]) -> Recipe | None:
        """The one way that values, names and neighbours leave."""
        if len(ways) == 1:
            return ways[0]
        use = self._uses[number]
        for module in use.modules:
            inside = [way for way in ways if module in map(module_of, way.entries)]
            if inside:
                return inside[0] if len(inside) == 1 else None
        if self._names[use.name] == 1:
            named = [way for way in ways if use.name in way.entries]
            if len(named) == 1:
                return named[0]
        near = {
            module_of(entry)
            for other in self._nodes[use.output]
            if other in self._found
            for entry in self._found[other].entries
        }
        beside = [way for way in ways if near.intersection(map(module_of, way.entries))]
        return beside[0] if len(beside) == 1 else None

    def _name(self) -> None:
        """By name alone what no value tells: statistics that the exporter itself went on to update."""
        for number, use in enumerate(self._uses):
            array = self._state.get(use.name)
            nothing = number not in self._found and not self._open.get(number)
            if (
                nothing
                and array is not None
                and array.shape == use.value.shape
                and self._names[use.name] == 1
            ):
                self._found[number] = by_name(use.name, array)
                self._reasons[number] = BY_NAME

    def _apart(self, every: Sequence[Norm]) -> None:
        """Batch normalizations that are a product and a sum."""
        read = {entry for recipe in self._found.values() for entry in recipe.entries}
        rest = [norm for norm in every if not read.intersection(norm.entries)]
        free = [number for number in range(len(self._uses)) if number not in self._open]
        for number in free:
            if ways := [*scales(self._uses[number].value, rest, self._state)]:
                self._open[number] = [*ways]
        scaled = [way for number in free for way in self._open.get(number, ())]
        eps = {way.norm.var: way.norm.eps for way in scaled if isinstance(way, Scale)}
        for number in free:
            if more := [*shifts(self._uses[number].value, rest, eps, self._state)]:
                self._open[number] = [*self._open.get(number, ()), *more]

    def _fold(self, every: Sequence[Norm]) -> None:
        """Weights with a batch normalization in them, and the biases beside them."""
        sizes: dict[int, list[str]] = defaultdict(list)
        for name, array in self._state.items():
            if array.ndim > 1:
                sizes[array.size].append(name)
        for numbers in self._nodes.values():
            weights = [n for n in numbers if n not in self._open and self._uses[n].value.ndim > 1]
            for number in weights if every else ():
                self._fold_node(number, numbers, sizes, every)

    def _fold_node(
        self, number: int, numbers: Sequence[int], sizes: Mapping[int, Sequence[str]], every: Sequence[Norm]
    ) -> None:
        use = self._uses[number]
        names = sizes.get(use.value.size, ())
        ways = list(folds_of_weight(use.value, names, self._state, every))
        others = [n for n in numbers if n != number and self._uses[n].value.ndim == 1 and n not in self._open]
        for other in others:
            pairs = []
            for way in ways:
                known = self._vectors[module_of(way.weight.entry)]
                made = fold_of_bias(self._uses[other].value, way.norm, known, self._state)
                if made is not None:
                    pairs.append((way, made))
            if pairs:
                ways = [way for way, _ in pairs]
                self._open[other] = [made for _, made in pairs]
        if ways:
            self._open[number] = list(ways)
            chosen = self._only(number, ways)
            if isinstance(chosen, FoldedWeight):
                self._keep(number, chosen, others)

    def _keep(self, number: int, chosen: FoldedWeight, others: Sequence[int]) -> None:
        """Take a fold, and the bias through the same normalization."""
        self._found[number] = chosen
        for other in others:
            same = [way for way in self._open.get(other, ()) if chosen.norm.var in way.entries]
            if len(same) == 1:
                self._found[other] = same[0]


def _parts(value: np.ndarray, directory: ValueIndex, rows: Rows) -> tuple[list[Recipe], bool]:
    """Ways to make a constant of parts of entries, and whether some part is in several."""
    if gathered := [*rows.gathered(value)]:
        return [*gathered], False
    ways, doubtful = rows.find(value)
    if ways or value.ndim < 2 or not 1 < len(value) <= MOST:
        return [*ways], doubtful
    parts: list[Recipe] = []
    for number in range(len(value)):
        one = value[number : number + 1]
        whole: list[Recipe] = [Moved((piece,)) for piece in directory.find(one)]
        found, several = (whole, False) if whole else _parts(one, directory, rows)
        if len(found) != 1:
            return [], doubtful or several
        parts.append(found[0])
    return [Stacked(tuple(parts))], False


def by_name(name: str, array: np.ndarray) -> Moved:
    """A constant that is a whole entry as it is."""
    order = next(orders(array.shape, array.shape))
    return Moved((Piece(name, array.shape, order, 0, len(array), array.shape),))


def listed(names: Iterable[str]) -> str:
    """Some names in one line."""
    return printable(first_of(list(dict.fromkeys(names)), SHOWN))
