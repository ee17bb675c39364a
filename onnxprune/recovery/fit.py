"""One layer: fitted on most samples, judged on the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..labels.vector import Floats
from ..moments.joint import JointMoments, Recover, Weights
from .samples import Samples

ROUNDS = 2
"""How often targets behind an activation are adapted to the fit."""

SCALES = (0.8, 1.25)
"""Least and largest factor by which the variance of an output is restored."""


def fit(
    recover: Recover, dense: Weights, slim: Weights, samples: Samples, *, free: bool, aware: bool
) -> tuple[Weights | None, float, float, str]:
    """New weights of a layer, or None where it keeps its own.

    Parameters
    ----------
    recover : callable
    dense, slim : Weights
        The layer of the original, and what surgery left of it.
    free : bool
        Whether the offset can change.
    aware : bool
        Whether targets are adapted to the activation, and variances restored.

    Returns
    -------
    weights : Weights or None
    error, kept : float
        Loss on held-out samples with them, and with the weights that surgery left.
    how : str
    """
    first, held = samples.split
    kept = held.loss(slim)
    options = {"nothing": slim}
    if free:
        options["bias"] = Weights(slim.matrix, first.moments.offset(slim.matrix))
    plain = _fitted(recover, dense, slim, first, held, free)
    options["fit"] = plain
    bounded = aware and (samples.low > -np.inf or samples.high < np.inf)
    if bounded:
        options["aware"] = _adapted(recover, dense, slim, first, held, plain, free)
    losses = {name: kept if weights is slim else held.loss(weights) for name, weights in options.items()}
    best = min(losses, key=lambda name: losses[name])
    if best == "nothing" or not losses[best] < kept:
        return None, kept, kept, ""
    return options[best], losses[best], kept, best


def _fitted(
    recover: Recover, dense: Weights, slim: Weights, samples: Samples, held: Samples, free: bool
) -> Weights:
    """What a recovery makes of some samples; without an offset, rows and targets are not centred."""
    one, two = samples.moments, held.moments
    if not free:
        one, two = _about_zero(one, slim.offset), _about_zero(two, slim.offset)
    found = recover(dense, slim, one, two)
    return found if free else replace(found, offset=slim.offset)


def _about_zero(moments: JointMoments, offset: Floats) -> JointMoments:
    """Moments about zero in place of the mean: the best weights beside an offset that stays."""
    mean, goal = moments.mean, moments.target - offset
    return JointMoments(
        moments.count,
        np.zeros_like(mean),
        moments.second + mean[:, :, None] * mean[:, None, :],
        np.zeros_like(goal),
        moments.variance + goal**2,
        moments.cross + mean[:, :, None] * goal[:, None, :],
    )


def _adapted(
    recover: Recover,
    dense: Weights,
    slim: Weights,
    samples: Samples,
    held: Samples,
    found: Weights,
    free: bool,
) -> Weights:
    """A fit whose targets follow what the activation hides."""
    for _ in range(ROUNDS):
        found = _fitted(
            recover, dense, replace(slim, penalty=found.penalty), samples.aware(found), held, free
        )
    return found


def restored(weights: Weights, moments: JointMoments) -> Weights:
    """The same fit with the variance of its targets.

    Least squares on inputs that carry errors shrinks (attenuation), and it adds up over layers.
    """
    found = moments.output_variance(weights.matrix)
    ratio = np.sqrt(moments.variance / np.where(found > 0, found, np.inf))
    ratio = np.clip(np.where(found > 0, ratio, 1), *SCALES)
    matrix = weights.matrix * ratio[:, :, None]
    return replace(weights, matrix=matrix, offset=moments.offset(matrix))
