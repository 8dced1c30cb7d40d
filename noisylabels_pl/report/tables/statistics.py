"""Mean, standard deviation, and Welch's t-test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The numbers of a cell.

    Attributes:
        mean: of all runs.
        std: standard deviation over runs (n - 1), ``None`` for a single run.
        n: number of runs.
    """

    mean: float
    std: float | None
    n: int


def summarize(values: Sequence[float]) -> Summary | None:
    """Return the summary of some numbers, and ``None`` without any.

    Example:
        >>> summarize([1.0, 2.0, 3.0])
        Summary(mean=2.0, std=1.0, n=3)
    """
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), std, len(values))


def welch_p_value(first: Summary, second: Summary) -> float | None:
    r"""Return the two-sided p-value of Welch's t-test that two means are equal.

    .. math::
        t = \frac{m_1 - m_2}{\sqrt{v_1 + v_2}}, \quad v_i = \frac{s_i^2}{n_i}, \quad
        \nu = \frac{(v_1 + v_2)^2}{v_1^2 / (n_1 - 1) + v_2^2 / (n_2 - 1)}

    Args:
        first: of a method's runs.
        second: of another method's.

    Returns:
        The p-value; ``None`` if one of them has a single run, or if no run differs from another of its method.

    Example:
        >>> p = welch_p_value(summarize([0.90, 0.92, 0.91]), summarize([0.80, 0.83, 0.82]))
        >>> round(p, 4)
        0.0017
    """
    if first.std is None or second.std is None:
        return None
    from scipy.special import stdtr  # Student's distribution; scipy.stats takes a second to import

    first_variance = first.std**2 / first.n
    second_variance = second.std**2 / second.n
    variance = first_variance + second_variance
    if variance == 0:
        return None
    t = (first.mean - second.mean) / math.sqrt(variance)
    degrees = variance**2 / (first_variance**2 / (first.n - 1) + second_variance**2 / (second.n - 1))
    return float(2 * stdtr(degrees, -abs(t)))
