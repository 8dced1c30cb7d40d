"""Schedules by epoch and by step."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisylabels_pl.functional import forget_rate_schedule, sigmoid_rampup
from noisylabels_pl.functional.schedules import ForgetRateSchedule

few = settings(derandomize=True, max_examples=50, deadline=None)
SCHEDULES: tuple[ForgetRateSchedule, ...] = get_args(ForgetRateSchedule)


# --- forget_rate_schedule ---


@few
@given(st.floats(0, 1), st.integers(1, 20), st.integers(0, 40))
def test_the_papers_ramp(rate: float, ramp: int, epoch: int) -> None:
    now = forget_rate_schedule(epoch, rate, ramp_epochs=ramp, schedule="paper")
    assert isinstance(now, float)
    assert now == pytest.approx(rate * min((epoch + 1) / ramp, 1))
    assert now <= rate


@few
@given(st.floats(0, 1), st.integers(1, 20), st.integers(0, 40))
def test_the_released_ramp(rate: float, ramp: int, epoch: int) -> None:
    table = np.full(42, rate)
    table[:ramp] = np.linspace(0, rate, ramp)
    now = forget_rate_schedule(epoch, rate, ramp_epochs=ramp, schedule="released")
    assert isinstance(now, float)
    assert now == pytest.approx(table[epoch + 1])  # the public code trains from its epoch 1 on
    assert now <= rate


def test_ramps_by_hand() -> None:
    paper = [forget_rate_schedule(epoch, 0.5) for epoch in range(12)]
    assert paper == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.5, 0.5])
    released = [forget_rate_schedule(epoch, 0.5, schedule="released") for epoch in range(12)]
    assert released == pytest.approx([epoch / 18 for epoch in range(1, 10)] + [0.5, 0.5, 0.5])
    for schedule in SCHEDULES:
        assert forget_rate_schedule(100, 0.3, schedule=schedule) == 0.3


def test_ramps_of_one_epoch_and_of_none() -> None:
    for schedule in SCHEDULES:
        assert [forget_rate_schedule(epoch, 0.4, ramp_epochs=0, schedule=schedule) for epoch in range(3)] == [0.4] * 3
        assert [forget_rate_schedule(epoch, 0.4, ramp_epochs=1, schedule=schedule) for epoch in range(3)] == [0.4] * 3


def test_other_ramps_are_refused() -> None:
    for schedule in SCHEDULES:
        with pytest.raises(ValueError, match=r"\bramp_epochs\b.*-1"):
            forget_rate_schedule(0, 0.5, ramp_epochs=-1, schedule=schedule)
    with pytest.raises(ValueError, match=r"(?s)\bschedule\b.*\bpaper\b.*\breleased\b.*cosine"):
        forget_rate_schedule(0, 0.5, schedule="cosine")  # type: ignore[arg-type]


# --- sigmoid_rampup ---


def test_the_sigmoid_ramp() -> None:
    got = [sigmoid_rampup(step, 10) for step in (0, 4, 5, 10, 25)]
    assert got == pytest.approx([math.exp(-5), math.exp(-1.8), math.exp(-1.25), 1.0, 1.0], rel=1e-12)
    assert sigmoid_rampup(0, 0) == sigmoid_rampup(3, 0) == 1
