"""One layer: fitted on most samples and judged on the others, then fitted on all of them."""

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
    recover: Recover,
    dense: Weights,
    slim: Weights,
    samples: Samples,
    *,
    free: bool,
    aware: bool,
    restore: bool = False,
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
        Whether targets are adapted to the activation.
    restore : bool
        Whether variances are restored.

    Returns
    -------
    weights : Weights or None
        Fitted on all samples, in the way that was best on those held out.
    error, kept : float
        Loss on held-out samples with a fit on the others, and with the weights that surgery left.
    how : str
    """
    first, held = samples.split
    one, two = first.moments, held.moments
    kept = held.loss(slim)
    options = {"nothing": slim}
    if free:
        options["bias"] = Weights(slim.matrix, one.offset(slim.matrix))
    options["fit"] = plain = _fitted(recover, dense, slim, one, two, free)
    if aware and (samples.low > -np.inf or samples.high < np.inf):
        found = plain
        for _ in range(ROUNDS):
            again = replace(slim, penalty=found.penalty)
            found = _fitted(recover, dense, again, first.aware(found, one).moments, two, free)
        options["aware"] = found
    losses = {name: kept if weights is slim else held.loss(weights) for name, weights in options.items()}
    best = min(losses, key=lambda name: losses[name])
    if best == "nothing" or not losses[best] < kept:
        return None, kept, kept, ""
    whole, new = one.joined(two), options[best]
    if best == "bias":
        new = Weights(slim.matrix, whole.offset(slim.matrix))
    else:
        goal = samples.aware(new, whole).moments if best == "aware" else whole
        new = _fitted(recover, dense, replace(slim, penalty=new.penalty), goal, two, free)
    return restored(new, whole) if restore else new, losses[best], kept, best


def _fitted(
    recover: Recover, dense: Weights, slim: Weights, one: JointMoments, two: JointMoments, free: bool
) -> Weights:
    """What a recovery makes of some samples; without an offset, rows and targets are not centred."""
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


def restored(weights: Weights, moments: JointMoments) -> Weights:
    """The same fit with the variance of its targets.

    Least squares on inputs that carry errors shrinks (attenuation), and it adds up over layers.
    """
    found = moments.output_variance(weights.matrix)
    ratio = np.sqrt(moments.variance / np.where(found > 0, found, np.inf))
    ratio = np.clip(np.where(found > 0, ratio, 1), *SCALES)
    matrix = weights.matrix * ratio[:, :, None]
    return replace(weights, matrix=matrix, offset=moments.offset(matrix))
