"""Synthetic noise with the transition matrix of another labeling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import check_labels
from noisylabels_pl.data.noise.base import Count, Draw, DrawnNoise
from noisylabels_pl.data.noise.file_noise import as_class_numbers, choose_clean_key, choose_key
from noisylabels_pl.data.noise.label_files import read_label_file
from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.functional import check_choice, corrupt_labels, empirical_transition_matrix


class TwinNoise(DrawnNoise):
    """Draw labels with the transition matrix of another noisy labeling, but otherwise at random.

    The matrix is counted in the labels of a file. Its noise depends on the samples, that of its twin on the classes
    alone, so the two show what a method owes to the assumption that noise does not depend on the samples.

    Args:
        path: the labeling: a file with noisy and true labels, of any samples of the same classes; or one with noisy
            labels of this dataset, whose own labels are then taken as true. See
            :class:`~noisylabels_pl.data.FileNoise` for the formats.
        key: the name of the noisy labels in the file, see :class:`~noisylabels_pl.data.FileNoise`.
        count: ``"bernoulli"`` draws every label independently; ``"exact"`` fixes the number of labels of each class
            that become each other class.
        **common: ``seed``, ``features`` and ``confined_to``; see :class:`~noisylabels_pl.data.noise.base.DrawnNoise`.

    Raises:
        ValueError: an option is not allowed.

    Example:
        >>> noise = TwinNoise("CIFAR-10_human.pt", key="worse_label", count="exact")
        >>> noise.apply(labels, class_names)  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, key: str | None = None, count: Count = "bernoulli", **common: Any) -> None:
        super().__init__(**common)
        check_choice("count", count, Count)
        self.path = Path(path).expanduser()
        self.key = None if key is None else str(key)  # a column may be named by a number
        self.count = count

    def draw(self, samples: NoiseInput, generator: torch.Generator) -> Draw:
        T = self._transition_matrix(samples)
        return Draw(corrupt_labels(samples.labels, T, generator=generator, exact=self.count == "exact"), T)

    def _transition_matrix(self, samples: NoiseInput) -> Tensor:
        """Return the ``(C, C)`` matrix that is counted in the file."""
        stored = read_label_file(self.path, "path")
        key = choose_key(self.path, stored, self.key)
        clean_key = choose_clean_key(stored, key)
        num_classes = len(samples.class_names)

        def labels_of(name: str, num_samples: int) -> Tensor:
            full_name = f"path: {self.path}: {name}"
            array = as_class_numbers(stored[name], samples.class_names, full_name)
            return check_labels(full_name, array, num_samples, num_classes)

        if clean_key is not None:
            observed = labels_of(key, len(stored[key]))
            return empirical_transition_matrix(labels_of(clean_key, len(observed)), observed, num_classes)
        observed = labels_of(key, samples.dataset_size)
        return empirical_transition_matrix(samples.labels, observed[samples.positions], num_classes)
