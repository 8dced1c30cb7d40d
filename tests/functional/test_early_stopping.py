"""Minima of moving averages."""

from __future__ import annotations

import pytest

from noisylabels_pl.functional import first_local_minimum

# Fractions of changed predictions, recorded from plain training on digits with 40 % symmetric noise.
RECORDED = [0.23, 0.23, 0.10, 0.05, 0.06, 0.09, 0.07, 0.07, 0.05, 0.06, 0.06, 0.09, 0.07, 0.08, 0.12, 0.09]


@pytest.mark.parametrize(
    ("window", "patience", "expected"),
    [(1, 1, 3), (3, 1, 5), (3, 5, 10), (4, 1, 6)],
)
def test_on_a_recorded_sequence(window: int, patience: int, expected: int) -> None:
    """The search stops there, and later values change nothing."""
    averages = [sum(RECORDED[end - window : end]) / window for end in range(window, len(RECORDED) + 1)]
    found = first_local_minimum(RECORDED, window=window, patience=patience)
    assert found == (expected, True)
    lowest = averages[expected - window + 1]
    assert all(average > lowest for average in averages[expected - window + 2 :][:patience])
    assert min(averages[: expected - window + 2]) == lowest
    prefix = RECORDED[: expected + 1]
    assert first_local_minimum(prefix, window=window, patience=patience) == (expected, False)


def test_a_constant_has_no_minimum() -> None:
    assert first_local_minimum([0.5] * 9) == (8, False)
    assert first_local_minimum([0.5] * 2) == (None, False)


@pytest.mark.parametrize("option", ["window", "patience"])
def test_wrong_options(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must"):
        first_local_minimum([1.0], **{option: 0})
