"""Classes of samples, from the forms that people keep them in.

* a sequence or array, in the order of the samples
* ``FILE.json``: such a list, or an object of file name -> class
* ``FILE.csv``: lines ``name,class``, or one class per line; a line of titles is skipped
* ``FILE.npy``: an array, in the order of the samples
* ``names``: the leading number of every file name, as in ``0002_shark.jpg``
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, reason

OTHERWISE = "Other labels need a function of your own: --metric."

HINT = "Expected a .json, .csv or .npy file, or 'names' for numbers that file names start with."


def read_labels(source: Any, names: Sequence[str]) -> np.ndarray | None:
    """Class of every sample; None without a source.

    Parameters
    ----------
    source : path, "names", sequence, array, None or False
    names : sequence of str
        Names of the samples, in their order.

    Raises
    ------
    UsageError
        If they cannot be read, or do not fit the samples.
    """
    if source is None or source is False:
        return None
    if isinstance(source, (str, os.PathLike)):
        source = _leading(names) if source == "names" else _read(Path(source))
    if isinstance(source, Mapping):
        missing = [name for name in names if name not in source]
        if missing:
            raise UsageError(f"labels: found none of '{missing[0]}'")
        source = [source[name] for name in names]
    try:
        labels = np.asarray(source)
        if labels.dtype.kind not in "iub":
            labels = labels.astype(np.float64)
    except ValueError:
        raise UsageError("labels: found text, expected numbers") from None
    if len(labels) != len(names):
        raise UsageError(f"labels: found {len(labels)}, expected {len(names)}, one per sample")
    return labels


def as_classes(labels: np.ndarray, classes: int) -> npt.NDArray[np.int64]:
    """Class of every sample, from numbers of classes or from rows of one score per class.

    Parameters
    ----------
    labels : array, shape (samples,) or (samples, classes)
        Whole numbers of any type; or rows with one largest entry each (one-hot, or smoothed). Axes
        of size 1 are dropped.
    classes : int

    Raises
    ------
    UsageError
        If they are something else.
    """
    rows = labels.reshape(len(labels), -1)
    wanted = f"expected numbers from 0 to {classes - 1}, or rows of {classes} with one largest entry each"
    if rows.shape[1] == classes:
        best = rows.max(axis=1, keepdims=True) == rows
        several = np.flatnonzero(best.sum(axis=1) != 1)
        if len(several):
            raise UsageError(f"labels: sample {several[0]} has no single class, {wanted}", OTHERWISE)
        return np.asarray(best.argmax(axis=1))
    if rows.shape[1] != 1:
        raise UsageError(f"labels: found shape {list(labels.shape)}, {wanted}", OTHERWISE)
    values = rows[:, 0]
    wrong = np.flatnonzero(~((values == np.rint(values)) & (values >= 0) & (values < classes)))
    if len(wrong):
        raise UsageError(f"labels: found {values[wrong[0]]:g} for sample {wrong[0]}, {wanted}", OTHERWISE)
    return values.astype(np.int64)


def _leading(names: Sequence[str]) -> list[int]:
    found = []
    for name in names:
        number = re.match(r"\d+", name)
        if number is None:
            raise UsageError(f"labels: the name '{name}' starts with no number", HINT)
        found.append(int(number.group()))
    return found


def _read(path: Path) -> Any:
    """List, array or mapping from a file."""
    from ..settings.schema import Labels, checked, read_json, regular

    try:
        if path.suffix == ".json":
            return checked(read_json(path, "labels", UsageError), Labels, f"labels '{path}'", UsageError)
        regular(path)
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix != ".csv":
            raise UsageError(f"labels '{path}': found ending '{path.suffix}'", HINT)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read labels '{path}': {reason(error)}", HINT) from None
    except (EOFError, ValueError) as error:
        raise UsageError(f"cannot read labels '{path}': {error}") from None
    rows = [row for row in csv.reader(text.splitlines()) if row and _is_number(row[-1])]
    if all(len(row) == 1 for row in rows):
        return [int(row[0]) for row in rows]
    return {row[0]: int(row[-1]) for row in rows}


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*\d+\s*", text))
