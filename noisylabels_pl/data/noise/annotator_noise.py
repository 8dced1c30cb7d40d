"""Noise of several annotators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.noise.base import Count, Draw, DrawnNoise
from noisylabels_pl.data.noise.label_noise import as_matrix
from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.functional import (
    Aggregate,
    aggregate_labels,
    check_choice,
    check_range,
    check_transition_matrix,
    corrupt_labels,
    transition_matrix,
)


class AnnotatorNoise(DrawnNoise):
    """Let several annotators of different skill label each sample, and aggregate their labels.

    The labels of single annotators are kept in ``NoisyLabels.annotators``, and saved in
    ``noise.npz``.

    Args:
        annotators: one for each annotator: the probability that a label is right, in ``[0, 1]``, where the wrong
            classes are equally likely; or the rows of a transition matrix, or the path of a file with them (see
            :func:`~noisylabels_pl.data.files.read_transition_matrix`).
        aggregate: ``"majority"``, ``"random"`` or ``"worst"``, see
            :func:`~noisylabels_pl.functional.aggregate_labels`.
        count: ``"bernoulli"`` draws every annotator's label independently; ``"exact"`` fixes the number of labels of
            each class that each annotator gets wrong.
        **common: ``seed``, ``features`` and ``confined_to``; see :class:`~noisylabels_pl.data.noise.base.DrawnNoise`.

    Raises:
        ValueError: an option is not allowed.

    Example:
        >>> noise = AnnotatorNoise(annotators=[0.9, 0.8, 0.7], aggregate="worst")
        >>> labels = noise.apply(torch.arange(1000) % 4, ("a", "b", "c", "d"))
        >>> labels.annotators.shape
        torch.Size([3, 1000])
        >>> round(labels.rate, 1)  # 1 - 0.9 * 0.8 * 0.7
        0.5
    """

    def __init__(
        self,
        *,
        annotators: Sequence[float | str | Sequence[Sequence[float]]] = (0.9, 0.8, 0.7),
        aggregate: Aggregate = "majority",
        count: Count = "bernoulli",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("aggregate", aggregate, Aggregate)
        check_choice("count", count, Count)
        if isinstance(annotators, str) or not isinstance(annotators, Sequence) or not annotators:
            raise ValueError(
                f"annotators must be a list with one entry for each, such as [0.9, 0.8], got {annotators!r}"
            )
        for number, annotator in enumerate(annotators):
            if not isinstance(annotator, (str, Sequence)):
                check_range(f"annotators[{number}]", annotator, "[0, 1]")
        self.annotators = list(annotators)
        self.aggregate: Aggregate = aggregate
        self.count = count

    def draw(self, samples: NoiseInput, generator: torch.Generator) -> Draw:
        num_classes = len(samples.class_names)
        matrices = [self._matrix(number, num_classes) for number in range(len(self.annotators))]
        annotations = torch.stack(
            [corrupt_labels(samples.labels, T, generator=generator, exact=self.count == "exact") for T in matrices]
        )
        observed = aggregate_labels(
            annotations, samples.labels, self.aggregate, num_classes=num_classes, generator=generator
        )
        # That of a majority, or of the worst, is a sum over all combinations of labels: too many for many classes.
        T = torch.stack(matrices).mean(0) if self.aggregate == "random" else None
        return Draw(observed, T, annotations)

    def _matrix(self, number: int, num_classes: int) -> Tensor:
        """Return the transition matrix of an annotator."""
        annotator = self.annotators[number]
        if isinstance(annotator, (str, Sequence)):
            name = f"annotators[{number}]"
            try:
                return check_transition_matrix(as_matrix(annotator, name), num_classes)
            except ValueError as error:
                message = str(error)
                raise ValueError(message if message.startswith(name) else f"{name}: {message}") from error
        return transition_matrix("sym", num_classes, 1 - annotator)
