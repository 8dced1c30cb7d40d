"""What the kinds of noise have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.data.noise.regions import choose_region
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.samples import Samples
from noisylabels_pl.functional import check_range

Count = Literal["bernoulli", "exact"]


class Noise(ABC):
    """Turn the labels of a training set into those that training sees."""

    @abstractmethod
    def apply(
        self,
        labels: Tensor,
        class_names: Sequence[str],
        *,
        clean: Tensor | None = None,
        asymmetric_map: Mapping[str, str] | None = None,
        superclasses: Sequence[int | str] | None = None,
        features: Samples | None = None,
        mean: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> NoisyLabels:
        """Return the observed labels of a training set; the arguments stay unchanged.

        Args:
            labels: ``(n,)`` int64 labels of the dataset, or ``(n, q)`` floating-point targets, on the CPU.
            class_names: one name for each class, or for each coordinate of the targets.
            clean: the true labels, if ``labels`` are noisy already and the true ones are known.
            asymmetric_map: the dataset's own map, by name.
            superclasses: the superclass of each class, by number or name.
            features: ``(n, ...)`` features, for the kinds and options that depend on them.
            mean: the mean of the features; broadcasts against one sample.
            spread: the standard deviation of the features; broadcasts against one sample.

        Raises:
            FileNotFoundError: a file that the noise reads does not exist.
            ValueError: the noise is not for these labels, or something is missing that it needs.
        """


@dataclass(frozen=True)
class Draw:
    """Hold labels that were drawn for some samples.

    Attributes:
        labels: ``(n,)`` int64 labels, or ``(n, q)`` targets.
        T: ``(C, C)`` float64: the probabilities that a sample of class ``i`` got the label ``j``, averaged over the
            samples of the class; ``None`` if they are unknown.
        annotators: ``(K, n)`` int64 labels of single annotators, if there are any.
    """

    labels: Tensor
    T: Tensor | None = None
    annotators: Tensor | None = None


class DrawnNoise(Noise):
    """Draw labels by a random generator of its own; the base of all noise that is not read from a file.

    Args:
        seed: the seed of the draw, independent of all other seeds.
        features: the size of Gaussian noise that is added to the features of the samples with wrong labels, in standard
            deviations of each feature, or of each color; 0 for none.
        confined_to: the samples that the noise may touch, ``None`` for all; see
            :func:`~noisylabels_pl.data.noise.regions.choose_region`.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, *, seed: int = 0, features: float = 0.0, confined_to: Mapping[str, Any] | None = None) -> None:
        check_range("seed", seed, "[0, inf)", integer=True)
        check_range("features", features, "[0, inf)")
        self.seed = int(seed)
        self.features = features
        self.confined_to = confined_to

    @abstractmethod
    def draw(self, samples: NoiseInput, generator: torch.Generator) -> Draw:
        """Return the labels that some samples get."""

    def check_task(self, is_regression: bool) -> None:
        """Raise a ``ValueError`` if the noise is not for this kind of labels."""
        if is_regression:
            raise ValueError(f"{type(self).__name__} is for class labels, but the targets are real numbers")

    def apply(
        self,
        labels: Tensor,
        class_names: Sequence[str],
        *,
        clean: Tensor | None = None,
        asymmetric_map: Mapping[str, str] | None = None,
        superclasses: Sequence[int | str] | None = None,
        features: Samples | None = None,
        mean: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> NoisyLabels:
        is_regression = labels.is_floating_point()
        self.check_task(is_regression)
        samples = NoiseInput(
            labels,
            class_names,
            torch.arange(len(labels)),
            len(labels),
            asymmetric_map=asymmetric_map or {},
            superclasses=superclasses,
            features=features,
            mean=mean,
            spread=spread,
        )
        # Not manual_seed(self.seed), which would repeat the random numbers of the network's initial weights.
        generator = _generator([self.seed, 2])
        if self.confined_to is None:
            drawn = self.draw(samples, generator)
        elif is_regression:
            raise ValueError(
                f"confined_to is for class labels, but the targets are real numbers, got {self.confined_to}"
            )
        else:
            # By a generator of its own, so that noise of another seed can have the same region.
            inside = choose_region(self.confined_to, samples, _generator([self.seed, 3]))
            drawn = _spread_out(self.draw(samples.at(inside), generator), samples, inside)
        num_classes = None if is_regression else len(class_names)
        true_labels = labels if clean is None else clean
        noisy = NoisyLabels(drawn.labels, true_labels, drawn.T, num_classes, annotators=drawn.annotators)
        if self.features:
            noisy = replace(noisy, features=self._corrupt_features(noisy.is_wrong, features, spread, generator))
        return noisy

    def _corrupt_features(
        self, is_wrong: Tensor | None, features: Samples | None, spread: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Return noisy features of the samples with wrong labels, in the type and range of the dataset's features."""
        if features is None or spread is None or is_wrong is None:
            raise ValueError(f"features={self.features} needs the features of the samples and their spread")
        if not isinstance(features, Tensor) or features.dtype == torch.int64:
            raise ValueError(
                f"features={self.features} is for images and features in memory, not for files and texts; set it to 0"
            )
        true_features = features[is_wrong.nonzero().squeeze(1)]
        noise = torch.randn(true_features.shape, generator=generator) * spread * self.features
        corrupted = true_features + noise
        if not true_features.is_floating_point():
            corrupted = corrupted.round().clamp(int(features.min()), int(features.max()))
        return corrupted.to(true_features.dtype)


def _generator(seed: Sequence[int]) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))


def _spread_out(drawn: Draw, samples: NoiseInput, inside: Tensor) -> Draw:
    """Return a draw for all samples, made of one for the samples inside of a region.

    Args:
        drawn: the labels of the samples inside.
        samples: all of them; those outside keep their labels.
        inside: ``(k,)`` int64 indices into ``samples``.
    """
    observed = samples.labels.clone()
    observed[inside] = drawn.labels
    T = None
    if drawn.T is not None:
        num_classes = len(samples.class_names)
        sizes = torch.bincount(samples.labels, minlength=num_classes).clamp(min=1)
        fractions = torch.bincount(samples.labels[inside], minlength=num_classes) / sizes.double()
        identity = torch.eye(num_classes, dtype=torch.float64)
        T = identity + fractions.unsqueeze(1) * (drawn.T - identity)
    annotators = None
    if drawn.annotators is not None:
        annotators = samples.labels.repeat(len(drawn.annotators), 1)
        annotators[:, inside] = drawn.annotators
    return Draw(observed, T, annotators)
