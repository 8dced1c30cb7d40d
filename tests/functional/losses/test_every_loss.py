"""What holds for every robust loss: at the extremes, in half types, and under changes that mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisylabels_pl.functional import (
    clip_logits,
    dmi_loss,
    generalized_cross_entropy,
    hard_bootstrap,
    mean_absolute_error,
    normalized_cross_entropy,
    normalized_negative_cross_entropy,
    ramp_loss,
    reverse_cross_entropy,
    savage_loss,
    sigmoid_loss,
    soft_bootstrap,
    unhinged_loss,
)
from tests.functional.helpers import batch

few = settings(derandomize=True, max_examples=20, deadline=None)
Loss = Callable[[Tensor, Tensor], Tensor]


def clipped(logits: Tensor, target: Tensor) -> Tensor:
    return generalized_cross_entropy(clip_logits(logits, 2.0), target)


LOSSES: dict[str, Loss] = {
    "gce": generalized_cross_entropy,
    "mae": mean_absolute_error,
    "rce": reverse_cross_entropy,
    "nce": normalized_cross_entropy,
    "nnce": normalized_negative_cross_entropy,
    "unhinged": unhinged_loss,
    "sigmoid": sigmoid_loss,
    "ramp": ramp_loss,
    "savage": savage_loss,
    "soft_bootstrap": soft_bootstrap,
    "hard_bootstrap": hard_bootstrap,
    "logit_clip": clipped,
}
# The sum of the losses of all labels that a sample could have, which does not depend on its logits.
SYMMETRIC: dict[str, Callable[[int], float]] = {
    "mae": lambda classes: 2.0 * (classes - 1),
    "rce": lambda classes: (classes - 1) * 9.210340371976182,
    "nce": lambda classes: 1.0,
    "nnce": lambda classes: classes - 1.0,
    "unhinged": lambda classes: float(classes),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def sum_over_labels(name: str, logits: Tensor) -> Tensor:
    rows, classes = logits.shape
    return sum(LOSSES[name](logits, torch.full((rows,), label)) for label in range(classes))  # type: ignore[return-value]


@pytest.mark.parametrize("name", SYMMETRIC)
@few
@given(rows=st.integers(1, 5), classes=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_a_symmetric_loss_has_a_constant_sum_over_labels(name: str, rows: int, classes: int, seed: int) -> None:
    sums = sum_over_labels(name, batch(rows, classes, seed)[0])
    torch.testing.assert_close(sums, torch.full((rows,), SYMMETRIC[name](classes), dtype=torch.float64))


@pytest.mark.parametrize(("name", "expected"), [("sigmoid", 1.0), ("ramp", 1.0), ("unhinged", 2.0)])
def test_margin_losses_of_two_classes_are_symmetric(name: str, expected: float) -> None:
    scores = torch.linspace(-2, 2, 9, dtype=torch.float64)  # a single logit, as callbacks show it
    logits = torch.stack([torch.zeros_like(scores), scores], 1)
    torch.testing.assert_close(sum_over_labels(name, logits), torch.full_like(scores, expected))
    ones = LOSSES[name](logits, torch.ones(9, dtype=torch.int64))
    assert (ones.diff() <= 0).all()  # falls with the score of the label, and rises with that of the other
    assert (LOSSES[name](logits, torch.zeros(9, dtype=torch.int64)).diff() >= 0).all()


@every_loss
@few
@given(rows=st.integers(1, 5), classes=st.integers(2, 7), seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_shifts_and_the_order_of_classes_change_nothing(
    name: str, rows: int, classes: int, seed: int, shift: float
) -> None:
    logits, target = batch(rows, classes, seed)
    expected = LOSSES[name](logits, target)
    assert expected.shape == (rows,)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    permuted = LOSSES[name](logits[:, order], order.argsort()[target])
    torch.testing.assert_close(permuted, expected, rtol=1e-10, atol=1e-12)
    if name != "logit_clip":  # the norm of the logits depends on a shift
        torch.testing.assert_close(LOSSES[name](logits + shift, target), expected, rtol=1e-9, atol=1e-11)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_extreme_logits_have_finite_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    rows = [[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]]
    logits = torch.tensor(rows, dtype=dtype, requires_grad=True)
    losses = LOSSES[name](logits, torch.tensor([1, 0, 2]))
    assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    losses.sum().backward()
    assert logits.grad is not None
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()


@every_loss
def test_half_types_round_the_logits_alone(name: str) -> None:
    logits, target = batch(8, 10, 2)
    rounded = logits.bfloat16()
    expected = LOSSES[name](rounded.double(), target).float()
    torch.testing.assert_close(LOSSES[name](rounded, target), expected, rtol=1e-5, atol=1e-5)


@every_loss
def test_gradcheck(name: str) -> None:
    logits, target = batch(4, 3, 1, scale=0.7)
    assert torch.autograd.gradcheck(partial(LOSSES[name], target=target), logits.requires_grad_())


def test_the_mutual_information_of_a_batch_shifts_with_the_noise() -> None:
    """Labels that flip by T multiply the determinant by that of T."""
    logits, _ = batch(30, 3, 0)
    labels = torch.arange(3).repeat(10)
    flipped = (labels + 1) % 3  # a permutation, whose determinant is 1
    torch.testing.assert_close(dmi_loss(logits, flipped), dmi_loss(logits, labels))
    matrix = torch.eye(3, dtype=torch.float64)[labels].T @ logits.softmax(1)
    expected = -torch.log(torch.det(matrix).abs() + 1e-3)
    torch.testing.assert_close(dmi_loss(logits, labels), expected)
    assert torch.autograd.gradcheck(partial(dmi_loss, target=labels), logits.requires_grad_())


def test_many_classes_stay_in_range_and_a_missing_class_has_no_gradient() -> None:
    logits = (20 * torch.eye(300) + torch.randn(300, 300, generator=torch.Generator().manual_seed(0))).requires_grad_()
    loss = dmi_loss(torch.cat([logits] * 2), torch.arange(300).repeat(2))  # a determinant of about 2^300
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    few_classes, target = batch(6, 3, 0)
    few_classes.requires_grad_()
    loss = dmi_loss(few_classes, target.clamp(max=1))
    loss.backward()
    assert few_classes.grad is not None
    assert (few_classes.grad == 0).all()
    torch.testing.assert_close(loss.detach(), torch.tensor(1e-3, dtype=torch.float64).log().neg())
    with pytest.raises(ValueError, match="eps must be positive, got 0"):
        dmi_loss(few_classes, target, eps=0)
