"""Noise of labels and regression targets that is drawn once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import check_labels, check_targets, load_npz
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.functional import (
    TARGET_CORRUPTIONS,
    check_choice,
    check_transition_matrix,
    corrupt_labels,
    corrupt_targets,
    transition_matrix,
)

LABEL_CORRUPTIONS = ("sym", "sym_inclusive", "asym", "pairflip", "matrix")


class LabelNoise:
    """What is to be done to the labels, or regression targets, of a training set.

    Args:
        kind: of labels ``sym``, ``sym_inclusive``, ``asym``, ``pairflip`` (see
            :func:`~noisylabels_pl.functional.transition_matrix`) or ``matrix`` (your own ``T``); of regression targets
            ``linadv``, ``signflip``, ``uninoise``, ``pairflip`` or ``mixture`` (see
            :func:`~noisylabels_pl.functional.corrupt_targets`); of both ``none``, or ``file`` (what an earlier run
            saved).
        rate: for the named kinds, the probability in ``[0, 1]`` that a label is touched.
        count: ``bernoulli`` draws every label on its own; ``exact`` fixes how many labels of each class are flipped, or
            how many targets are corrupted.
        seed: of the draw, and of nothing else.
        map: for ``asym``: ``dataset`` (the dataset's own map), ``derangement`` (a random permutation without fixed
            points, as in the public code of CRUST), or ``{class: class}`` by name or number.
        matrix: for ``matrix``: rows of ``T``, or the path of a ``.npy`` or ``.csv`` file.
        path: for ``file``: a ``noise.npz``.
        strength: for ``linadv`` and ``mixture``: how large the wrong linear targets are.
        features: corrupt the features of samples with wrong labels as well: Gaussian noise of so many standard
            deviations of each feature, or color, is added to them; 0 for none.

    Raises:
        ValueError: an unknown ``kind`` or ``count``, a ``rate`` outside ``[0, 1]``, a missing ``matrix`` or ``path``.
    """

    KINDS = tuple(dict.fromkeys(("none", *LABEL_CORRUPTIONS, *TARGET_CORRUPTIONS, "file")))

    def __init__(
        self,
        kind: str = "none",
        *,
        rate: float = 0.0,
        count: str = "bernoulli",
        seed: int = 0,
        map: str | Mapping[str | int, str | int] = "dataset",
        matrix: str | Sequence[Sequence[float]] | None = None,
        path: str | None = None,
        strength: float = 15.0,
        features: float = 0.0,
    ) -> None:
        check_choice("noise.kind", kind, self.KINDS)
        check_choice("noise.count", count, ("bernoulli", "exact"))
        if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ValueError(f"noise.rate must lie in [0, 1], got {rate}")
        if rate and kind in ("none", "matrix", "file"):
            raise ValueError(f"noise={kind} takes no noise.rate, got {rate}; noise=pairflip, for one, takes one")
        if kind == "matrix" and matrix is None:
            raise ValueError("noise=matrix needs noise.matrix: rows of T, or the path of a .npy or .csv file")
        if kind == "file" and path is None:
            raise ValueError("noise=file needs noise.path: the noise.npz of an earlier run")
        self.kind = kind
        self.rate = rate
        self.count = count
        self.seed = seed
        self.map = map
        self.matrix = matrix
        for name, number in (("strength", strength), ("features", features)):
            if not isinstance(number, (int, float)) or not 0 <= number < float("inf"):
                raise ValueError(f"noise.{name} must not be negative or infinite, got {number!r}")
        if features and kind in ("none", "file"):
            raise ValueError(f"noise={kind} makes no labels wrong, so it takes no noise.features, got {features}")
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
        features: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> NoisyLabels:
        """Observed labels for a training set.

        Args:
            labels: ``(n,)`` int64 labels of the dataset, or ``(n, q)`` floating-point targets.
            class_names: one per class, or coordinate of the targets.
            clean: true labels, if ``labels`` already are noisy and the true ones are known.
            asymmetric_map: the dataset's own map, by class name.
            features: ``(n, ...)``, for kinds that depend on them.
            spread: their standard deviation, to be broadcast against one sample.
        """
        is_regression = labels.is_floating_point()
        allowed = TARGET_CORRUPTIONS if is_regression else LABEL_CORRUPTIONS
        if self.kind not in ("none", "file", *allowed):
            what = "targets that are real numbers" if is_regression else "class labels"
            raise ValueError(f"noise={self.kind} is not for {what}; take one of {', '.join(allowed)}")
        num_classes = 0 if is_regression else len(class_names)
        if self.kind == "file":
            return self._load(labels if clean is None else clean, num_classes, features)
        if self.kind == "none":
            return NoisyLabels(labels, clean, None, num_classes)
        # A stream of its own: seeded with the bare number, it would be that of the network's initial weights.
        generator = torch.Generator().manual_seed(int(np.random.default_rng([self.seed, 2]).integers(2**62)))
        T = None
        if is_regression:
            observed = self._corrupt_targets(labels, features, class_names, asymmetric_map or {}, generator)
        else:
            T = self._transition_matrix(class_names, asymmetric_map or {}, generator)
            observed = corrupt_labels(labels, T, generator=generator, exact=self.count == "exact")
        noisy = NoisyLabels(observed, labels if clean is None else clean, T, num_classes)
        if not self.features:
            return noisy
        return replace(noisy, features=self._corrupt_features(noisy, features, spread, generator))

    def _corrupt_targets(
        self,
        targets: Tensor,
        features: Tensor | None,
        names: Sequence[str],
        map: Mapping[str, str],
        generator: torch.Generator,
    ) -> Tensor:
        unknown = {*map, *map.values()} - {*names}
        if unknown:
            raise ValueError(f"the dataset's map names {unknown.pop()!r}, but the targets are {', '.join(names)}")
        permutation = [names.index(map.get(name, name)) for name in names] if map else None
        if features is None and self.kind in ("linadv", "mixture"):
            raise ValueError(f"noise={self.kind} needs the features of the samples")
        return corrupt_targets(
            targets,
            targets if features is None else features,
            self.kind,
            rate=self.rate,
            generator=generator,
            exact=self.count == "exact",
            permutation=permutation,
            strength=self.strength,
        )

    def _corrupt_features(
        self, noisy: NoisyLabels, features: Tensor | None, spread: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        if features is None or spread is None or noisy.is_wrong is None:
            raise ValueError(f"noise.features={self.features} needs features and their spread")
        chosen = features[noisy.is_wrong]
        noise = torch.randn(chosen.shape, generator=generator) * spread * self.features
        corrupted = chosen + noise
        if not features.is_floating_point():
            corrupted = corrupted.round().clamp(int(features.min()), int(features.max()))
        return corrupted.to(features.dtype)

    def _transition_matrix(
        self, class_names: Sequence[str], asymmetric_map: Mapping[str, str], generator: torch.Generator
    ) -> Tensor:
        if self.kind == "matrix":
            return check_transition_matrix(_read_matrix(self.matrix), len(class_names))
        if self.kind != "asym":
            return transition_matrix(self.kind, len(class_names), self.rate)
        if self.map == "derangement":
            return transition_matrix("asym", len(class_names), self.rate, mapping=_derangement(class_names, generator))
        mapping = asymmetric_map if self.map == "dataset" else self.map
        if not isinstance(mapping, Mapping):
            raise ValueError(f"noise.map must be dataset, derangement or a mapping of classes, got {mapping!r}")
        if not mapping:
            raise ValueError("this dataset has no asymmetric map; give one: 'noise.map={cat: dog, dog: cat}'")
        by_number = {_class_number(k, class_names): _class_number(v, class_names) for k, v in mapping.items()}
        return transition_matrix("asym", len(class_names), self.rate, mapping=by_number)

    def _load(self, reference: Tensor, num_classes: int, features: Tensor | None) -> NoisyLabels:
        path = Path(str(self.path)).expanduser()
        stored = load_npz(path, "noise.path")
        if "observed" not in stored:
            raise ValueError(f"noise.path: {path} has no array observed; give the noise.npz of an earlier run")

        def check(name: str) -> Tensor:
            where = f"noise.path: {path}: {name}"
            if num_classes:
                return check_labels(where, stored[name], len(reference), num_classes)
            if stored[name].dtype.kind != "f" or stored[name].shape != reference.shape:
                raise ValueError(
                    f"{where} has shape {stored[name].shape} and type {stored[name].dtype}; this dataset has "
                    f"{len(reference)} samples with targets of {reference.shape[1]} real numbers; give the noise.npz "
                    "of a run on it"
                )
            return check_targets(where, stored[name], len(reference))

        observed = check("observed")
        clean = check("clean") if "clean" in stored else None
        # Targets may have been computed on another machine.
        differs = None if clean is None else ~torch.isclose(clean, reference, rtol=1e-4, atol=1e-5)
        if clean is not None and differs is not None and differs.any():
            row = int(differs.nonzero()[0, 0])
            raise ValueError(
                f"noise.path: {path} was made for another dataset: true label {row} is {clean[row].tolist()} there and "
                f"{reference[row].tolist()} here"
            )
        T = torch.from_numpy(stored["T"]) if "T" in stored else None
        noisy = NoisyLabels(observed, clean, T, num_classes)
        if "features" not in stored:
            return noisy
        seen = torch.from_numpy(stored["features"])
        expected = None if features is None or noisy.is_wrong is None else features[noisy.is_wrong]
        if expected is None or (seen.shape, seen.dtype) != (expected.shape, expected.dtype) or not _finite(seen):
            raise ValueError(
                f"noise.path: {path}: features {tuple(seen.shape)} of {seen.dtype} are not those of this dataset's "
                "samples with wrong labels; give the noise.npz of a run on it"
            )
        return replace(noisy, features=seen)


def _finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


def _read_matrix(matrix: Any) -> Tensor:
    """Rows of numbers, or the path of a file with them."""
    try:
        if isinstance(matrix, (str, Path)):
            path = Path(matrix).expanduser()
            matrix = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",")
        return torch.from_numpy(np.array(matrix, dtype=np.float64))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"noise.matrix: there is no file {path.resolve()}") from error
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise ValueError(
            f"noise.matrix must be rows of numbers, or a .npy or .csv file of them, got {matrix}"
        ) from error


def _class_number(name: str | int, class_names: Sequence[str]) -> int:
    if str(name) in class_names:
        return class_names.index(str(name))
    if isinstance(name, int) and 0 <= name < len(class_names):
        return name
    raise ValueError(f"noise.map names class {name!r}, but the classes are {', '.join(class_names)}")


def _derangement(class_names: Sequence[str], generator: torch.Generator) -> dict[int, int]:
    while True:
        permutation = torch.randperm(len(class_names), generator=generator).tolist()
        if all(source != destination for source, destination in enumerate(permutation)):
            return dict(enumerate(permutation))
