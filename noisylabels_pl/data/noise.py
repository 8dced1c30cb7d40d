"""Noise of labels and regression targets that is drawn once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.files import read_transition_matrix
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.samples import Samples, read_all
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
    "matrix",
    "linadv",
    "signflip",
    "uninoise",
    "mixture",
    "file",
]
# The first permutation without fixed points that NumPy draws from seed 0, as the public code of CRUST does.
_CRUST_DERANGEMENT = (2, 8, 4, 9, 1, 6, 7, 3, 0, 5)
LABEL_CORRUPTIONS = ("sym", "sym_inclusive", "asym", "pairflip", "matrix")


class LabelNoise:
    """Corrupt the labels, or the regression targets, of a training set.

    Args:
        kind: for labels ``"sym"``, ``"sym_inclusive"``, ``"asym"``, ``"pairflip"`` (see
            :func:`~noisylabels_pl.functional.transition_matrix`) or ``"matrix"`` (your own ``T``); for regression
            targets ``"linadv"``, ``"signflip"``, ``"uninoise"``, ``"pairflip"`` or ``"mixture"`` (see
            :func:`~noisylabels_pl.functional.corrupt_targets`); for both ``"none"``, or ``"file"`` (the saved labels
            of an earlier run).
        rate: the probability in ``[0, 1]`` that a label is corrupted; not for ``"none"``, ``"matrix"`` and ``"file"``.
        count: ``"bernoulli"`` draws every label independently; ``"exact"`` fixes the number of labels of each class
            that are flipped, or the number of targets that are corrupted.
        seed: the seed of the draw, independent of all other seeds.
        map: for ``"asym"``: ``"dataset"`` (the dataset's own map); ``"elr_released"`` (the same, applied class by class
            to the labels as they are by then, as in the public code of ELR: where two classes are mistaken for each
            other, some labels of the first are flipped back); ``"derangement"`` (a random permutation without fixed
            points); ``"crust_released"`` (the one that the public code of CRUST draws for ten classes); or
            ``{class: class}`` by name or number.
        matrix: for ``"matrix"``: the rows of ``T[i, j] = P(observed j | true i)``, or the path of a file with them
            (see :func:`~noisylabels_pl.data.files.read_transition_matrix`).
        path: for ``"file"``: a ``noise.npz``.
        strength: for ``"linadv"`` and ``"mixture"``: the size of the wrong linear targets, in standard deviations.
        features: the size of Gaussian noise that is added to the features of the samples with wrong labels, in standard
            deviations of each feature, or of each color; 0 for none.

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
        count: Literal["bernoulli", "exact"] = "bernoulli",
        seed: int = 0,
        map: str | Mapping[str | int, str | int] = "dataset",
        matrix: str | Path | Sequence[Sequence[float]] | None = None,
        path: str | None = None,
        strength: float = 15.0,
        features: float = 0.0,
    ) -> None:
        check_choice("kind", kind, LabelNoiseKind)
        check_choice("count", count, Literal["bernoulli", "exact"])
        check_range("rate", rate, "[0, 1]")
        check_range("seed", seed, "[0, inf)", integer=True)
        check_range("strength", strength, "[0, inf)")
        check_range("features", features, "[0, inf)")
        if rate and kind in ("none", "matrix", "file"):
            raise ValueError(f"kind={kind!r} takes no rate, got {rate}; leave it out, or take another kind")
        if features and kind in ("none", "file"):
            raise ValueError(f"kind={kind!r} makes no labels wrong, so it takes no features, got {features}")
        if kind == "matrix" and matrix is None:
            raise ValueError("kind='matrix' needs matrix: rows of T, or the path of a .npy or .csv file")
        if kind == "file" and path is None:
            raise ValueError("kind='file' needs path: the noise.npz of an earlier run")
        self.kind = kind
        self.rate = rate
        self.count = count
        self.seed = int(seed)
        self.map = map
        self.matrix = matrix
        self.path = path
        self.strength = strength
        self.features = features

    def apply(
        self,
        labels: Tensor,
        class_names: Sequence[str],
        *,
        clean: Tensor | None = None,
        asymmetric_map: Mapping[str, str] | None = None,
        features: Samples | None = None,
        spread: Tensor | None = None,
    ) -> NoisyLabels:
        """Return the observed labels of a training set; the arguments stay unchanged.

        Args:
            labels: ``(n,)`` int64 labels of the dataset, or ``(n, q)`` floating-point targets, on the CPU.
            class_names: one name for each class, or for each coordinate of the targets.
            clean: the true labels, if ``labels`` are noisy already and the true ones are known.
            asymmetric_map: the dataset's own map, by name.
            features: ``(n, ...)`` features, for the kinds and options that depend on them.
            spread: the standard deviation of the features; broadcasts against one sample.

        Raises:
            FileNotFoundError: there is no file ``path`` or ``matrix``.
            ValueError: the kind is not for these labels, a map names a class that does not exist, a matrix is not a
                transition matrix, a file belongs to another dataset, or ``features`` or ``spread`` are missing.
        """
        is_regression = labels.is_floating_point()
        self._check_kind(is_regression)
        num_classes = None if is_regression else len(class_names)
        if self.kind == "file":
            reference = labels if clean is None else clean
            path = Path(str(self.path)).expanduser()
            stored = features if isinstance(features, Tensor) else None
            return NoisyLabels.load(path, reference=reference, num_classes=num_classes, features=stored)
        if self.kind == "none":
            return NoisyLabels(labels, clean, None, num_classes)
        in_memory = None
        if features is not None and (self.features or is_regression):
            in_memory = read_all(features)
        # Not manual_seed(self.seed), which would repeat the random numbers of the network's initial weights.
        stream_seed = int(np.random.default_rng([self.seed, 2]).integers(2**62))
        generator = torch.Generator().manual_seed(stream_seed)
        T = None
        if is_regression:
            observed = self._corrupt_targets(labels, in_memory, class_names, asymmetric_map or {}, generator)
        else:
            T = self._transition_matrix(class_names, asymmetric_map or {}, generator)
            observed = corrupt_labels(labels, T, generator=generator, exact=self.count == "exact")
        noisy = NoisyLabels(observed, labels if clean is None else clean, T, num_classes)
        if self.features:
            corrupted = self._corrupt_features(noisy.is_wrong, in_memory, spread, generator)
            noisy = replace(noisy, features=corrupted)
        return noisy

    def _check_kind(self, is_regression: bool) -> None:
        """Raise a ``ValueError`` if the kind of noise is not for this kind of labels."""
        allowed = TARGET_CORRUPTIONS if is_regression else LABEL_CORRUPTIONS
        if self.kind not in ("none", "file", *allowed):
            labels = "targets that are real numbers" if is_regression else "class labels"
            raise ValueError(f"kind={self.kind!r} is not for {labels}; take one of {', '.join(allowed)}")

    def _corrupt_targets(
        self,
        targets: Tensor,
        features: Tensor | None,
        names: Sequence[str],
        asymmetric_map: Mapping[str, str],
        generator: torch.Generator,
    ) -> Tensor:
        """Return ``(n, q)`` observed targets."""
        unknown = {*asymmetric_map, *asymmetric_map.values()} - {*names}
        if unknown:
            raise ValueError(f"the dataset's map names {unknown.pop()!r}, but the targets are {', '.join(names)}")
        permutation = None
        if asymmetric_map:
            permutation = [names.index(asymmetric_map.get(name, name)) for name in names]
        if features is None:
            if self.kind in ("linadv", "mixture"):
                raise ValueError(f"kind={self.kind!r} needs the features of the samples")
            features = targets  # not read by the other kinds
        kind: Any = self.kind  # one of TARGET_CORRUPTIONS, as _check_kind has checked
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

    def _corrupt_features(
        self, is_wrong: Tensor | None, features: Tensor | None, spread: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Return noisy features of the samples with wrong labels, in the type and range of the dataset's features."""
        if features is None or spread is None or is_wrong is None:
            raise ValueError(f"features={self.features} needs the features of the samples and their spread")
        true_features = features[is_wrong]
        noise = torch.randn(true_features.shape, generator=generator) * spread * self.features
        corrupted = true_features + noise
        if not features.is_floating_point():
            corrupted = corrupted.round().clamp(int(features.min()), int(features.max()))
        return corrupted.to(features.dtype)

    def _transition_matrix(
        self, class_names: Sequence[str], asymmetric_map: Mapping[str, str], generator: torch.Generator
    ) -> Tensor:
        """Return the ``(C, C)`` transition matrix of the kind of noise."""
        num_classes = len(class_names)
        if self.kind == "matrix":
            return check_transition_matrix(_as_matrix(self.matrix), num_classes)
        if self.kind != "asym":
            kind: Any = self.kind  # one of LABEL_CORRUPTIONS, as _check_kind has checked
            return transition_matrix(kind, num_classes, self.rate)
        if self.map == "derangement":
            mapping = _random_derangement(num_classes, generator)
        elif self.map == "crust_released":
            mapping = _crust_derangement(num_classes)
        else:
            mapping = self._mapping_by_number(class_names, asymmetric_map)
        if self.map == "elr_released":
            return _matrix_class_by_class(num_classes, self.rate, mapping)
        return transition_matrix("asym", num_classes, self.rate, mapping=mapping)

    def _mapping_by_number(self, class_names: Sequence[str], asymmetric_map: Mapping[str, str]) -> dict[int, int]:
        """Return the map of classes that the option ``map`` chooses, with numbers for classes."""
        mapping = asymmetric_map if self.map in ("dataset", "elr_released") else self.map
        if not isinstance(mapping, Mapping):
            raise ValueError(
                "map must be dataset, elr_released, derangement, crust_released or a mapping of classes, "
                f"got {mapping!r}"
            )
        if not mapping:
            raise ValueError("this dataset has no asymmetric map; give one, such as map={cat: dog, dog: cat}")
        return {
            _class_number(source, class_names): _class_number(destination, class_names)
            for source, destination in mapping.items()
        }


def _as_matrix(matrix: Any) -> Tensor:
    """Return rows of numbers, or those of a file, as a float64 tensor."""
    if isinstance(matrix, (str, Path)):
        return read_transition_matrix(matrix, "matrix")
    try:
        return torch.from_numpy(np.array(matrix, dtype=np.float64))
    except (ValueError, TypeError) as error:
        raise ValueError(f"matrix must be rows of numbers, or the path of a file with them, got {matrix}") from error


def _class_number(name: str | int, class_names: Sequence[str]) -> int:
    """Return the number of a class that is given by name or by number; a name that is a number wins."""
    if str(name) in class_names:
        return class_names.index(str(name))
    if isinstance(name, int) and 0 <= name < len(class_names):
        return name
    raise ValueError(f"map names class {name!r}, but the classes are {', '.join(class_names)}")


def _random_derangement(num_classes: int, generator: torch.Generator) -> dict[int, int]:
    """Return a random permutation that maps no class to itself, drawn by rejection."""
    while True:
        permutation = torch.randperm(num_classes, generator=generator)
        if (permutation != torch.arange(num_classes)).all():
            return dict(enumerate(permutation.tolist()))


def _crust_derangement(num_classes: int) -> dict[int, int]:
    """Return the permutation of the public code of CRUST."""
    if num_classes != len(_CRUST_DERANGEMENT):
        raise ValueError(
            f"map=crust_released is for {len(_CRUST_DERANGEMENT)} classes, got {num_classes}; use map=derangement"
        )
    return dict(enumerate(_CRUST_DERANGEMENT))


def _matrix_class_by_class(num_classes: int, rate: float, mapping: Mapping[int, int]) -> Tensor:
    """Return the transition matrix of corrupting class after class, by number, where later ones see earlier flips."""
    T = transition_matrix("none", num_classes, 0.0)
    for true_class in sorted(mapping):
        T = T @ transition_matrix("asym", num_classes, rate, mapping={true_class: mapping[true_class]})
    return T
