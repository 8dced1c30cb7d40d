"""Noise that follows from the class of a label, and noise of regression targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.files import read_transition_matrix
from noisylabels_pl.data.noise.base import Count, Draw, DrawnNoise
from noisylabels_pl.data.noise.classes import asymmetric_matrix
from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.samples import read_all
from noisylabels_pl.functional import (
    TARGET_CORRUPTIONS,
    check_choice,
    check_range,
    check_transition_matrix,
    corrupt_labels,
    corrupt_targets,
    transition_matrix,
)

LabelNoiseKind = Literal[
    "none",
    "sym",
    "sym_inclusive",
    "asym",
    "pairflip",
    "binary",
    "matrix",
    "linadv",
    "signflip",
    "uninoise",
    "mixture",
]
LABEL_CORRUPTIONS = ("sym", "sym_inclusive", "asym", "pairflip", "binary", "matrix")


class LabelNoise(DrawnNoise):
    """Corrupt labels by a transition matrix, or regression targets.

    Args:
        kind: for labels ``"sym"``, ``"sym_inclusive"``, ``"asym"``, ``"pairflip"``, ``"binary"`` (see
            :func:`~noisylabels_pl.functional.transition_matrix`) or ``"matrix"`` (your own ``T``); for regression
            targets ``"linadv"``, ``"signflip"``, ``"uninoise"``, ``"pairflip"`` or ``"mixture"`` (see
            :func:`~noisylabels_pl.functional.corrupt_targets`); for both ``"none"``.
        rate: the probability in ``[0, 1]`` that a label is corrupted; not for ``"none"`` and ``"matrix"``.
        count: ``"bernoulli"`` draws every label independently; ``"exact"`` fixes the number of labels of each class
            that are flipped, or the number of targets that are corrupted.
        map: for ``"asym"``: ``"dataset"`` (the dataset's own map); ``"superclass"`` (the next class of the same
            superclass); ``"blocks"`` (the next class of the same five by number, as public code does for CIFAR-100);
            ``"elr_released"`` (the dataset's map, applied class by class to the labels as they are by then, as in the
            public code of ELR: where two classes are mistaken for each other, some labels of the first are flipped
            back); ``"derangement"`` (a random permutation without fixed points); ``"crust_released"`` (the one that
            the public code of CRUST draws for ten classes); or ``{class: class}`` by name or number.
        matrix: for ``"matrix"``: the rows of ``T[i, j] = P(observed j | true i)``, or the path of a file with them
            (see :func:`~noisylabels_pl.data.files.read_transition_matrix`).
        strength: for ``"linadv"`` and ``"mixture"``: the size of the wrong linear targets, in standard deviations.
        **common: ``seed``, ``features`` and, for labels, ``confined_to``; see
            :class:`~noisylabels_pl.data.noise.base.DrawnNoise`.

    Raises:
        ValueError: ``kind``, ``count`` or a number is not allowed, an option is missing that ``kind`` needs, or one is
            given that it does not take.

    Example:
        >>> noise = LabelNoise("pairflip", rate=0.5, count="exact")
        >>> labels = noise.apply(torch.tensor([0, 0, 1, 1, 2, 2]), class_names=("cat", "dog", "fox"))
        >>> labels.rate
        0.5
        >>> labels.T
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000],
                [0.5000, 0.0000, 0.5000]], dtype=torch.float64)
    """

    def __init__(
        self,
        kind: LabelNoiseKind = "none",
        *,
        rate: float = 0.0,
        count: Count = "bernoulli",
        map: str | Mapping[str | int, str | int] = "dataset",
        matrix: str | Path | Sequence[Sequence[float]] | None = None,
        strength: float = 15.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("kind", kind, LabelNoiseKind)
        check_choice("count", count, Count)
        check_range("rate", rate, "[0, 1]")
        check_range("strength", strength, "[0, inf)")
        if rate and kind in ("none", "matrix"):
            raise ValueError(f"kind={kind!r} takes no rate, got {rate}; leave it out, or take another kind")
        if self.features and kind == "none":
            raise ValueError(f"kind='none' makes no labels wrong, so it takes no features, got {self.features}")
        if kind == "matrix" and matrix is None:
            raise ValueError("kind='matrix' needs matrix: rows of T, or the path of a .npy or .csv file")
        self.kind = kind
        self.rate = rate
        self.count = count
        self.map = map
        self.matrix = matrix
        self.strength = strength

    def apply(self, labels: Tensor, class_names: Sequence[str], **facts: Any) -> NoisyLabels:
        if self.kind == "none":
            num_classes = None if labels.is_floating_point() else len(class_names)
            return NoisyLabels(labels, facts.get("clean"), None, num_classes)
        return super().apply(labels, class_names, **facts)

    def check_task(self, is_regression: bool) -> None:
        allowed = TARGET_CORRUPTIONS if is_regression else LABEL_CORRUPTIONS
        if self.kind not in allowed:
            labels = "targets that are real numbers" if is_regression else "class labels"
            raise ValueError(f"kind={self.kind!r} is not for {labels}; take one of {', '.join(allowed)}")

    def draw(self, samples: NoiseInput, generator: torch.Generator) -> Draw:
        if samples.labels.is_floating_point():
            return Draw(self._corrupt_targets(samples, generator))
        T = self._transition_matrix(samples, generator)
        labels = corrupt_labels(samples.labels, T, generator=generator, exact=self.count == "exact")
        return Draw(labels, T)

    def _corrupt_targets(self, samples: NoiseInput, generator: torch.Generator) -> Tensor:
        """Return ``(n, q)`` observed targets."""
        targets, names, mapping = samples.labels, samples.class_names, samples.asymmetric_map
        unknown = {*mapping, *mapping.values()} - {*names}
        if unknown:
            raise ValueError(f"the dataset's map names {unknown.pop()!r}, but the targets are {', '.join(names)}")
        permutation = None
        if mapping:
            permutation = [names.index(mapping.get(name, name)) for name in names]
        features = targets  # not read by the other kinds
        if samples.features is not None:
            features = read_all(samples.features)
        elif self.kind in ("linadv", "mixture"):
            raise ValueError(f"kind={self.kind!r} needs the features of the samples")
        kind: Any = self.kind  # one of TARGET_CORRUPTIONS, as check_task has checked
        return corrupt_targets(
            targets,
            features,
            kind,
            rate=self.rate,
            generator=generator,
            exact=self.count == "exact",
            permutation=permutation,
            strength=self.strength,
        )

    def _transition_matrix(self, samples: NoiseInput, generator: torch.Generator) -> Tensor:
        """Return the ``(C, C)`` transition matrix of the kind of noise."""
        num_classes = len(samples.class_names)
        if self.kind == "matrix":
            return check_transition_matrix(as_matrix(self.matrix, "matrix"), num_classes)
        if self.kind == "asym":
            return asymmetric_matrix(self.map, self.rate, samples, generator)
        kind: Any = self.kind  # one of LABEL_CORRUPTIONS, as check_task has checked
        return transition_matrix(kind, num_classes, self.rate)


def as_matrix(matrix: Any, argument: str) -> Tensor:
    """Return rows of numbers, or those of a file, as a float64 tensor.

    Args:
        matrix: the rows, or the path of a file, see :func:`~noisylabels_pl.data.files.read_transition_matrix`.
        argument: the argument that has them, for the messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: these are no rows of numbers.

    Example:
        >>> as_matrix([[1, 0], [0, 1]], "matrix")
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    if isinstance(matrix, (str, Path)):
        return read_transition_matrix(matrix, argument)
    try:
        return torch.from_numpy(np.array(matrix, dtype=np.float64))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{argument} must be rows of numbers, or the path of a file with them, got {matrix}"
        ) from error
