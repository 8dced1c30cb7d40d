"""Early stopping: the epoch to stop at, from a number of each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from noisylabels_pl.functional.checks import check_range


class Minimum(NamedTuple):
    """The lowest moving average until a search stops.

    Attributes:
        position: of the newest value in that average; ``None`` if there are too few values for an average.
        is_confirmed: whether the search stopped, because enough later averages are higher.
    """

    position: int | None
    is_confirmed: bool


def first_local_minimum(values: Sequence[float], *, window: int = 3, patience: int = 1) -> Minimum:
    r"""Return the first local minimum of the moving average of some values.

    The average at position :math:`t` is :math:`\frac{1}{k} \sum_{j=0}^{k-1} v_{t-j}` with :math:`k` the ``window``. It
    is a local minimum once ``patience`` averages in a row after it are higher than the lowest one so far. Of equal
    averages the last one counts, so that a constant has no minimum.

    `Early Stopping Against Label Noise Without Validation Data <https://arxiv.org/abs/2502.07551>`_ (Label Wave) stops
    at such a minimum of the number of predictions that change in an epoch.

    Args:
        values: one for each epoch.
        window: number of values in an average.
        patience: number of higher averages that confirm a minimum; 1 takes the first local minimum.

    Returns:
        The minimum; where none is confirmed, the lowest average so far.

    Raises:
        ValueError: ``window`` or ``patience`` is not a positive integer.

    Example:
        >>> from noisylabels_pl.functional import first_local_minimum
        >>> first_local_minimum([9, 5, 4, 2, 3, 8, 1], window=2)
        Minimum(position=4, is_confirmed=True)
        >>> first_local_minimum([9, 5, 4], window=2)
        Minimum(position=2, is_confirmed=False)
    """
    check_range("window", window, "[1, inf)", integer=True)
    check_range("patience", patience, "[1, inf)", integer=True)
    lowest: float | None = None
    position: int | None = None
    for end in range(window, len(values) + 1):
        average = sum(values[end - window : end]) / window
        if lowest is None or position is None or average <= lowest:
            lowest = average
            position = end - 1
        elif end - 1 - position >= patience:
            return Minimum(position, True)
    return Minimum(position, False)
