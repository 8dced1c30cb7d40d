"""Noise that differs from sample to sample: which samples become wrong, and what they become."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice, check_range

Aggregate = Literal["majority", "random", "worst"]


def truncated_normal_rates(
    n: int, rate: float, std: float = 0.1, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Return flip rates of single samples, drawn from a normal distribution that is cut off at 0 and 1.

    .. math::
        q_s \sim \mathcal{N}(\mathrm{rate}, \mathrm{std}^2, [0, 1])

    This is the first step of the noise of `Part-dependent Label Noise: Towards Instance-dependent Label Noise
    <https://arxiv.org/abs/2006.07836>`_. The mean of the rates is not ``rate`` where the cut is not symmetric: with the
    paper's ``std`` it is 0.129 for 0.1, and 0.206 for 0.2.

    Args:
        n: the number of samples.
        rate: the mean before the cut, in ``[0, 1]``.
        std: the standard deviation before the cut.
        generator: a CPU generator; the default one if not given.

    Returns:
        ``(n,)`` float64 in ``[0, 1]``.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import truncated_normal_rates
        >>> rates = truncated_normal_rates(10_000, 0.4, generator=torch.Generator().manual_seed(0))
        >>> round(float(rates.mean()), 2), round(float(rates.std()), 2)
        (0.4, 0.1)
    """
    check_range("rate", rate, "[0, 1]")
    check_range("std", std, "[0, inf)")
    draws = torch.rand(n, dtype=torch.float64, generator=generator)
    if std == 0:
        return torch.full((n,), float(rate), dtype=torch.float64)
    # Draws between the quantiles of 0 and of 1 become normal numbers between 0 and 1.
    bounds = torch.tensor([0.0, 1.0], dtype=torch.float64).sub(rate).div(std)
    low, high = torch.special.ndtr(bounds)
    normal: Tensor = torch.special.ndtri(low + draws * (high - low))
    return normal.mul(std).add(rate).clamp(0, 1)


def proportional_rates(weights: Tensor, rate: float) -> Tensor:
    """Return flip rates of single samples that are proportional to weights and have the mean ``rate``.

    A rate cannot exceed 1. Where it would, it is 1, and the others grow.

    Args:
        weights: ``(n,)`` numbers that are not negative.
        rate: the mean of the rates, in ``[0, 1]``.

    Returns:
        ``(n,)`` float64 in ``[0, 1]``.

    Raises:
        ValueError: ``rate`` is out of range, or fewer samples than it asks for have a weight above 0.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import proportional_rates
        >>> proportional_rates(torch.tensor([0.0, 1.0, 3.0, 4.0]), 0.5)
        tensor([0.0000, 0.2500, 0.7500, 1.0000], dtype=torch.float64)
    """
    check_range("rate", rate, "[0, 1]")
    rates = torch.zeros(len(weights), dtype=torch.float64)
    wanted = rate * len(weights)
    possible = int((weights > 0).sum())
    if possible < wanted - 1e-9:
        raise ValueError(
            f"rate={rate} of {len(weights)} samples needs {wanted:g} that can become wrong, but only {possible} have a "
            "weight above 0; lower rate"
        )
    # In this order, the samples whose rate is cut off at 1 come first.
    descending, order = weights.double().sort(descending=True, stable=True)
    remaining = descending.flip(0).cumsum(0).flip(0)  # the sum of this weight and of the smaller ones
    full = torch.arange(len(weights))  # samples before this one, all with the rate 1
    scale = (wanted - full) / remaining.clamp(min=torch.finfo(torch.float64).tiny)
    num_full = int((scale * descending > 1).cumprod(0).sum())
    rates[order[:num_full]] = 1.0
    if num_full < len(weights):
        rates[order[num_full:]] = (scale[num_full] * descending[num_full:]).clamp(0, 1)
    return rates


def draw_samples(rates: Tensor, *, generator: torch.Generator | None = None, exact: bool = False) -> Tensor:
    """Return which samples become wrong, each with a probability of its own.

    Args:
        rates: ``(n,)`` probabilities.
        generator: a CPU generator; the default one if not given.
        exact: if false, samples are drawn independently. If true, the number of samples is the sum of the rates,
            rounded up or down at random if it is not whole, and each sample still has its probability.

    Returns:
        ``(n,)`` bool.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import draw_samples
        >>> draw_samples(torch.tensor([1.0, 0.5, 0.5, 0.0]), exact=True).sum()
        tensor(2)
    """
    rates = rates.double()
    if not exact:
        return torch.rand(len(rates), dtype=torch.float64, generator=generator) < rates
    # Systematic sampling: lay the rates end to end, in random order, and take those that cross a point u, u + 1, ...
    order = torch.randperm(len(rates), generator=generator)
    start = torch.rand((), dtype=torch.float64, generator=generator)
    # Rounding keeps 0.1 + 0.2 + ... from crossing a point late.
    ends = rates[order].cumsum(0).mul(1e9).round().div(1e9)
    crossed = (ends + start).floor()
    chosen = torch.zeros(len(rates), dtype=torch.bool)
    chosen[order] = crossed.diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0
    return chosen


