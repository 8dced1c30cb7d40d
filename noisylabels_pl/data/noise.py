"""Label noise that is drawn once, hashed, saved and reloadable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import check_labels, load_npz
from noisylabels_pl.functional import (
    check_choice,
    check_transition_matrix,
    corrupt,
    empirical_transition,
    transition_matrix,
)


@dataclass(frozen=True)
class NoisyLabels:
    """Observed labels and where they come from.

    Attributes:
        observed: ``(n,)`` int64, what training sees.
        clean: ``(n,)`` int64 true labels, if known.
        T: ``(C, C)`` the matrix that the labels were drawn from; ``None`` if they were not drawn.
        num_classes: ``C``.
    """

    observed: Tensor
    clean: Tensor | None
    T: Tensor | None
    num_classes: int

    @property
    def rate(self) -> float | None:
        """Share of the labels that are wrong, if it can be known."""
        return None if self.clean is None else float((self.observed != self.clean).double().mean())

    @property
    def realised_T(self) -> Tensor | None:
        """Share of each true class that is observed as each class, if it can be known."""
        return None if self.clean is None else empirical_transition(self.clean, self.observed, self.num_classes)

    @property
    def sha256(self) -> str:
        """Hash of the observed labels as little-endian int64."""
        return hashlib.sha256(self.observed.numpy().astype("<i8").tobytes()).hexdigest()

    def save(self, path: Path) -> None:
        """Write ``observed`` and, where known, ``clean``, ``T`` and ``realised_T`` to an npz file."""
        arrays = {"observed": self.observed, "clean": self.clean, "T": self.T, "realised_T": self.realised_T}
        known: dict[str, Any] = {name: array.numpy() for name, array in arrays.items() if array is not None}
        np.savez_compressed(path, **known)


class LabelNoise:
    """What is to be done to the labels of a training set.

    Args:
        kind: ``none``, ``sym``, ``sym_inclusive``, ``asym``, ``pairflip`` (see
            :func:`~noisylabels_pl.functional.transition_matrix`), ``matrix`` (your own ``T``), or ``file`` (labels
            saved by an earlier run).
        rate: for the named kinds, the probability in ``[0, 1]`` that a label is touched.
        count: ``bernoulli`` draws every label on its own; ``exact`` fixes how many labels of each class are flipped.
        seed: of the draw, and of nothing else.
        map: for ``asym``: ``dataset`` (the dataset's own map), ``derangement`` (a random permutation without fixed
            points, as in the public code of CRUST), or ``{class: class}`` by name or number.
        matrix: for ``matrix``: rows of ``T``, or the path of a ``.npy`` or ``.csv`` file.
        path: for ``file``: a ``noise.npz``.

    Raises:
        ValueError: an unknown ``kind`` or ``count``, a ``rate`` outside ``[0, 1]``, a missing ``matrix`` or ``path``.
    """

    KINDS = ("none", "sym", "sym_inclusive", "asym", "pairflip", "matrix", "file")

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
    ) -> None:
        check_choice("noise.kind", kind, self.KINDS)
        check_choice("noise.count", count, ("bernoulli", "exact"))
        if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ValueError(f"noise.rate must lie in [0, 1], got {rate}")
        if rate and kind in ("none", "matrix", "file"):
            raise ValueError(f"noise={kind} takes no noise.rate, got {rate}; noise=sym makes symmetric noise")
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
        self.path = path

    def apply(
        self,
        labels: Tensor,
        class_names: Sequence[str],
        *,
        clean: Tensor | None = None,
        asymmetric_map: Mapping[str, str] | None = None,
    ) -> NoisyLabels:
        """Observed labels for a training set.

        Args:
            labels: ``(n,)`` int64 labels of the dataset.
            class_names: one per class.
            clean: true labels, if ``labels`` already are noisy and the true ones are known.
            asymmetric_map: the dataset's own map, by class name.
        """
        num_classes = len(class_names)
        if self.kind == "file":
            return self._load(labels if clean is None else clean, num_classes)
        if self.kind == "none":
            return NoisyLabels(labels, clean, None, num_classes)
        # A stream of its own: seeded with the bare number, it would be that of the network's initial weights.
        generator = torch.Generator().manual_seed(int(np.random.default_rng([self.seed, 2]).integers(2**62)))
        T = self._transition_matrix(class_names, asymmetric_map or {}, generator)
        observed = corrupt(labels, T, generator=generator, exact=self.count == "exact")
        return NoisyLabels(observed, labels if clean is None else clean, T, num_classes)

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

    def _load(self, reference: Tensor, num_classes: int) -> NoisyLabels:
        path = Path(str(self.path)).expanduser()
        stored = load_npz(path, "noise.path")
        if "observed" not in stored:
            raise ValueError(f"noise.path: {path} has no array observed; give the noise.npz of an earlier run")
        observed = check_labels(f"noise.path: {path}: observed", stored["observed"], len(reference), num_classes)
        clean = None
        if "clean" in stored:
            clean = check_labels(f"noise.path: {path}: clean", stored["clean"], len(reference), num_classes)
        if clean is not None and not torch.equal(clean, reference):
            row = int((clean != reference).nonzero()[0, 0])
            raise ValueError(
                f"noise.path: {path} was made for another dataset: true label {row} is {int(clean[row])} there and "
                f"{int(reference[row])} here"
            )
        T = torch.from_numpy(stored["T"]) if "T" in stored else None
        return NoisyLabels(observed, clean, T, num_classes)


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
