"""Corruption of regression targets.

The kinds are those of table 1 of "Provable Robust Learning for Deep Neural Networks under Agnostic Corrupted
Supervision" (PRL, https://openreview.net/forum?id=Bi2OvVf1KPn). The paper names them; the definitions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice, check_range

TargetCorruption = Literal["linadv", "signflip", "uninoise", "pairflip", "mixture"]
TARGET_CORRUPTIONS: tuple[TargetCorruption, ...] = get_args(TargetCorruption)
_SMALLEST_SPREAD = 1e-12  # a feature with a smaller standard deviation is constant
_MIXTURE: tuple[TargetCorruption, ...] = ("linadv", "signflip", "uninoise")


def corrupt_targets(
    targets: Tensor,
    features: Tensor,
    kind: TargetCorruption,
    *,
    rate: float,
    generator: torch.Generator | None = None,
    exact: bool = True,
    permutation: Sequence[int] | None = None,
    strength: float = 15.0,
) -> Tensor:
    """Return observed regression targets: the true ones, with some rows replaced.

    The replaced rows are

    - ``"signflip"``: ``-y``.
    - ``"pairflip"``: the coordinates of ``y`` permuted, in the same way for all rows.
    - ``"uninoise"``: uniform between the least and the largest value of each coordinate.
    - ``"linadv"``: ``A x``, scaled to the standard deviation ``strength`` in each coordinate, with the standardized
      features ``x`` and one random matrix ``A`` for all rows.
    - ``"mixture"``: for each row one of ``"linadv"``, ``"signflip"`` and ``"uninoise"``, equally likely.

    Args:
        targets: ``(n, q)`` floating point, each coordinate standardized, on the CPU.
        features: ``(n, ...)`` numbers.
        kind: a kind of the list above.
        rate: fraction of the rows that are replaced.
        generator: a CPU generator; the default one if not given.
        exact: if true, ``round(rate * n)`` rows are drawn without replacement; if false, each row is drawn
            independently.
        permutation: for ``"pairflip"``, ``permutation[i]`` is the coordinate that coordinate ``i`` is replaced by. If
            not given, each coordinate is replaced by the next one, and the last one by the first.
        strength: for ``"linadv"``, the standard deviation of each coordinate of ``A x``, in standard deviations of the
            targets; 15 was inferred from the R2 of plain training in the paper.

    Returns:
        ``(n, q)``, a new tensor.

    Raises:
        ValueError: ``kind`` is unknown, ``rate`` is out of range, ``targets`` are not ``(n, q)`` floating point,
            ``features`` do not have ``n`` rows or, for ``"linadv"``, are constant, ``permutation`` is not a permutation
            of the coordinates, or the kind is ``"pairflip"`` and the targets have a single coordinate.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import corrupt_targets
        >>> targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> corrupt_targets(targets, features=torch.zeros(2, 5), kind="pairflip", rate=1.0)
        tensor([[2., 1.],
                [4., 3.]])
    """
    check_choice("kind", kind, TargetCorruption)
    check_range("rate", rate, "[0, 1]")
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError(f"targets must be (n, q) real numbers, got {tuple(targets.shape)} of {targets.dtype}")
    if len(features) != len(targets):
        raise ValueError(f"features must have a row for each of the {len(targets)} targets, got {len(features)}")
    corrupted_rows = _draw_rows(len(targets), rate, exact, generator)
    observed = targets.clone()
    if kind == "mixture":
        choices = torch.randint(len(_MIXTURE), (len(corrupted_rows),), generator=generator)
        rows_by_kind = {row_kind: corrupted_rows[choices == number] for number, row_kind in enumerate(_MIXTURE)}
    else:
        rows_by_kind = {kind: corrupted_rows}
    for row_kind, rows in rows_by_kind.items():
        if row_kind == "signflip":
            observed[rows] = -targets[rows]
        elif row_kind == "pairflip":
            coordinates = _permuted_coordinates(targets.shape[1], permutation)
            observed[rows] = targets[rows][:, coordinates]
        elif row_kind == "uninoise":
            observed[rows] = _uniform_targets(targets, len(rows), generator)
        else:
            linear = _linear_targets(features, targets.shape[1], strength, generator)
            observed[rows] = linear[rows].to(targets.dtype)
    return observed


def _draw_rows(n: int, rate: float, exact: bool, generator: torch.Generator | None) -> Tensor:
    """Return the rows to be replaced, ascending."""
    if exact:
        return torch.randperm(n, generator=generator)[: round(rate * n)].sort().values
    draws = torch.rand(n, dtype=torch.float64, generator=generator)
    return (draws < rate).nonzero().squeeze(1)


def _permuted_coordinates(num_coordinates: int, permutation: Sequence[int] | None) -> list[int]:
    """Check the permutation of ``"pairflip"`` and return it; a shift by one if not given."""
    if num_coordinates < 2:
        raise ValueError("kind='pairflip' needs targets of at least two coordinates, got one; take another kind")
    if permutation is None:
        return [*range(1, num_coordinates), 0]
    coordinates = [int(coordinate) for coordinate in permutation]
    if sorted(coordinates) != list(range(num_coordinates)):
        last = num_coordinates - 1
        raise ValueError(f"permutation must name each of the coordinates 0..{last} once, got {coordinates}")
    return coordinates


def _uniform_targets(targets: Tensor, num_rows: int, generator: torch.Generator | None) -> Tensor:
    """Return rows that are uniform between the least and the largest value of each coordinate."""
    low, high = targets.aminmax(dim=0)
    draws = torch.rand(num_rows, targets.shape[1], dtype=targets.dtype, generator=generator)
    return low + draws * (high - low)


def _linear_targets(
    features: Tensor, num_coordinates: int, strength: float, generator: torch.Generator | None
) -> Tensor:
    """Return ``A x`` for each row of features, scaled to the standard deviation ``strength``, ``(n, q)`` float64."""
    x = features.flatten(1).double()
    if not (x.std(0, correction=0) > _SMALLEST_SPREAD).any():
        raise ValueError("kind='linadv' needs features that vary, but all of them are constant; take another kind")
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=_SMALLEST_SPREAD)
    A = torch.randn(x.shape[1], num_coordinates, dtype=torch.float64, generator=generator)
    linear = x @ A
    return strength * linear / linear.std(0, correction=0)
