"""Noise that a trained network's confusions make."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from noisylabels_pl.data.files import read_probabilities
from noisylabels_pl.data.noise.base import Count, Draw, DrawnNoise
from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.functional import (
    check_choice,
    check_range,
    draw_classes,
    draw_samples,
    label_margins,
    proportional_rates,
    wrong_class_probs,
)

Order = Literal["proportional", "hardest"]
_LEAST_DOUBT = 1e-9


class ConfusionNoise(DrawnNoise):
    r"""Draw wrong labels as a network confuses classes, sample by sample.

    With the probabilities :math:`p_s` that a network predicts for a sample with the label :math:`y_s`, a label that
    becomes wrong becomes :math:`j \neq y_s` with the probability :math:`p_{sj} / (1 - p_{s, y_s})`.

    Args:
        rate: the fraction of wrong labels, in ``[0, 1]``.
        probabilities: the path of a file with ``(n, C)`` probabilities of all training samples, in the dataset's order;
            see :func:`~noisylabels_pl.data.files.read_probabilities`.
        order: which labels become wrong: ``"proportional"`` at random, with chances in proportion to the doubt
            :math:`1 - p_{s, y_s}` (a chance cannot exceed 1); or ``"hardest"``, those with the smallest margins, see
            :func:`~noisylabels_pl.functional.label_margins`.
        count: for ``"proportional"``: ``"bernoulli"`` decides for each sample independently; ``"exact"`` fixes the
            number of wrong labels. ``"hardest"`` is always exact.
        **common: ``seed``, ``features`` and ``confined_to``; see :class:`~noisylabels_pl.data.noise.base.DrawnNoise`.

    Raises:
        ValueError: an option is not allowed.

    Example:
        >>> noise = ConfusionNoise(rate=0.2, probabilities="probabilities.npy")
        >>> noise.apply(labels, class_names)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        rate: float,
        probabilities: str,
        order: Order = "proportional",
        count: Count = "bernoulli",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_range("rate", rate, "[0, 1]")
        check_choice("order", order, Order)
        check_choice("count", count, Count)
        self.rate = rate
        self.probabilities = Path(probabilities)
        self.order = order
        self.count = count

    def draw(self, samples: NoiseInput, generator: torch.Generator) -> Draw:
        num_classes = len(samples.class_names)
        probs = read_probabilities(
            self.probabilities, "probabilities", num_samples=samples.dataset_size, num_classes=num_classes
        )[samples.positions]
        labels = samples.labels
        rates = self._rates(probs, labels)
        is_wrong = draw_samples(rates, generator=generator, exact=self.count == "exact")
        wrong_probs = wrong_class_probs(labels, probs)
        observed = torch.where(is_wrong, draw_classes(wrong_probs, generator=generator), labels)
        return Draw(observed, _class_means(rates, wrong_probs, labels))

    def _rates(self, probs: Tensor, labels: Tensor) -> Tensor:
        """Return the probability of each label to become wrong."""
        if self.order == "proportional":
            doubt = 1 - probs.gather(1, labels.unsqueeze(1)).squeeze(1)
            # Of samples that a network is sure of, to the last digit, all are equally likely, after the others.
            return proportional_rates(doubt.clamp(min=_LEAST_DOUBT), self.rate)
        hardest = label_margins(probs, labels).sort(stable=True).indices[: round(self.rate * len(labels))]
        rates = torch.zeros(len(labels), dtype=torch.float64)
        rates[hardest] = 1.0
        return rates


def _class_means(rates: Tensor, wrong_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the ``(C, C)`` probabilities of observed labels, averaged over the samples of each class."""
    num_classes = wrong_probs.shape[1]
    flips = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    flips.index_add_(0, labels, rates.unsqueeze(1) * wrong_probs)
    flips /= torch.bincount(labels, minlength=num_classes).clamp(min=1).unsqueeze(1)
    return flips + torch.diag(1 - flips.sum(1))
