"""Random inputs that several tests of the kernels need."""

from __future__ import annotations

import torch
from torch import Tensor


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(rows: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    generator = seeded(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def simplex(rows: int, classes: int, seed: int = 0) -> Tensor:
    """Probabilities."""
    return batch(rows, classes, seed)[0].softmax(1)


def noise(classes: int, seed: int = 0, keep: float = 0.5) -> Tensor:
    """A random transition matrix without zeros, whose largest entry in each row and column is on the diagonal."""
    rows = 0.1 + torch.rand(classes, classes, generator=seeded(seed), dtype=torch.float64)
    return keep * torch.eye(classes, dtype=torch.float64) + (1 - keep) * rows / rows.sum(1, keepdim=True)


def random_transition(classes: int, seed: int) -> Tensor:
    """A transition matrix of random weights, about a third of them 0; the diagonal too may be 0."""
    generator = seeded(seed)
    weights = torch.rand(classes, classes, generator=generator, dtype=torch.float64)
    weights *= torch.rand(classes, classes, generator=generator) > 0.35
    weights[weights.sum(1) == 0, 0] = 1.0
    return weights / weights.sum(1, keepdim=True)


def f64(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def balanced(classes: int, each: int) -> Tensor:
    """`each` labels of every class, in mixed order."""
    return torch.arange(classes).repeat(each)


def pair_counts(clean: Tensor, observed: Tensor, classes: int) -> Tensor:
    """How many labels of each true class became each observed class."""
    return torch.bincount(clean * classes + observed, minlength=classes**2).reshape(classes, classes)
