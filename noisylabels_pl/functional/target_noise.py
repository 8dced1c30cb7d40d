"""Corruption of regression targets, as in PRL's table 1; the paper names the kinds, these are definitions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice, check_range

TARGET_CORRUPTIONS = ("linadv", "signflip", "uninoise", "pairflip", "mixture")
_MIXED = ("linadv", "signflip", "uninoise")


def corrupt_targets(
    targets: Tensor,
    features: Tensor,
    kind: str,
    *,
    rate: float,
    generator: torch.Generator | None = None,
    exact: bool = True,
    permutation: Sequence[int] | None = None,
    strength: float = 15.0,
) -> Tensor:
    """Observed regression targets: some rows of the true ones, replaced.

    Args:
        targets: ``(n, q)`` floating point, standardized per coordinate, on the CPU.
        features: ``(n, ...)`` numbers.
        kind: ``signflip``: ``-y``. ``pairflip``: the coordinates permuted, in the same way for all rows. ``uninoise``:
            uniform between each coordinate's least and largest value. ``linadv``: ``A x`` with one random ``A`` for all
            rows and ``x`` the standardized features. ``mixture``: for each row one of ``linadv``, ``signflip`` and
            ``uninoise``, equally likely.
        rate: share of the rows.
        generator: a CPU generator; the default one if none is given.
        exact: if true, ``round(rate * n)`` rows without replacement; if false, each row on its own.
        permutation: for ``pairflip``, where each coordinate is taken from; the next one, circular, if not given.
        strength: for ``linadv``, the standard deviation of each coordinate of ``A x``, in standard deviations of the
            targets; 15 was inferred from the R2 of plain training in the paper.

    Returns:
        ``(n, q)``, a new tensor.

    Raises:
        ValueError: an unknown ``kind``, a ``rate`` outside ``[0, 1]``, targets of another shape or type, a
            ``permutation`` that is none, or ``pairflip`` of a single coordinate.
    """
    check_choice("kind", kind, TARGET_CORRUPTIONS)
    check_range("rate", rate, "[0, 1]")
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError(f"targets must be (n, q) real numbers, got {tuple(targets.shape)} of {targets.dtype}")
    if len(features) != len(targets):
        raise ValueError(f"features must have a row for each of the {len(targets)} targets, got {len(features)}")
    rows = _choose(len(targets), rate, exact, generator)
    observed = targets.clone()
    kinds = torch.full((len(rows),), -1) if kind != "mixture" else torch.randint(3, (len(rows),), generator=generator)
    for number, part in enumerate(_MIXED) if kind == "mixture" else [(-1, kind)]:
        chosen = rows[kinds == number]
        if part == "signflip":
            observed[chosen] = -targets[chosen]
        elif part == "pairflip":
            observed[chosen] = targets[chosen][:, _permutation(targets.shape[1], permutation)]
        elif part == "uninoise":
            low, high = targets.aminmax(dim=0)
            draws = torch.rand(len(chosen), targets.shape[1], dtype=targets.dtype, generator=generator)
            observed[chosen] = low + draws * (high - low)
        else:
            wrong = _linear(features, targets.shape[1], strength, generator)
            observed[chosen] = wrong[chosen].to(targets.dtype)
    return observed


def _choose(n: int, rate: float, exact: bool, generator: torch.Generator | None) -> Tensor:
    if exact:
        return torch.randperm(n, generator=generator)[: round(rate * n)].sort().values
    return (torch.rand(n, dtype=torch.float64, generator=generator) < rate).nonzero().squeeze(1)


def _permutation(q: int, permutation: Sequence[int] | None) -> list[int]:
    if q < 2:
        raise ValueError("kind='pairflip' needs targets of at least two coordinates, got one; take another kind")
    chosen = [(j + 1) % q for j in range(q)] if permutation is None else [int(j) for j in permutation]
    if sorted(chosen) != list(range(q)):
        raise ValueError(f"permutation must name each of the coordinates 0..{q - 1} once, got {chosen}")
    return chosen


def _linear(features: Tensor, q: int, strength: float, generator: torch.Generator | None) -> Tensor:
    x = features.flatten(1).double()
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-12)
    wrong = x @ torch.randn(x.shape[1], q, dtype=torch.float64, generator=generator)
    return strength * wrong / wrong.std(0, correction=0)
