"""Checks of arguments. Each error names the argument, the values that are allowed, and the value that was given."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, get_args

_REQUIREMENTS = {"[0, inf)": "not be negative", "(0, inf)": "be positive"}


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Check that an argument is one of the allowed choices.

    Args:
        name: the argument, as the caller wrote it.
        value: its value.
        choices: a ``Literal[...]``, or an iterable of the allowed values.

    Raises:
        ValueError: ``value`` is none of the choices.

    Example:
        >>> from typing import Literal
        >>> from noisylabels_pl.functional import check_choice
        >>> Reduction = Literal["none", "mean", "sum"]
        >>> check_choice("reduction", "mean", Reduction)
        >>> check_choice("reduction", "median", Reduction)
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
        hint: the remedy, added to the message.

    Raises:
        ValueError: ``value`` is not a number, or lies outside the interval.

    Example:
        >>> from noisylabels_pl.functional import check_range
        >>> check_range("beta", 0.7, "[0, 1)")
        >>> check_range("beta", 1.0, "[0, 1)", hint="0.7 is usual")
        Traceback (most recent call last):
        ...
        ValueError: beta must lie in [0, 1), got 1.0; 0.7 is usual
    """
    if integer and not _is_whole(value):
        requirement = f"be a whole number in {interval}"
    elif not _is_number(value) or (interval in _REQUIREMENTS and not math.isfinite(value)):
        requirement = f"be a number in {interval}"
    elif not _contains(interval, value):
        requirement = _REQUIREMENTS.get(interval, f"lie in {interval}")
    else:
        return
    remedy = f"; {hint}" if hint else ""
    raise ValueError(f"{name} must {requirement}, got {value!r}{remedy}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    """Return whether a value is a whole number; infinities and NaN are left to the interval."""
    return _is_number(value) and (not math.isfinite(value) or value == int(value))


def _contains(interval: str, value: float) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval.startswith("[") else value > low
    below = value <= high if interval.endswith("]") else value < high
    return above and below
