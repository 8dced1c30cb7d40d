"""Schedules: numbers that follow from an epoch or a step."""

from __future__ import annotations

import math
from typing import Literal

from noisylabels_pl.functional.checks import check_choice

ForgetRateSchedule = Literal["paper", "released"]


def forget_rate_schedule(
    epoch: int, forget_rate: float, *, ramp_epochs: int = 10, schedule: ForgetRateSchedule = "paper"
) -> float:
    """The share of a batch that Co-teaching and Co-PRL(L) drop in an epoch.

    Args:
        epoch: counted from 0.
        forget_rate: the share after the ramp, the papers' ``tau``.
        ramp_epochs: the papers' ``T_k``; 0 for no ramp.
        schedule: ``paper``: ``tau * min((epoch + 1) / T_k, 1)``; ``released``: from 0 in the first epoch to ``tau`` in
            epoch ``T_k - 1``, as in the public code of both.

    Raises:
        ValueError: ``ramp_epochs`` is negative or ``schedule`` unknown.
    """
    check_choice("schedule", schedule, ForgetRateSchedule)
    if ramp_epochs < 0:
        raise ValueError(f"ramp_epochs must not be negative, got {ramp_epochs}; 0 is no ramp")
    if epoch >= ramp_epochs:
        return forget_rate
    if schedule == "paper":
        return forget_rate * (epoch + 1) / ramp_epochs
    return forget_rate * epoch / max(ramp_epochs - 1, 1)


def sigmoid_rampup(step: int, length: int) -> float:
    """``exp(-5 (1 - s)^2)`` with ``s = min(step / length, 1)``; 1 for a length of 0 (ELR+, section F).

    Args:
        step: from 0.
        length: steps until the ramp has reached 1.
    """
    if length == 0:
        return 1.0
    return math.exp(-5 * (1 - min(step, length) / length) ** 2)
