"""Checks of arguments: the values that pass, and the messages of those that do not."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import numpy as np
import pytest

from noisylabels_pl.functional import check_choice, check_range

Color = Literal["red", "green"]


@pytest.mark.parametrize("choices", [Color, ("red", "green"), {"red": 1, "green": 2}, iter(["red", "green"])])
def test_choices_are_a_literal_or_any_iterable(choices: Any) -> None:
    check_choice("color", "green", choices)


@pytest.mark.parametrize("value", ["blue", "", "Red", None, 1, ["red"]])
def test_other_choices_are_refused(value: Any) -> None:
    message = f"color must be one of red, green, got {value!r}"
    for choices in (Color, ("red", "green"), {"red": 1, "green": 2}):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check_choice("color", value, choices)


@pytest.mark.parametrize(
    ("interval", "value"),
    [
        ("[0, 1]", 0),
        ("[0, 1]", 1.0),
        ("[0, 1)", 0.999),
        ("(0, 1]", 1e-300),
        ("[0, inf)", 10**9),
        ("(-inf, inf)", -3),
        ("[0, 1]", np.float32(0.5)),
        ("[2, inf)", np.int64(2)),
    ],
)
def test_numbers_in_the_interval(interval: str, value: Any) -> None:
    check_range("rate", value, interval)


@pytest.mark.parametrize(
    ("interval", "value", "message"),
    [
        ("[0, 1]", -0.1, "rate must lie in [0, 1], got -0.1"),
        ("[0, 1]", math.nan, "rate must lie in [0, 1], got nan"),
        ("(0, 1]", 0, "rate must lie in (0, 1], got 0"),
        ("[0, 1)", 1.0, "rate must lie in [0, 1), got 1.0"),
        ("[0, inf)", math.inf, "rate must be a number in [0, inf), got inf"),
        ("[0, inf)", math.nan, "rate must be a number in [0, inf), got nan"),
        ("(0, inf)", math.nan, "rate must be a number in (0, inf), got nan"),
        ("(0, inf]", math.nan, "rate must lie in (0, inf], got nan"),
        ("[0, inf)", -1, "rate must not be negative, got -1"),
        ("(0, inf)", 0.0, "rate must be positive, got 0.0"),
        ("[0, 1]", "0.5", "rate must be a number in [0, 1], got '0.5'"),
        ("[0, 1]", None, "rate must be a number in [0, 1], got None"),
        ("[0, 1]", True, "rate must be a number in [0, 1], got True"),
    ],
)
def test_other_numbers_are_refused(interval: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_range("rate", value, interval)


@pytest.mark.parametrize("value", [1, 3.0, np.int32(7)])
def test_whole_numbers(value: Any) -> None:
    check_range("k", value, "[1, 7]", integer=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2.5, "k must be a whole number in [1, 7], got 2.5"),
        ("2", "k must be a whole number in [1, 7], got '2'"),
        (8, "k must lie in [1, 7], got 8"),
        (8.5, "k must be a whole number in [1, 7], got 8.5"),
        (math.inf, "k must lie in [1, 7], got inf"),
        (math.nan, "k must lie in [1, 7], got nan"),
    ],
)
def test_other_whole_numbers_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_range("k", value, "[1, 7]", integer=True)


def test_the_hint_is_the_end_of_the_message() -> None:
    with pytest.raises(ValueError, match=r"^beta must lie in \[0, 1\), got 1.0; 0.7 is usual$"):
        check_range("beta", 1.0, "[0, 1)", hint="0.7 is usual")
