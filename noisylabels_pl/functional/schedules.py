"""Schedules: numbers that follow from the epoch or the step."""

from __future__ import annotations

import math
from typing import Literal

from noisylabels_pl.functional.checks import check_choice, check_range

ForgetRateSchedule = Literal["paper", "released"]


def forget_rate_schedule(
    epoch: int, forget_rate: float, *, ramp_epochs: int = 10, schedule: ForgetRateSchedule = "paper"
) -> float:
    r"""Return the fraction of a batch that Co-teaching and Co-PRL(L) drop in an epoch.

    In the papers the fraction rises over the first :math:`T_k` epochs, counted from 1, to :math:`\tau`:

    .. math::
        R(t) = \tau \cdot \min(t / T_k, 1)

    The papers are `Co-teaching <https://arxiv.org/abs/1804.06872>`_ and `Provable Robust Learning for Deep Neural
    Networks under Agnostic Corrupted Supervision <https://openreview.net/forum?id=Bi2OvVf1KPn>`_ (PRL). The public code
    of both has a ramp from 0 to :math:`\tau` over :math:`T_k` epochs, but does not train in the first of them, so that
    the first epoch that trains drops :math:`\tau / (T_k - 1)`:

    .. math::
        R(t) = \tau \cdot \min(t / (T_k - 1), 1)

    Args:
        epoch: counted from 0.
        forget_rate: the fraction after the ramp, the papers' ``tau``.
        ramp_epochs: the length of the ramp, the papers' ``T_k``; 0 for no ramp.
        schedule: ``"paper"``, or ``"released"`` for the public code.

    Returns:
        A number in ``[0, forget_rate]``.

    Raises:
        ValueError: ``ramp_epochs`` is negative or ``schedule`` unknown.

    Example:
        >>> from noisylabels_pl.functional import forget_rate_schedule
        >>> [forget_rate_schedule(epoch, 0.5, ramp_epochs=4) for epoch in range(5)]
        [0.125, 0.25, 0.375, 0.5, 0.5]
        >>> [forget_rate_schedule(epoch, 0.3, ramp_epochs=3, schedule="released") for epoch in range(4)]
        [0.15, 0.3, 0.3, 0.3]
    """
    check_choice("schedule", schedule, ForgetRateSchedule)
    check_range("ramp_epochs", ramp_epochs, "[0, inf)", hint="0 is no ramp")
    rising_epochs = ramp_epochs if schedule == "paper" else ramp_epochs - 1
    if epoch + 1 >= rising_epochs:
        return forget_rate
    return forget_rate * (epoch + 1) / rising_epochs


def sigmoid_rampup(step: int, length: int) -> float:
    r"""Return the value of a ramp in the shape of a sigmoid, from ``exp(-5)`` to 1.

    .. math::
        w(t) = \exp\left(-5 (1 - \min(t / T, 1))^2\right)

    ELR+ raises the weight of its penalty along this ramp: section F of "Early-Learning Regularization Prevents
    Memorization of Noisy Labels" (https://arxiv.org/abs/2007.00151).

    Args:
        step: ``t``, counted from 0.
        length: ``T``, the number of steps until the ramp reaches 1; 0 for no ramp, which returns 1.

    Returns:
        A number in ``[exp(-5), 1]``.

    Example:
        >>> from noisylabels_pl.functional import sigmoid_rampup
        >>> [round(sigmoid_rampup(step, 4), 4) for step in range(6)]
        [0.0067, 0.0601, 0.2865, 0.7316, 1.0, 1.0]
    """
    if length == 0:
        return 1.0
    remaining = 1 - min(step, length) / length
    return math.exp(-5 * remaining**2)
