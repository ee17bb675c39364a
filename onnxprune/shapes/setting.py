"""What is known of all tensors at one choice of the free dimensions, and at two of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .dimensions import SAMPLE_COUNT, FreeDimensions

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Elements:
    """Shapes of the elements of a sequence.

    Attributes
    ----------
    shapes : tuple of Shape
        One per element; where the number is not known, one for all (none, if no element is known).
    counted : bool
        Whether the number of elements is known.
    optional : bool
        Whether it is an optional tensor: at most one element, and no sequence.
    """

    shapes: tuple[Shape, ...]
    counted: bool = True
    optional: bool = False


@dataclass(slots=True)
class Setting:
    """Shapes, element types and known small values at one choice of the free dimensions.

    Attributes
    ----------
    sizes : mapping
        The free dimensions.
    count : int
        Stands in for every size that depends on data.
    sampled : bool
        Whether there is such a size.
    probed : bool
        Whether the model ran at these sizes.
    sequences : dict
        Shapes of the elements of sequences and optional values.
    """

    sizes: FreeDimensions = field(default_factory=dict)
    count: int = SAMPLE_COUNT[0]
    sampled: bool = False
    probed: bool = False
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    sequences: dict[str, Elements] = field(default_factory=dict)

    def copy(self) -> Setting:
        """A setting whose tables can be changed on their own."""
        tables = dict(self.shapes), dict(self.dtypes), dict(self.values), dict(self.sequences)
        return Setting(self.sizes, self.count, self.sampled, self.probed, *tables)


@dataclass(frozen=True, slots=True)
class Shapes:
    """What two settings say together. In a static model both are the same.

    Attributes
    ----------
    first, second : Setting
    at : Setting, optional
        Sizes to look at instead of those of the first setting. What is static, and how a Reshape
        cuts, is judged by the two settings: sizes given by data may agree by chance, or be 1.
    """

    first: Setting
    second: Setting
    at: Setting | None = None

    @property
    def shown(self) -> Setting:
        """The setting that sizes are read from."""
        return self.at or self.first

    def get(self, name: str) -> Shape | None:
        """Shape in the first setting, None where it is unknown."""
        return self.shown.shapes.get(name)

    def static(self, name: str, axis: int) -> bool:
        """Whether an axis has the same size in both settings."""
        if self.first is self.second:
            return name in self.shown.shapes
        one, two = self.first.shapes.get(name), self.second.shapes.get(name)
        if one is None or two is None or len(one) != len(two):
            return False
        return one[axis] == two[axis]

    @property
    def held(self) -> dict[tuple[str, int], int]:
        """Free dimensions that the model was looked at with one size of only."""
        first, second = self.first.sizes, self.second.sizes
        return {dim: size for dim, size in first.items() if second[dim] == size}

    def value(self, name: str) -> np.ndarray | None:
        """Value that is the same in both settings, None where there is none."""
        one = self.first.values.get(name)
        if one is None or self.first is self.second:
            return one
        two = self.second.values.get(name)
        return one if two is not None and np.array_equal(one, two) else None
