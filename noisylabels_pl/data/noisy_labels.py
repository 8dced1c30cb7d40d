"""Observed labels or regression targets: hashed, saved and reloadable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from noisylabels_pl.functional import empirical_transition_matrix


@dataclass(frozen=True)
class NoisyLabels:
    """Observed labels and where they come from.

    Attributes:
        observed: ``(n,)`` int64 labels, or ``(n, q)`` float32 regression targets; what training sees.
        clean: the true ones, if known.
        T: ``(C, C)`` the matrix that the labels were drawn from; ``None`` if they were not drawn.
        num_classes: ``C``; 0 for regression.
        features: what training sees of the samples with wrong labels, if their features were corrupted too.
    """

    observed: Tensor
    clean: Tensor | None
    T: Tensor | None
    num_classes: int
    features: Tensor | None = None

    @property
    def is_wrong(self) -> Tensor | None:
        """``(n,)`` bool, if it can be known."""
        return None if self.clean is None else (self.observed != self.clean).view(len(self.clean), -1).any(1)

    @property
    def rate(self) -> float | None:
        """Share of the labels that are wrong, if it can be known."""
        return None if self.is_wrong is None else float(self.is_wrong.double().mean())

    @property
    def realized_T(self) -> Tensor | None:
        """Share of each true class that is observed as each class, if it can be known."""
        if self.clean is None or not self.num_classes:
            return None
        return empirical_transition_matrix(self.clean, self.observed, self.num_classes)

    @property
    def sha256(self) -> str:
        """Hash of the observed labels as little-endian int64, or targets as float32, and of corrupted features."""
        kind = "<f4" if self.observed.is_floating_point() else "<i8"
        hasher = hashlib.sha256(self.observed.numpy().astype(kind).tobytes())
        if self.features is not None:
            hasher.update(self.features.numpy().tobytes())
        return hasher.hexdigest()

    def training_features(self, x: Tensor) -> Tensor:
        """``x`` ``(n, ...)`` as training sees it."""
        if self.features is None or self.is_wrong is None:
            return x
        x = x.clone()
        x[self.is_wrong] = self.features
        return x

    def save(self, path: Path) -> None:
        """Write ``observed`` and, where known, ``clean``, ``T``, ``realized_T`` and ``features`` to an npz file."""
        arrays = {
            "observed": self.observed,
            "clean": self.clean,
            "T": self.T,
            "realized_T": self.realized_T,
            "features": self.features,
        }
        known: dict[str, Any] = {name: array.numpy() for name, array in arrays.items() if array is not None}
        np.savez_compressed(path, **known)
