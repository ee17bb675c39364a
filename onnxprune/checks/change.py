"""How much does the model change? The slim model against the original, on many samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..data.batches import Batch
from ..errors import ModelError, SurgeryError, UsageError
from ..runtime.session import Arrays
from .accuracy import Accuracy, Score
from .compare import Comparison, Difference
from .subject import Subject


def measure_change(
    before: Subject, after: Subject, data: Iterable[Batch], accuracy: Accuracy
) -> tuple[tuple[Difference, ...], tuple[Score, ...]]:
    """Run both models; how outputs that hold anything differ, and how accurate they are."""
    sums: dict[str, Comparison] = {}
    for batch in data:
        old, new = before.run(batch.feeds), after.run(batch.feeds)
        _same_outputs(before.declared, old, new)
        for name, array in old.items():
            sums.setdefault(name, Comparison(name)).add(array, new[name], batch.size)
        accuracy.add(batch, old, new)
    return tuple(s.difference() for s in sums.values() if s.samples), accuracy.scores()


@contextmanager
def ours() -> Iterator[None]:
    """What onnxruntime refuses here was made by us: it fails the check, the input is not at fault."""
    try:
        yield
    except ModelError as error:
        raise SurgeryError(error.message, "onnxruntime runs the original.") from None


def same_inputs(before: Subject, after: Subject) -> None:
    """Refuse inputs of other names."""
    for value in after.inputs:
        if value not in before.inputs:
            names = ", ".join(f"'{name}'" for name in before.inputs)
            raise UsageError(
                f"the original has no input '{value}': found {names}", "The slim model was not made from it."
            )


def _same_outputs(declared: Mapping[str, Sequence[object]], before: Arrays, after: Arrays) -> None:
    """Refuse outputs of other names or sizes; a size that is not declared may depend on data."""
    for name, array in before.items():
        if name not in after:
            found = ", ".join(f"'{n}'" for n in after)
            raise UsageError(
                f"the slim model has no output '{name}': found {found}", "It was not made from this original."
            )
        sizes = zip(declared.get(name, ()), array.shape, after[name].shape, strict=False)
        fixed = any(isinstance(size, int) and a != b for size, a, b in sizes)
        if array.ndim != after[name].ndim or fixed:
            raise SurgeryError(
                f"output '{name}': found shape {list(after[name].shape)}, expected {list(array.shape)}"
            )
