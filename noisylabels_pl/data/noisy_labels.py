"""Observed labels or regression targets: hashed, saved and read back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array, check_labels, check_targets
from noisylabels_pl.data.files import load_npz, write_atomically
from noisylabels_pl.data.samples import Samples
from noisylabels_pl.functional import empirical_transition_matrix


@dataclass(frozen=True)
class NoisyLabels:
    """Hold the observed labels of a training set, and the true ones where they are known.

    Attributes:
        observed: ``(n,)`` int64 labels, or ``(n, q)`` float32 regression targets: the ones that training sees.
        clean: the true labels or targets, in the same layout; ``None`` if they are unknown.
        T: ``(C, C)`` transition matrix that the labels were drawn from; ``None`` if they were not drawn from one.
        num_classes: ``C``; ``None`` for regression.
        features: corrupted features ``(k, ...)`` of the ``k`` samples with wrong labels, in the order of the samples;
            ``None`` if features are not corrupted.
        annotators: ``(K, n)`` int64 labels of single annotators, whose aggregate ``observed`` is; ``None`` if there are
            none.

    Example:
        >>> clean = torch.tensor([0, 0, 1, 1])
        >>> labels = NoisyLabels(torch.tensor([0, 1, 1, 1]), clean, T=None, num_classes=2)
        >>> labels.is_wrong
        tensor([False,  True, False, False])
        >>> labels.rate
        0.25
        >>> labels.realized_T
        tensor([[0.5000, 0.5000],
                [0.0000, 1.0000]], dtype=torch.float64)
    """

    observed: Tensor
    clean: Tensor | None
    T: Tensor | None
    num_classes: int | None
    features: Tensor | None = None
    annotators: Tensor | None = None

    @property
    def is_wrong(self) -> Tensor | None:
        """Return the ``(n,)`` bool mask of the samples with wrong labels; ``None`` if the true ones are unknown."""
        if self.clean is None:
            return None
        differs = self.observed != self.clean
        return differs.view(len(self.clean), -1).any(1)

    @property
    def rate(self) -> float | None:
        """Return the realized noise rate: the fraction of wrong labels; ``None`` if the true ones are unknown."""
        is_wrong = self.is_wrong
        return None if is_wrong is None else float(is_wrong.double().mean())

    @property
    def realized_T(self) -> Tensor | None:
        """Return the ``(C, C)`` fractions of each true class that are observed as each class, float64.

        It is ``None`` for regression, and if the true labels are unknown.
        """
        if self.clean is None or self.num_classes is None:
            return None
        return empirical_transition_matrix(self.clean, self.observed, self.num_classes)

    @property
    def sha256(self) -> str:
        """Return the hash of the observed labels (little-endian int64, or float32) and of the corrupted features."""
        dtype = "<f4" if self.observed.is_floating_point() else "<i8"
        hasher = hashlib.sha256(self.observed.numpy().astype(dtype).tobytes())
        if self.features is not None:
            hasher.update(self.features.numpy().tobytes())
        return hasher.hexdigest()

    def training_features(self, x: Tensor) -> Tensor:
        """Return the features that training sees.

        Args:
            x: ``(n, ...)`` features of the dataset.

        Returns:
            ``x`` itself, or a copy in which the samples with wrong labels have their corrupted features.
        """
        if self.features is None or self.is_wrong is None:
            return x
        x = x.clone()
        x[self.is_wrong] = self.features
        return x

    def save(self, path: Path) -> None:
        """Write the labels to an npz file.

        Args:
            path: the file. It gets the array ``observed`` and, where they are known, ``clean``, ``T``, ``realized_T``,
                ``features`` and ``annotators``.
        """
        arrays = {
            "observed": self.observed,
            "clean": self.clean,
            "T": self.T,
            "realized_T": self.realized_T,
            "features": self.features,
            "annotators": self.annotators,
        }
        known: dict[str, Any] = {name: array.numpy() for name, array in arrays.items() if array is not None}
        with write_atomically(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **known)

    @classmethod
    def load(
        cls, path: Path, *, reference: Tensor, num_classes: int | None, features: Samples | None = None
    ) -> NoisyLabels:
        """Read labels that :meth:`save` wrote, and check that they belong to a dataset.

        Args:
            path: the npz file.
            reference: ``(n,)`` true labels, or ``(n, q)`` true targets, of the dataset.
            num_classes: the number of classes; ``None`` for regression.
            features: ``(n, ...)`` features of the dataset; needed if the file has corrupted ones.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file has no labels, or labels of another dataset; the message names the file and the row.
        """
        stored = load_npz(path, "path")
        if "observed" not in stored:
            raise ValueError(f"path: {path} has no array observed; give the noise.npz of an earlier run")
        observed = check_stored(path, "observed", stored["observed"], reference, num_classes)
        clean = None
        if "clean" in stored:
            clean = check_stored(path, "clean", stored["clean"], reference, num_classes)
            check_same_dataset(path, clean, reference)
        T = torch.from_numpy(stored["T"]) if "T" in stored else None
        annotators = torch.from_numpy(stored["annotators"]) if "annotators" in stored else None
        labels = cls(observed, clean, T, num_classes, annotators=annotators)
        if "features" not in stored:
            return labels
        corrupted = torch.from_numpy(stored["features"])
        _check_stored_features(path, corrupted, labels.is_wrong, features)
        return replace(labels, features=corrupted)


def check_stored(path: Path, name: str, stored: Array, reference: Tensor, num_classes: int | None) -> Tensor:
    """Return a stored array as labels or targets like the dataset's.

    Args:
        path: the file, for the messages.
        name: the array's name, for the messages.
        stored: the array.
        reference: ``(n,)`` true labels, or ``(n, q)`` true targets, of the dataset.
        num_classes: the number of classes; ``None`` for regression.

    Raises:
        ValueError: the array has another shape or type, or holds a value that is no class or not finite; the message
            names the row.
    """
    full_name = f"path: {path}: {name}"
    if num_classes is not None:
        return check_labels(full_name, stored, len(reference), num_classes)
    if stored.dtype.kind != "f" or stored.shape != reference.shape:
        raise ValueError(
            f"{full_name} has shape {stored.shape} and type {stored.dtype}; this dataset has {len(reference)} samples "
            f"with targets of {reference.shape[1]} real numbers; give the noise.npz of a run on it"
        )
    return check_targets(full_name, stored, len(reference))


def check_same_dataset(path: Path, clean: Tensor, reference: Tensor) -> None:
    """Check that stored true labels are those of the dataset.

    Args:
        path: the file, for the message.
        clean: the true labels or targets in it.
        reference: those of the dataset, in the same layout.

    Raises:
        ValueError: they differ; the message names the first row.
    """
    # Targets are compared with a tolerance, because they may have been computed on another machine.
    differs = ~torch.isclose(clean, reference, rtol=1e-4, atol=1e-5)
    if differs.any():
        row = int(differs.nonzero()[0, 0])
        raise ValueError(
            f"path: {path} was made for another dataset: true label {row} is {clean[row].tolist()} there and "
            f"{reference[row].tolist()} here"
        )


def _check_stored_features(path: Path, stored: Tensor, is_wrong: Tensor | None, features: Samples | None) -> None:
    """Raise a ``ValueError`` if stored features cannot replace those of the samples with wrong labels."""
    fits = False
    if features is not None and is_wrong is not None:
        replaced = features[is_wrong.nonzero().squeeze(1)]
        fits = (stored.shape, stored.dtype) == (replaced.shape, replaced.dtype) and bool(stored.isfinite().all())
    if not fits:
        raise ValueError(
            f"path: {path}: features {tuple(stored.shape)} of {stored.dtype} are not those of this dataset's samples "
            "with wrong labels; give the noise.npz of a run on it"
        )
