"""Losses of a margin: their values by hand, and where they have a gradient."""

from __future__ import annotations

import math

import torch

from noisylabels_pl.functional import mean_absolute_error, ramp_loss, savage_loss, sigmoid_loss, unhinged_loss
from tests.functional.helpers import batch, f64

LOGITS = f64([[0.5, -0.5], [2.0, -2.0], [-2.0, 2.0]])  # margins 0.5, 2 and -2
FIRST = torch.zeros(3, dtype=torch.int64)


def test_by_hand() -> None:
    torch.testing.assert_close(unhinged_loss(LOGITS, FIRST), torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64))
    expected = torch.tensor([1 / (1 + math.exp(m)) for m in (0.5, 2, -2)], dtype=torch.float64)
    torch.testing.assert_close(sigmoid_loss(LOGITS, FIRST), expected)
    torch.testing.assert_close(ramp_loss(LOGITS, FIRST), torch.tensor([0.25, 0.0, 1.0], dtype=torch.float64))


def test_the_ramp_is_flat_outside_of_its_range() -> None:
    logits = LOGITS.clone().requires_grad_()
    ramp_loss(logits, FIRST).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, f64([[-0.25, 0.25], [0, 0], [0, 0]]))


def test_savage_takes_the_probability_as_the_margin_and_has_small_gradients() -> None:
    logits, target = batch(50, 4, 0)
    logits.requires_grad_()
    p = logits.softmax(1).gather(1, target[:, None]).squeeze(1)
    losses = savage_loss(logits, target)
    torch.testing.assert_close(losses, (1 + (2 * p).exp()) ** -2)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    (of_mae,) = torch.autograd.grad(mean_absolute_error(logits, target).sum(), logits)
    assert (gradient.norm(dim=1) <= of_mae.norm(dim=1) / 4).all()