def wrong_class_probs(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the probabilities of the wrong classes of each sample: weights without the label's, normalized.

    Args:
        labels: ``(n,)`` int64 classes.
        weights: ``(n, C)`` numbers that are not negative, such as predicted probabilities.

    Returns:
        ``(n, C)`` float64, 0 for the label itself. Where all other weights are 0, the other classes are equally likely.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import wrong_class_probs
        >>> wrong_class_probs(torch.tensor([0, 1]), torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]))
        tensor([[0.0000, 0.5000, 0.5000],
                [0.5000, 0.0000, 0.5000]], dtype=torch.float64)
    """
    columns = labels.unsqueeze(1)
    others = weights.double().scatter(1, columns, 0.0)
    total = others.sum(1, keepdim=True)
    equal = torch.full_like(others, 1 / (weights.shape[1] - 1)).scatter(1, columns, 0.0)
    return torch.where(total > 0, others / total.clamp(min=torch.finfo(torch.float64).tiny), equal)


def draw_classes(probs: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return a class for each sample, drawn from its probabilities.

    Args:
        probs: ``(n, C)`` float64, rows summing to 1.
        generator: a CPU generator; the default one if not given.

    Returns:
        ``(n,)`` int64; never a class of probability 0.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import draw_classes
        >>> draw_classes(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
        tensor([1, 2])
    """
    cumulative = probs.cumsum(1)
    # The last column becomes exactly 1, so a draw below 1 can never land behind it.
    cumulative = cumulative / cumulative[:, -1:]
    draws = torch.rand(len(probs), 1, dtype=cumulative.dtype, generator=generator)
    return (draws >= cumulative).sum(1)


def label_margins(probs: Tensor, labels: Tensor) -> Tensor:
    r"""Return by how much the label's probability exceeds the largest other one.

    .. math::
        m_s = p_{s, y_s} - \max_{j \neq y_s} p_{sj}

    Args:
        probs: ``(n, C)`` predicted probabilities.
        labels: ``(n,)`` int64 classes.

    Returns:
        ``(n,)`` in ``[-1, 1]``; small for hard samples.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import label_margins
        >>> label_margins(torch.tensor([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]]), torch.tensor([0, 1]))
        tensor([ 0.2500, -0.5000])
    """
    columns = labels.unsqueeze(1)
    largest_other = probs.scatter(1, columns, -torch.inf).amax(1)
    return probs.gather(1, columns).squeeze(1) - largest_other


def aggregate_labels(
    annotations: Tensor,
    labels: Tensor,
    aggregate: Aggregate,
    *,
    num_classes: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return one label for each sample out of those of several annotators, as in CIFAR-10N.

    The definitions are those of `Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations
    <https://arxiv.org/abs/2110.12088>`_.

    Args:
        annotations: ``(K, n)`` int64 labels by annotator.
        labels: ``(n,)`` int64 true classes; only ``"worst"`` reads them.
        aggregate: ``"majority"`` (the most frequent label, ties at random), ``"random"`` (the label of a random
            annotator), or ``"worst"`` (a random one of the wrong labels, if there are any).
        num_classes: the number of classes.
        generator: a CPU generator; the default one if not given.

    Returns:
        ``(n,)`` int64.

    Raises:
        ValueError: ``aggregate`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import aggregate_labels
        >>> annotations = torch.tensor([[0, 1], [0, 1], [2, 1]])
        >>> aggregate_labels(annotations, torch.tensor([0, 1]), "majority", num_classes=3)
        tensor([0, 1])
        >>> aggregate_labels(annotations, torch.tensor([0, 1]), "worst", num_classes=3)
        tensor([2, 1])
    """
    check_choice("aggregate", aggregate, Aggregate)
    # The annotator who is taken is the one with the largest key; random keys break ties.
    keys = torch.rand(annotations.shape, dtype=torch.float64, generator=generator)
    if aggregate == "worst":
        keys += (annotations != labels).double()
    elif aggregate == "majority":
        votes = torch.zeros(annotations.shape[1], num_classes, dtype=torch.float64)
        votes.scatter_add_(1, annotations.T, torch.ones(annotations.T.shape, dtype=torch.float64))
        keys += votes.gather(1, annotations.T).T
    return annotations.gather(0, keys.argmax(0, keepdim=True)).squeeze(0)
