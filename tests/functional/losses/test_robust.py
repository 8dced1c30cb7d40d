"""The generalized cross-entropy: its limits, its gradient, and its values at the extremes."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from noisylabels_pl.functional import generalized_cross_entropy, mean_absolute_error
from tests.functional.helpers import batch as random_batch

few = settings(derandomize=True, max_examples=30, deadline=None)
shapes = (st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6))
batch = partial(random_batch, scale=3.0)
exponents = st.floats(0.01, 1.0)


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.5, [2 * (1 - math.sqrt(0.5)), 1.0, 0.8]), (1.0, [0.5, 0.75, 0.64])],
)
def test_by_hand(q: float, expected: list[float]) -> None:
    # p_y = 0.5, 0.25 and 0.36.
    p = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.2, 0.44, 0.36]], dtype=torch.float64)
    got = generalized_cross_entropy(p.log() + 1.5, torch.tensor([0, 1, 2]), q)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


@few
@given(*shapes)
def test_the_absolute_error_is_twice_the_probability_of_other_classes(rows: int, classes: int, seed: int) -> None:
    logits, target = batch(rows, classes, seed)
    expected = (logits.softmax(1) - F.one_hot(target, classes)).abs().sum(1)
    torch.testing.assert_close(mean_absolute_error(logits, target), expected, rtol=1e-12, atol=1e-14)


def test_the_default_exponent_is_that_of_the_paper() -> None:
    logits, target = batch(5, 4, 0)
    expected = (1 - logits.softmax(1)[torch.arange(5), target] ** 0.7) / 0.7
    torch.testing.assert_close(generalized_cross_entropy(logits, target), expected)


@few
@given(*shapes)
def test_an_exponent_of_one_is_half_the_absolute_error(rows: int, classes: int, seed: int) -> None:
    logits, target = batch(rows, classes, seed)
    expected = (logits.softmax(1) - F.one_hot(target, classes)).abs().sum(1) / 2
    torch.testing.assert_close(generalized_cross_entropy(logits, target, 1.0), expected, rtol=1e-12, atol=1e-14)


@few
@given(*shapes)
def test_a_vanishing_exponent_is_the_cross_entropy(rows: int, classes: int, seed: int) -> None:
    logits, target = batch(rows, classes, seed)
    entropy, q = F.cross_entropy(logits, target, reduction="none"), 1e-6
    below = entropy - generalized_cross_entropy(logits, target, q)
    # (1 - exp(-qL)) / q lies between L - q L^2 / 2 and L.
    assert (below >= -1e-9).all()
    assert (below <= q * entropy**2 / 2 + 1e-9).all()


@few
@given(*shapes, exponents, st.sampled_from([0.1, 3.0, 1e4]))
def test_it_lies_between_zero_and_one_over_q(rows: int, classes: int, seed: int, q: float, scale: float) -> None:
    losses = generalized_cross_entropy(*batch(rows, classes, seed, scale=scale), q)
    assert losses.shape == (rows,)
    assert (losses >= 0).all()
    assert (losses <= 1 / q * (1 + 1e-12)).all()


@few
@given(*shapes, exponents)
def test_the_gradient_is_that_of_the_cross_entropy_times_p_to_the_q(
    rows: int, classes: int, seed: int, q: float
) -> None:
    logits, target = batch(rows, classes, seed)
    logits.requires_grad_()
    (got,) = torch.autograd.grad(generalized_cross_entropy(logits, target, q).sum(), logits)
    (entropy,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), logits)
    p = logits.detach().softmax(1).gather(1, target[:, None])
    torch.testing.assert_close(got, p**q * entropy, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_gradcheck(q: float) -> None:
    logits, target = batch(4, 3, 1, scale=1.0)
    assert torch.autograd.gradcheck(lambda z: generalized_cross_entropy(z, target, q), logits.requires_grad_())


@few
@given(*shapes, exponents, st.floats(-50, 50))
def test_shifts_log_probabilities_and_the_order_of_classes_change_nothing(
    rows: int, classes: int, seed: int, q: float, shift: float
) -> None:
    logits, target = batch(rows, classes, seed)
    expected = generalized_cross_entropy(logits, target, q)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    for other, label in (
        (logits + shift, target),
        (logits.log_softmax(1), target),
        (logits[:, order], order.argsort()[target]),
    ):
        torch.testing.assert_close(generalized_cross_entropy(other, label, q), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_half_types_are_promoted_and_others_stay(dtype: torch.dtype) -> None:
    logits, target = batch(8, 10, 2)
    rounded = logits.to(dtype)
    got = generalized_cross_entropy(rounded, target)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # The rounding of the input is the only one.
    torch.testing.assert_close(got.double(), generalized_cross_entropy(rounded.double(), target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("q", [1e-3, 0.7, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_label_without_probability_has_a_finite_loss_and_no_gradient(q: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    losses = generalized_cross_entropy(logits, torch.tensor([1, 0]), q)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.tensor([1 / q, 0.0], dtype=losses.dtype), rtol=1e-5, atol=1e-7)
    # At q = 1e-3, p_y^q is still exp(-20).
    limit = 3e-9 if q == 1e-3 else 0.0
    assert logits.grad is not None
    assert (logits.grad.abs() <= limit).all()


@pytest.mark.parametrize("q", [0, -0.5, 1.5])
def test_exponents_outside_the_papers_range_are_refused(q: float) -> None:
    with pytest.raises(ValueError, match=rf"\bq\b.*{re.escape(str(q))}"):
        generalized_cross_entropy(*batch(2, 3, 0), q)
