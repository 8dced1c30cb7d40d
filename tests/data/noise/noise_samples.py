"""Labels and regression targets that the tests of noise corrupt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data import LabelNoise, NoisyLabels
from noisylabels_pl.data.datasets.cifar10 import ASYMMETRIC_MAP, CLASS_NAMES

EACH = 60  # samples of each class
CLEAN = torch.arange(10).repeat(EACH)
# Rows that differ from each other, with zeros and without symmetry.
MATRIX = [
    [0.5 if j == i else 0.3 if j == (i + 2) % 10 else 0.2 if j == 0 else 0.0 for j in range(10)] for i in range(10)
]
MATRIX[0] = [0.7, 0.3, *[0.0] * 8]
MATRIX[8] = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0]
# A quarter of the labels is wrong.
ANNOTATED = torch.where(torch.arange(len(CLEAN)) % 4 == 0, (CLEAN + 1) % 10, CLEAN)

LABEL_OPTIONS: dict[str, dict[str, Any]] = {
    "sym": {"rate": 0.45},
    "sym_inclusive": {"rate": 0.5},
    "pairflip": {"rate": 0.45},
    "asym": {"rate": 0.4},
    "matrix": {"matrix": MATRIX},
}


def draw_labels(kind: str, labels: Tensor = CLEAN, clean: Tensor | None = None, **options: Any) -> NoisyLabels:
    """Return noise on the labels, with the usual options of its kind if none are given."""
    noise = LabelNoise(kind, **(LABEL_OPTIONS.get(kind, {}) | options))
    return noise.apply(labels, CLASS_NAMES, clean=clean, asymmetric_map=ASYMMETRIC_MAP)


def counts(clean: Tensor, observed: Tensor) -> Tensor:
    """Return how often each true class is observed as each class."""
    return torch.bincount(clean * 10 + observed, minlength=100).view(10, 10)


ROWS = 600
NAMES = ("a", "b", "c", "d")
TARGET_KINDS = ("linadv", "signflip", "uninoise", "pairflip", "mixture")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def standardized(values: Tensor) -> Tensor:
    return ((values - values.mean(0)) / values.std(0, correction=0)).float()


# Skewed, so that the least and the largest value are not each other's negative.
TARGETS = standardized(normal(ROWS, 4, seed=1).exp())
FEATURES = 3 + torch.tensor([0.01, 1.0, 50.0, 2.0, 0.3, 7.0]) * normal(ROWS, 6, seed=2)
SPREAD = FEATURES.std(0)
CLASSES = torch.arange(ROWS) % 4


def draw_targets(kind: str, targets: Tensor = TARGETS, **options: Any) -> NoisyLabels:
    """Return noise on the targets, 40 % unless a rate is given."""
    names = options.pop("names", NAMES)
    map = options.pop("map", None)
    x = options.pop("x", FEATURES)
    noise = LabelNoise(kind, **({"rate": 0.4} | options))
    spread = x.float().std(0) if x is not None else None
    return noise.apply(targets, names[: targets.shape[1]], asymmetric_map=map, features=x, spread=spread)


def wrong_rows(labels: NoisyLabels) -> Tensor:
    assert labels.is_wrong is not None
    return labels.is_wrong


def largest_deviation(T: Tensor, each: int) -> Tensor:
    """Return how far counts of a draw may lie from ``each * T``: 4.5 standard deviations."""
    return 4.5 * (each * T * (1 - T)).sqrt() + 1e-6
