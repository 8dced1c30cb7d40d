"""Checks of arguments, each with one form of message: the argument, what it must be, and what it is."""

from __future__ import annotations

import math
from typing import Any, get_args


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Check that an argument is one of the allowed choices.

    Args:
        name: the argument, as the caller wrote it.
        value: its value.
        choices: a ``Literal[...]``, or an iterable of the allowed values.

    Raises:
        ValueError: ``value`` is none of the choices.

    Example:
        >>> check_choice("reduction", "median", ("none", "mean", "sum"))
        Traceback (most recent call last):
        ...
        ValueError: reduction must be one of none, mean, sum, got 'median'
    """
    allowed = get_args(choices) or tuple(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def check_range(name: str, value: Any, interval: str, *, integer: bool = False, hint: str = "") -> None:
    """Check that an argument is a number in an interval.

    Args:
        name: the argument, as the caller wrote it.
        value: its value.
        interval: the allowed numbers in mathematical notation, such as ``"[0, 1)"`` or ``"(0, inf)"``.
        integer: whether only whole numbers are allowed.
        hint: what to do instead, added to the message.

    Raises:
        ValueError: ``value`` is not a number, or lies outside the interval.

    Example:
        >>> check_range("beta", 0.7, "[0, 1)")
        >>> check_range("beta", 1.0, "[0, 1)", hint="0.7 is usual")
        Traceback (most recent call last):
        ...
        ValueError: beta must lie in [0, 1), got 1.0; 0.7 is usual
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    above = is_number and (value >= low if interval[0] == "[" else value > low)
    below = is_number and (value <= high if interval[-1] == "]" else value < high)
    if above and below and not (integer and value != int(value)):
        return
    noun = "a whole number" if integer else "a number"
    if not is_number or (integer and math.isfinite(value) and value != int(value)):
        wanted = f"be {noun} in {interval}"
    else:
        wanted = {"[0, inf)": "not be negative", "(0, inf)": "be positive"}.get(interval, f"lie in {interval}")
    raise ValueError(f"{name} must {wanted}, got {value!r}" + (f"; {hint}" if hint else ""))
