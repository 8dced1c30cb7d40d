"""Transition matrices ``T[i, j] = P(observed = j | true = i)``: make, check, count, estimate, invert, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.precision import at_least_float32


def transition_matrix(kind: str, num_classes: int, rate: float, *, mapping: Mapping[int, int] | None = None) -> Tensor:
    """The transition matrix of a named kind of noise.

    Args:
        kind: ``"none"``: identity. ``"sym"``: with probability ``rate`` one of the *other* classes (CRUST, Patrini,
            Co-teaching, PRL). ``"sym_inclusive"``: with probability ``rate`` any class, the true one included (ELR,
            DivideMix), so that only ``rate * (C - 1) / C`` of the labels are wrong. ``"pairflip"``: the next class,
            circular. ``"asym"``: the class that ``mapping`` names; classes that it does not name stay clean.
        num_classes: ``C >= 2``.
        rate: probability in ``[0, 1]``.
        mapping: for ``"asym"``, ``{true class: observed class}``.

    Returns:
        ``(C, C)`` float64, rows summing to 1.

    Raises:
        ValueError: unknown ``kind``, ``rate`` outside ``[0, 1]``, fewer than 2 classes, or a ``mapping`` that is
            missing, unwanted, or names a class that is not there.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}")
    if (mapping is not None) != (kind == "asym"):
        raise ValueError(f"mapping goes with kind='asym' and only with it, got kind={kind!r} and mapping={mapping}")
    identity = torch.eye(num_classes, dtype=torch.float64)
    if kind == "none":
        return identity
    if kind == "sym":
        return (1 - rate) * identity + rate / (num_classes - 1) * (1 - identity)
    if kind == "sym_inclusive":
        return (1 - rate) * identity + rate / num_classes
    if kind == "pairflip":
        return (1 - rate) * identity + rate * identity.roll(1, dims=1)
    if kind == "asym":
        T = identity.clone()
        for source, destination in (mapping or {}).items():
            for label in (source, destination):
                if not 0 <= label < num_classes:
                    raise ValueError(f"mapping names class {label}, but the classes are 0..{num_classes - 1}")
            T[source] = (1 - rate) * identity[source] + rate * identity[destination]
        return T
    raise ValueError(f"kind must be one of none, sym, sym_inclusive, pairflip, asym, got {kind!r}")


def check_transition_matrix(T: Tensor, num_classes: int) -> Tensor:
    """``T`` as float64, or a ``ValueError`` that names the row that is wrong."""
    T = T.to(torch.float64)
    if T.shape != (num_classes, num_classes):
        raise ValueError(
            f"T must be square with one row per class, ({num_classes}, {num_classes}), got {tuple(T.shape)}"
        )
    for row, values in enumerate(T):
        if not torch.isfinite(values).all() or values.min() < 0:
            raise ValueError(f"T[{row}] must be finite and not negative, got {values.tolist()}")
        if abs(float(values.sum()) - 1) > 1e-6:
            raise ValueError(f"T[{row}] must sum to 1, got {float(values.sum()):.6g}; divide the row by its sum")
    return T


def empirical_transition_matrix(clean: Tensor, observed: Tensor, num_classes: int) -> Tensor:
    """Realized transition matrix: row ``i`` is the distribution of the observed labels of true class ``i``.

    Args:
        clean: ``(n,)`` int64 true classes.
        observed: ``(n,)`` int64 observed classes.
        num_classes: ``C``.

    Returns:
        ``(C, C)`` float64; the row of a class without samples is that of the identity.
    """
    counts = torch.bincount(clean * num_classes + observed, minlength=num_classes**2)
    counts = counts.view(num_classes, num_classes).to(torch.float64)
    sizes = counts.sum(1, keepdim=True)
    return torch.where(sizes > 0, counts / sizes.clamp(min=1), torch.eye(num_classes, dtype=torch.float64))


def invert_transition_matrix(T: Tensor, *, mix: float = 0.0) -> Tensor:
    """``((1 - mix) T + mix I)^-1`` in float64 (section 4.1).

    Args:
        T: ``(C, C)`` transition matrix.
        mix: in ``[0, 1)``.

    Raises:
        ValueError: the matrix is singular to working precision, or ``mix`` is out of range.
    """
    if not 0 <= mix < 1:
        raise ValueError(f"mix must lie in [0, 1), got {mix}")
    T = T.double()
    mixed = (1 - mix) * T + mix * torch.eye(len(T), dtype=T.dtype, device=T.device)
    condition = float(torch.linalg.cond(mixed))
    if not condition < 1e12:
        raise ValueError(f"T cannot be inverted (condition number {condition:.1e}); mix the identity in, as by mix=0.1")
    inverse: Tensor = torch.linalg.inv(mixed)
    return inverse


def estimate_transition_matrix(probs: Tensor, *, quantile: float | Literal["auto"] = "auto") -> Tensor:
    """The transition matrix as a network trained on noisy labels sees it (eqs. 12 and 13).

    Row ``i`` is what the network predicts for the sample that it takes for ``i`` most surely: the sample at the
    ``quantile`` of ``probs[:, i]``, always an observed one, never an interpolation between two. Rows are normalized.

    Args:
        probs: ``(n, C)`` predicted probabilities of observed labels; true labels are not needed.
        quantile: in ``(0, 1]``; 1 takes the largest, 0.97 is the paper's choice for up to ten classes, and ``auto`` is
            ``1 - 0.3 * prior`` for each class, which is 0.97 for ten equal ones and keeps clear of outliers for a
            hundred, of which 3 % would be more than there are.

    Returns:
        ``(C, C)``, at least float32.

    Raises:
        ValueError: ``probs`` is not a matrix of probabilities, or ``quantile`` is out of range.
    """
    if probs.ndim != 2 or not len(probs):
        raise ValueError(f"probs must have shape (samples, classes), got {tuple(probs.shape)}")
    probs = at_least_float32(probs)
    if not bool((probs >= 0).all()) or not torch.allclose(probs.sum(1), probs.new_ones(()), atol=1e-2):
        raise ValueError("probs must be probabilities that sum to 1 in each row; take the softmax of logits")
    if isinstance(quantile, str):
        check_choice("quantile", quantile, ("auto",))
        quantiles = 1 - 0.3 * probs.double().mean(0)
    elif 0 < quantile <= 1:
        quantiles = probs.new_full((probs.shape[1],), quantile, dtype=torch.float64)
    else:
        raise ValueError(f"quantile must lie in (0, 1] or be 'auto', got {quantile}")
    # Rank ceil(q (n - 1)) from below, less a rounding error; stable, so that ties go to the same sample everywhere.
    ranks = (quantiles * (len(probs) - 1) - 1e-9).ceil().long().clamp(min=0)
    order = probs.argsort(dim=0, stable=True)
    chosen = probs[order.gather(0, ranks.unsqueeze(0)).squeeze(0)]
    return chosen / chosen.sum(1, keepdim=True)


def transition_error(estimate: Tensor, T: Tensor) -> float:
    """Total variation between the rows of two transition matrices, mean over rows: 0 if they are equal, at most 1.

    Args:
        estimate: ``(C, C)``.
        T: ``(C, C)``.
    """
    return float((estimate.double() - T.double()).abs().sum(1).mean() / 2)
