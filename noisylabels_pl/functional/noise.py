"""Label noise as a transition matrix ``T[i, j] = P(observed = j | true = i)``.

The papers mean different things by "symmetric": see ``kind`` of :func:`transition_matrix`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


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


def corrupt(labels: Tensor, T: Tensor, *, generator: torch.Generator | None = None, exact: bool = False) -> Tensor:
    """Observed labels drawn from ``T`` given the true ones.

    Args:
        labels: ``(n,)`` int64 true classes, on the CPU.
        T: ``(C, C)`` row-stochastic.
        generator: a CPU generator; the default one if none is given.
        exact: if false, every label is drawn on its own, so the realised rate varies. If true, the number of labels of
            class ``i`` that become ``j`` is ``T[i, j]`` times the size of class ``i``, rounded by largest remainder,
            and only which ones is random.

    Returns:
        ``(n,)`` int64, a new tensor.

    Raises:
        ValueError: ``T`` is not a transition matrix, or a label is not one of its classes.
    """
    num_classes = len(T)
    T = check_transition_matrix(T, num_classes)
    outside = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(outside):
        row = int(outside[0, 0])
        raise ValueError(f"labels[{row}] is {int(labels[row])}, but T has the classes 0..{num_classes - 1}")
    if exact:
        return _corrupt_exactly(labels, T, generator)
    # Dividing by the last column makes it exactly 1, so a draw below 1 can never land on a class of probability 0.
    cumulative = T.cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    draws = torch.rand(len(labels), 1, dtype=torch.float64, generator=generator)
    return (draws >= cumulative[labels]).sum(1)


def _corrupt_exactly(labels: Tensor, T: Tensor, generator: torch.Generator | None) -> Tensor:
    observed = labels.clone()
    for label, row in enumerate(T):
        members = (labels == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        # Rounding to 1e-9 keeps 0.1 * 30 from counting as 3 plus a remainder.
        share = (row * len(members)).mul(1e9).round().div(1e9)
        counts = share.floor().to(torch.int64)
        missing = len(members) - int(counts.sum())
        counts[(share - counts).sort(descending=True, stable=True).indices[:missing]] += 1
        observed[members] = torch.arange(len(T)).repeat_interleave(counts)
    return observed


def empirical_transition(clean: Tensor, observed: Tensor, num_classes: int) -> Tensor:
    """Realised transition matrix: row ``i`` is the distribution of the observed labels of true class ``i``.

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
