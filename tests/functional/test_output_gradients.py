"""Closed forms of gradients at the output of a network, against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from noisylabels_pl.functional import logit_gradient, loss_layer_gradient_norm
from tests.functional.helpers import batch

few = settings(derandomize=True, max_examples=50, deadline=None)


# --- logit_gradient ---


def test_logit_gradient_by_hand() -> None:
    # softmax(log 1, log 2, log 5) = 1/8, 2/8, 5/8, and every class once as the target.
    logits = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).log().expand(3, 3)
    got = logit_gradient(logits, torch.tensor([0, 1, 2]))
    expected = torch.tensor([[-7.0, 2.0, 5.0], [1.0, -6.0, 5.0], [1.0, 2.0, -3.0]], dtype=torch.float64) / 8
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-15)


@few
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]))
def test_logit_gradient_equals_autograd_of_the_summed_cross_entropy(
    rows: int, classes: int, seed: int, scale: float
) -> None:
    logits, target = batch(rows, classes, seed, scale)
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(leaf, target, reduction="sum"), leaf)
    torch.testing.assert_close(logit_gradient(logits, target), expected, rtol=1e-12, atol=1e-14)


@few
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6), st.floats(-50, 50))
def test_shifted_logits_and_log_probabilities_have_the_same_gradient(
    rows: int, classes: int, seed: int, shift: float
) -> None:
    logits, target = batch(rows, classes, seed, 3.0)
    expected = logit_gradient(logits, target)
    torch.testing.assert_close(logit_gradient(logits + shift, target), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logit_gradient(logits.log_softmax(1), target), expected, rtol=1e-10, atol=1e-12)
    assert expected.sum(1).abs().max() < 1e-13
    at_label = expected.gather(1, target[:, None])
    assert (at_label <= 0).all()
    assert (expected.scatter(1, target[:, None], 0.0) >= 0).all()


def test_rows_do_not_see_each_other() -> None:
    # Per sample and not divided by the batch size: CRUST compares rows of different batches.
    logits, target = batch(16, 5, 0, scale=1.0)
    whole = logit_gradient(logits, target)
    for i in range(16):
        torch.testing.assert_close(logit_gradient(logits[i : i + 1], target[i : i + 1])[0], whole[i])


def test_logit_gradient_times_the_head_is_the_gradient_of_its_input() -> None:
    generator = torch.Generator().manual_seed(1)
    head = torch.nn.Linear(6, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = torch.randn(11, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 4, (11,), generator=generator)
    logits = head(features)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), features)
    got = logit_gradient(logits.detach(), target) @ head.weight.detach()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logit_gradient_of_half_types_is_float32(dtype: torch.dtype) -> None:
    logits, target = batch(8, 10, 2, 4.0)
    low = logits.to(dtype)
    got = logit_gradient(low, target)
    assert got.dtype == torch.float32
    # The rounding of the input is the only one: against float64 on the same rounded logits.
    torch.testing.assert_close(got.double(), logit_gradient(low.double(), target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logit_gradient_keeps_other_types(dtype: torch.dtype) -> None:
    logits, target = batch(8, 10, 3, scale=1.0)
    assert logit_gradient(logits.to(dtype), target).dtype == dtype


def test_autocast_does_not_change_the_logit_gradient() -> None:
    logits, target = batch(8, 10, 4, scale=1.0)
    plain = logit_gradient(logits.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = logit_gradient(logits.float(), target)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)


def test_extreme_logits_have_finite_gradients() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-math.inf, 0.0, 0.0]])
    got = logit_gradient(logits, torch.tensor([0, 1, 2]))
    assert torch.equal(got, torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.5, -0.5]]))


def test_inputs_are_left_alone() -> None:
    logits, target = batch(8, 10, 5, scale=1.0)
    before, labels = logits.clone(), target.clone()
    got = logit_gradient(logits, target)
    got.detach().zero_()  # nor may the result share memory with them
    assert torch.equal(logits, before)
    assert torch.equal(target, labels)


# --- loss_layer_gradient_norm ---


@few
@given(st.integers(1, 9), st.integers(2, 7), st.integers(0, 10**6), st.sampled_from([0.1, 2.0, 20.0]))
def test_cross_entropy_scores_are_norms_of_autograd(rows: int, classes: int, seed: int, scale: float) -> None:
    logits, target = batch(rows, classes, seed, scale)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), logits)
    scores = loss_layer_gradient_norm(logits, target, "ce").detach()
    assert scores.shape == (rows,)
    torch.testing.assert_close(scores, gradient.norm(dim=1), rtol=1e-6, atol=1e-12)
    p = logits.detach().softmax(1)
    expected = p.square().sum(1) - 2 * p[torch.arange(rows), target] + 1
    torch.testing.assert_close(scores.square(), expected, rtol=1e-9, atol=1e-12)
    assert ((scores >= 0) & (scores <= math.sqrt(2) * (1 + 1e-12))).all()


def test_cross_entropy_is_the_default() -> None:
    logits, target = batch(9, 5)
    assert torch.equal(loss_layer_gradient_norm(logits, target), loss_layer_gradient_norm(logits, target, loss="ce"))


@few
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6))
def test_squared_error_scores_are_norms_of_autograd(rows: int, q: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    output, target = torch.randn(2, rows, q, generator=generator, dtype=torch.float64)
    output.requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * (output - target).square().sum(), output)
    scores = loss_layer_gradient_norm(output, target, "mse").detach()
    assert scores.shape == (rows,)
    torch.testing.assert_close(scores, gradient.norm(dim=1))


def test_squared_error_of_single_numbers() -> None:
    output, target = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 1.0, 3.0])
    expected = torch.tensor([0.5, 3.0, 0.0])
    torch.testing.assert_close(loss_layer_gradient_norm(output, target, "mse"), expected)
    torch.testing.assert_close(loss_layer_gradient_norm(output[:, None], target[:, None], "mse"), expected)


def test_scores_at_the_extremes() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]])
    for y, expected in ((0, 0.0), (1, math.sqrt(2)), (2, math.sqrt(2))):
        scores = loss_layer_gradient_norm(logits, torch.tensor([y, y]))
        assert scores[0].item() == pytest.approx(expected, abs=1e-6)
        assert scores[1].item() == pytest.approx(math.sqrt(2 / 3), rel=1e-6)


@pytest.mark.parametrize("doubt", [1e-3, 1e-4, 1e-5])
def test_small_scores_of_confident_samples_are_not_lost_to_cancellation(doubt: float) -> None:
    logits = torch.tensor([[math.log((1 - doubt) / doubt), 0.0]])
    score = loss_layer_gradient_norm(logits, torch.tensor([0])).item()
    assert score == pytest.approx(math.sqrt(2) * doubt, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_of_half_types_are_float32_and_others_stay(dtype: torch.dtype) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    logits, target = batch(8, 5)
    logits = logits.to(dtype)
    scores = loss_layer_gradient_norm(logits, target)
    assert scores.dtype == wide
    torch.testing.assert_close(scores, loss_layer_gradient_norm(logits.to(wide), target))
    floats = batch(8, 5, seed=1)[0].to(dtype)
    scores = loss_layer_gradient_norm(logits, floats, "mse")
    assert scores.dtype == wide
    torch.testing.assert_close(scores, (logits.to(wide) - floats.to(wide)).norm(dim=1))


def test_outputs_of_autocast_against_targets_of_float32() -> None:
    output, target = batch(8, 5)[0].bfloat16(), batch(8, 5, seed=1)[0].float()
    scores = loss_layer_gradient_norm(output, target, "mse")
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, (output.float() - target).norm(dim=1))


@pytest.mark.parametrize("other", [(4,), (4, 2), (1, 3), (3, 4), (4, 3, 1)])
def test_squared_error_refuses_other_shapes(other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="target"):
        loss_layer_gradient_norm(torch.zeros(4, 3), torch.zeros(other), "mse")


def test_squared_error_does_not_broadcast_a_column() -> None:
    with pytest.raises(ValueError, match="target"):
        loss_layer_gradient_norm(torch.zeros(4, 1), torch.zeros(4), "mse")


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)\bloss\b.*\bce\b.*\bmse\b.*hinge"):
        loss_layer_gradient_norm(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), "hinge")  # type: ignore[arg-type]
