"""Kernels of noise that differs from sample to sample."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor

from noisylabels_pl.functional import (
    aggregate_labels,
    draw_classes,
    draw_samples,
    label_margins,
    proportional_rates,
    transition_matrix,
    truncated_normal_rates,
    wrong_class_probs,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4, 0.95, 1.0])
def test_rates_have_the_moments_of_the_truncated_normal(rate: float) -> None:
    rates = truncated_normal_rates(40_000, rate, generator=generator())
    expected = truncnorm(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
    assert rates.min() >= 0
    assert rates.max() <= 1
    assert float(rates.mean()) == pytest.approx(expected.mean(), abs=4 * expected.std() / 200)
    assert float(rates.std()) == pytest.approx(expected.std(), rel=0.02)


def test_the_means_that_the_docstring_names() -> None:
    for rate, mean in ((0.1, 0.129), (0.2, 0.206)):
        assert truncnorm(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1).mean() == pytest.approx(mean, abs=5e-4)


def test_rates_without_a_spread() -> None:
    assert truncated_normal_rates(3, 0.3, 0.0).tolist() == [0.3] * 3


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_proportional_rates(rate: float) -> None:
    weights = torch.rand(500, generator=generator()) ** 3 + 1e-6
    rates = proportional_rates(weights, rate)
    assert float(rates.mean()) == pytest.approx(rate)
    assert rates.min() >= 0
    assert rates.max() <= 1
    below = rates < 1
    ratios = rates[below] / weights[below]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))  # the same factor for all that are not cut off
    if rate < 1:
        assert weights[~below].numel() == 0 or weights[~below].min() > weights[below].max()


def test_proportional_rates_need_enough_samples_with_a_weight() -> None:
    weights = torch.tensor([1.0, 0.0, 0.0, 1.0])
    assert proportional_rates(weights, 0.5).tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match=r"^rate=0\.75 of 4 samples needs 3 .* only 2 .*lower rate"):
        proportional_rates(weights, 0.75)


def test_exact_draws_have_their_number_and_their_chances() -> None:
    rates = torch.tensor([0.1, 0.2, 0.3, 0.4, 1.0, 0.0, 0.5, 0.5])
    source = generator()
    draws = torch.stack([draw_samples(rates, generator=source, exact=True) for _ in range(4000)])
    assert set(draws.sum(1).tolist()) == {3}
    torch.testing.assert_close(draws.double().mean(0), rates.double(), rtol=0, atol=0.035)


def test_exact_draws_of_a_sum_that_is_not_whole() -> None:
    source = generator()
    counts = [int(draw_samples(torch.full((5,), 0.3), generator=source, exact=True).sum()) for _ in range(400)]
    assert set(counts) == {1, 2}
    assert sum(counts) / 400 == pytest.approx(1.5, abs=0.1)


def test_independent_draws() -> None:
    draws = draw_samples(torch.tensor([0.0, 0.3, 1.0]).repeat_interleave(5000), generator=generator()).view(3, 5000)
    assert draws[0].sum() == 0
    assert draws[2].sum() == 5000
    assert int(draws[1].sum()) == pytest.approx(1500, abs=4.5 * (5000 * 0.21) ** 0.5)


def test_classes_follow_their_probabilities() -> None:
    probs = torch.tensor([0.0, 0.25, 0.75, 0.0]).double().expand(20_000, 4)
    drawn = torch.bincount(draw_classes(probs, generator=generator()), minlength=4)
    assert drawn[[0, 3]].tolist() == [0, 0]
    assert int(drawn[1]) == pytest.approx(5000, abs=4.5 * (20_000 * 0.1875) ** 0.5)


def test_wrong_classes_of_a_certain_prediction_are_equally_likely() -> None:
    probs = wrong_class_probs(torch.tensor([2, 1]), torch.tensor([[0.0, 0.0, 1.0], [0.2, 0.2, 0.6]]))
    torch.testing.assert_close(probs, torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]]).double())


def test_margins() -> None:
    probs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(label_margins(probs, torch.tensor([0, 2, 2])), torch.tensor([0.3, -0.2, 1.0]))


def enumerated(matrices: list[Tensor], aggregate: str) -> Tensor:
    """The transition matrix of an aggregate, summed over all combinations of the annotators' labels."""
    num_classes = len(matrices[0])
    T = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    for true, combination in product(range(num_classes), product(range(num_classes), repeat=len(matrices))):
        chance = float(torch.stack([M[true, label] for M, label in zip(matrices, combination, strict=True)]).prod())
        if aggregate == "majority":
            most = max(map(combination.count, combination))
            winners = [label for label in combination if combination.count(label) == most]
        elif aggregate == "worst":
            winners = [label for label in combination if label != true] or [true]
        else:
            winners = list(combination)
        for winner in winners:
            T[true, winner] += chance / len(winners)
    return T


@pytest.mark.parametrize("aggregate", ["majority", "random", "worst"])
@pytest.mark.parametrize("accuracies", [(0.9, 0.6, 0.5), (0.8, 0.5), (0.7, 0.6, 0.5, 0.4)])
def test_aggregates_have_their_transition_matrix(aggregate: str, accuracies: tuple[float, ...]) -> None:
    each, source = 6000, generator()
    matrices = [transition_matrix("sym", 3, 1 - accuracy) for accuracy in accuracies]
    labels = torch.arange(3).repeat(each)
    annotations = torch.stack([draw_classes(T[labels], generator=source) for T in matrices])
    observed = aggregate_labels(annotations, labels, aggregate, num_classes=3, generator=source)  # type: ignore[arg-type]
    counts = torch.bincount(labels * 3 + observed, minlength=9).view(3, 3)
    T = enumerated(matrices, aggregate)
    assert ((counts - each * T).abs() <= 4.5 * (each * T * (1 - T)).sqrt()).all()


def test_unknown_aggregate() -> None:
    with pytest.raises(ValueError, match=r"^aggregate must be one of majority, random, worst, got 'best'"):
        aggregate_labels(torch.zeros(2, 3).long(), torch.zeros(3).long(), "best", num_classes=2)  # type: ignore[arg-type]
