"""Active and passive losses: their definitions, restated."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from noisylabels_pl.functional import (
    mean_absolute_error,
    normalized_cross_entropy,
    normalized_negative_cross_entropy,
    reverse_cross_entropy,
)
from tests.functional.helpers import batch


def test_the_reverse_is_the_cross_entropy_with_the_arguments_exchanged() -> None:
    logits, target = batch(6, 4, 0)
    label = F.one_hot(target, 4).double().clamp(min=1e-4)
    expected = -(logits.softmax(1) * label.log()).sum(1)
    torch.testing.assert_close(reverse_cross_entropy(logits, target), expected)
    p = logits.softmax(1).gather(1, target[:, None]).squeeze(1)
    torch.testing.assert_close(reverse_cross_entropy(logits, target, A=-4.0), 4 * (1 - p))
    torch.testing.assert_close(reverse_cross_entropy(logits, target, A=-2.0), mean_absolute_error(logits, target))


def test_the_normalized_losses_divide_by_those_of_all_labels() -> None:
    logits, target = batch(6, 4, 1)
    log_p = logits.log_softmax(1)
    own = log_p.gather(1, target[:, None]).squeeze(1)
    torch.testing.assert_close(normalized_cross_entropy(logits, target), own / log_p.sum(1))
    above = -math.log(1e-7) + log_p.clamp(min=math.log(1e-7))
    expected = 1 - above.gather(1, target[:, None]).squeeze(1) / above.sum(1)
    torch.testing.assert_close(normalized_negative_cross_entropy(logits, target), expected)


def test_a_probability_below_the_smallest_has_no_gradient() -> None:
    logits = torch.tensor([[0.0, -40.0, 1.0]], dtype=torch.float64, requires_grad=True)
    normalized_negative_cross_entropy(logits, torch.tensor([1])).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-15, rtol=0)  # the loss is 1 already


def test_numbers_out_of_range_are_refused() -> None:
    logits, target = batch(2, 3, 0)
    with pytest.raises(ValueError, match=r"A must lie in \(-inf, 0\), got 1.0; it stands for log 0"):
        reverse_cross_entropy(logits, target, A=1.0)
    with pytest.raises(ValueError, match=r"p_min must lie in \(0, 1\), got 0; 1e-7 is usual"):
        normalized_negative_cross_entropy(logits, target, p_min=0)
