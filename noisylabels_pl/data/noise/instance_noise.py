"""Noise that depends on the features of each sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.noise.base import Count, Draw, DrawnNoise
from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.functional import (
    check_choice,
    check_range,
    draw_classes,
    draw_samples,
    truncated_normal_rates,
)


class InstanceNoise(DrawnNoise):
    r"""Draw labels that depend on the features: part-dependent noise, the usual instance-dependent noise of papers.

    Each sample has a flip rate of its own, and each class a random matrix :math:`W_c` that scores the classes which its
    samples are mistaken for:

    .. math::
        q_s \sim \mathcal{N}(\mathrm{rate}, \mathrm{std}^2, [0, 1]), \quad
        P(\tilde{y}_s = j) = q_s \operatorname{softmax}_{j \neq y_s}(x_s^\top W_{y_s}), \quad
        P(\tilde{y}_s = y_s) = 1 - q_s

    This is algorithm 2 of `Part-dependent Label Noise: Towards Instance-dependent Label Noise
    <https://arxiv.org/abs/2006.07836>`_. The features :math:`x_s` are standardized (those of a dataset with
    transforms of its own are taken as they are) and :math:`W_c` is standard normal, so with many features one class
    gets nearly all of a sample's flips.

    Args:
        rate: the mean of the flip rates before they are cut off at 0 and 1, in ``(0, 1]``; see
            :func:`~noisylabels_pl.functional.truncated_normal_rates` for their mean afterwards.
        std: the standard deviation of the flip rates before the cut.
        count: ``"bernoulli"`` decides for each sample independently; ``"exact"`` fixes the number of wrong labels at
            the sum of the flip rates.
        **common: ``seed``, ``features`` and ``confined_to``; see :class:`~noisylabels_pl.data.noise.base.DrawnNoise`.

    Raises:
        ValueError: a number or ``count`` is not allowed.

    Example:
        >>> x, y = torch.rand(1000, 5), torch.arange(1000) % 4
        >>> noise = InstanceNoise(rate=0.4)
        >>> labels = noise.apply(y, ("a", "b", "c", "d"), features=x, mean=x.mean(0), spread=x.std(0))
        >>> round(labels.rate, 1)
        0.4
    """

    def __init__(self, *, rate: float, std: float = 0.1, count: Count = "bernoulli", **common: Any) -> None:
        super().__init__(**common)
        # Half of a normal distribution around 0 lies above 0, so a rate of 0 would make 8 % of the labels wrong.
        check_range("rate", rate, "(0, 1]", hint="noise=none leaves the labels as they are")
        check_range("std", std, "[0, inf)")
        check_choice("count", count, Count)
        self.rate = rate
        self.std = std
        self.count = count

    def draw(self, samples: NoiseInput, generator: torch.Generator) -> Draw:
        num_classes = len(samples.class_names)
        rates = truncated_normal_rates(len(samples.labels), self.rate, self.std, generator=generator)
        is_wrong = draw_samples(rates, generator=generator, exact=self.count == "exact")
        observed = samples.labels.clone()
        T = torch.eye(num_classes, dtype=torch.float64)
        for label in range(num_classes):
            # One class after the other, because the matrices of all classes may not fit into memory.
            members = (samples.labels == label).nonzero().squeeze(1)
            row = torch.zeros(num_classes, dtype=torch.float64)
            W: Tensor | None = None
            for batch, x in samples.batches(members, "noise=instance"):
                if W is None:
                    W = torch.randn(x.shape[1], num_classes, generator=generator)
                scores = (x @ W).double()
                scores[:, label] = -torch.inf
                probs = scores.softmax(1)
                drawn = draw_classes(probs, generator=generator)
                observed[batch] = torch.where(is_wrong[batch], drawn, label)
                row += (rates[batch].unsqueeze(1) * probs).sum(0)
            if len(members):
                row /= len(members)
                row[label] = 1 - row.sum()
                T[label] = row
        return Draw(observed, T)
