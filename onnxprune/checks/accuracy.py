"""How good both models are: accuracy on labels, and metrics of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..data.batches import Batch, DataSet
from ..data.classes import as_classes
from ..errors import UsageError, blamed
from ..model.engine import InferenceSession
from ..plugins import function, is_path
from ..runtime.session import Arrays, run
from ..scoring.registry import lookup, names
from .compare import class_scores

Metric = Callable[[Iterator[Arrays], np.ndarray | None], float]
"""``metric(outputs, labels) -> float``, higher is better.

``outputs`` yields the outputs of the model by name, batch by batch; ``labels`` is one array for all
samples, or None. It is called once for each of the two models.
"""


@dataclass(frozen=True, slots=True)
class Score:
    """How good both models are by one measure; higher is better."""

    name: str
    before: float
    after: float

    @property
    def drop(self) -> float:
        """What pruning lost."""
        return self.before - self.after


class Accuracy:
    """Share of samples whose best class is the labelled one, for the first output of class scores.

    Parameters
    ----------
    required : bool
        Whether it is an error if no output is one row of class scores per sample, or if the labels
        are no classes.
    """

    def __init__(self, *, required: bool = True) -> None:
        self.required = required
        self.samples = 0
        self.hits = np.zeros(2)

    def add(self, batch: Batch, before: Arrays, after: Arrays) -> None:
        """Add one batch of both models' outputs.

        Raises
        ------
        UsageError
            If no output is one row of class scores per sample, or if the labels are no classes.
        """
        if batch.labels is None:
            return
        for name in before:
            scores = [class_scores(outputs[name], batch.size) for outputs in (before, after)]
            if scores[0] is not None and scores[1] is not None:
                try:
                    classes = as_classes(batch.labels, scores[0].shape[1])
                except UsageError:
                    if self.required:
                        raise
                    return  # a metric of the user's own may understand them
                self.samples += batch.size
                self.hits += [(v.argmax(axis=1) == classes).sum() for v in scores if v is not None]
                return
        if not self.required:
            return
        shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in before.items())
        raise UsageError(
            f"accuracy takes an output of class scores: found {shapes}, expected [{batch.size}, classes]",
            "Give a function of your own with --metric.",
        )

    def scores(self) -> tuple[Score, ...]:
        """The accuracy of both models, if there were labels."""
        if not self.samples:
            return ()
        before, after = (self.hits / self.samples).tolist()
        return (Score("accuracy", before, after),)


def load_metric(name: str) -> Metric:
    """A function by ``module:function`` or ``file.py:function``, or by its registered name.

    Raises
    ------
    UsageError
        If there is none.
    """
    if is_path(name):
        return function(name, "metric")
    if not names("metric"):
        raise UsageError(f"metric: found '{name}', expected module:function")
    return lookup("metric", name)


def measure(metric: str | Metric, data: DataSet, before: InferenceSession, after: InferenceSession) -> Score:
    """Apply a metric to both models."""
    score = load_metric(metric) if isinstance(metric, str) else metric
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
    labels = None
    if data.labelled:
        labels = np.concatenate([batch.labels for batch in data if batch.labels is not None])

    def value(session: InferenceSession) -> float:
        with blamed(f"metric '{name}'"):
            found = score((run(session, batch.feeds) for batch in data), labels)
        if not isinstance(found, (int, float, np.number)):
            raise UsageError(f"metric '{name}': found {type(found).__name__}, expected a number")
        return float(found)

    return Score(name, value(before), value(after))
