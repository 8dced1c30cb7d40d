"""The forward and backward corrections, against the theorems of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional import (
    backward_correction,
    forward_correction,
    invert_transition_matrix,
    observed_log_probs,
    transition_matrix,
)
from tests.functional.helpers import batch, noise, simplex

few = settings(derandomize=True, max_examples=25, deadline=None)
shapes = (st.integers(1, 9), st.integers(2, 7), st.integers(0, 10**6))
Correction = Callable[..., Tensor]
corrections = pytest.mark.parametrize("correct", [forward_correction, backward_correction])


def gce(log_probs: Tensor) -> Tensor:
    return (1 - (0.7 * log_probs).exp()) / 0.7


BASES: tuple[Any, ...] = ("ce", "square", gce)
bases = pytest.mark.parametrize("base", BASES)


def loss_of_each_label(base: Any, p: Tensor) -> Tensor:
    """A restatement of the base losses: (B, C)."""
    if base == "ce":
        return -p.log()
    if base == "square":
        return ((p[:, None] - torch.eye(p.shape[1], dtype=p.dtype)) ** 2).sum(2)
    return base(p.log())


def every_label(correct: Correction, logits: Tensor, T: Tensor, **options: Any) -> Tensor:
    """(B, C): the corrected loss of each label that could be observed."""
    rows, classes = logits.shape
    return torch.stack([correct(logits, torch.full((rows,), k), T, **options) for k in range(classes)], 1)


@corrections
@pytest.mark.parametrize("scale", [2.0, 1e4])
def test_without_noise_both_are_the_cross_entropy(correct: Correction, scale: float) -> None:
    logits, target = batch(9, 5, scale=scale)
    logits.requires_grad_()
    both = correct(logits, target, torch.eye(5)), F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(*both, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in both]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@few
@given(*shapes)
def test_forward_is_the_base_loss_of_what_is_expected_to_be_observed(rows: int, classes: int, seed: int) -> None:
    (logits, target), T = batch(rows, classes, seed), noise(classes, seed)
    p = logits.softmax(1)
    for base in BASES:
        expected = loss_of_each_label(base, p @ T)[torch.arange(rows), target]
        torch.testing.assert_close(forward_correction(logits, target, T, base=base), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(observed_log_probs(logits, T), (p @ T).log(), rtol=1e-10, atol=1e-12)


@few
@given(*shapes, st.sampled_from([0.0, 0.3, 0.9]))
def test_theorem_1_backward_weights_losses_by_the_inverse_and_is_unbiased(
    rows: int, classes: int, seed: int, mix: float
) -> None:
    (logits, target), T = batch(rows, classes, seed), noise(classes, seed)
    mixed = (1 - mix) * T + mix * torch.eye(classes, dtype=torch.float64)
    inverse = torch.linalg.inv(mixed)
    torch.testing.assert_close(invert_transition_matrix(T, mix=mix), inverse, rtol=1e-9, atol=1e-11)
    for base in BASES:
        losses = loss_of_each_label(base, logits.softmax(1))
        expected = torch.stack([inverse[y] @ loss for loss, y in zip(losses, target, strict=True)])
        got = backward_correction(logits, target, T, mix=mix, base=base)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
        corrected = every_label(backward_correction, logits, T, mix=mix, base=base)
        torch.testing.assert_close(corrected @ mixed.T, losses, rtol=1e-9, atol=1e-10)


@corrections
@pytest.mark.parametrize("base", ["ce", "square"])
def test_theorem_2_the_minimizer_is_that_of_clean_labels(correct: Correction, base: str) -> None:
    posteriors, T = simplex(6, 4), noise(4, keep=0.3)

    def minimizer(labels: Tensor, matrix: Tensor) -> Tensor:
        logits = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
        search = {"max_iter": 500, "tolerance_grad": 1e-11, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
        optimizer = torch.optim.LBFGS([logits], **search)

        def expected_loss() -> Tensor:
            loss = (labels * every_label(correct, logits, matrix, base=base)).sum()
            (logits.grad,) = torch.autograd.grad(loss, logits)
            return loss

        optimizer.step(expected_loss)
        return logits.detach().softmax(1)

    torch.testing.assert_close(minimizer(posteriors, torch.eye(4)), posteriors, rtol=0, atol=1e-5)
    torch.testing.assert_close(minimizer(posteriors @ T, T), posteriors, rtol=0, atol=1e-5)
    assert (minimizer(posteriors @ T, torch.eye(4)) - posteriors).abs().max() > 0.1


@corrections
@bases
def test_gradcheck(correct: Correction, base: Any) -> None:
    (logits, target), T = batch(4, 3, scale=1.0), noise(3)
    assert torch.autograd.gradcheck(lambda z: correct(z, target, T, base=base), logits.requires_grad_())


def test_theorem_4_noise_leaves_the_curvature_of_each_relu_layer() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(32, generator=generator, dtype=torch.float64)
    assert (x @ weights[:12].view(3, 4)).abs().min() > 1e-3  # away from kinks
    clean, T, other, identity = simplex(7, 5), noise(5), noise(5, 1), torch.eye(5)

    def hessian(labels: Tensor, correct: Correction, matrix: Tensor) -> Tensor:
        def expected_loss(w: Tensor) -> Tensor:
            logits = (x @ w[:12].view(3, 4)).relu() @ w[12:].view(4, 5)
            return (labels * every_label(correct, logits, matrix)).sum(1).mean()

        return torch.autograd.functional.hessian(expected_loss, weights)

    plain = hessian(clean, backward_correction, identity)
    uncorrected, backward, wrong = (hessian(clean @ T, backward_correction, used) for used in (identity, T, other))
    forward = hessian(clean @ T, forward_correction, T)
    torch.testing.assert_close(backward, plain, rtol=1e-9, atol=1e-11)  # by theorem 1
    for layer in (slice(0, 12), slice(12, 32)):
        for same in (uncorrected, wrong):  # "for any T"
            torch.testing.assert_close(same[layer, layer], plain[layer, layer], rtol=1e-9, atol=1e-11)
        assert (forward - plain)[layer, layer].abs().max() > 1e-3  # table 1: no guarantee
    for differs in (uncorrected, wrong):  # the logits are bilinear in two layers
        assert (differs - plain)[:12, 12:].abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_forward_stays_finite_where_probabilities_underflow(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    T = noise(3)
    losses = forward_correction(logits, torch.tensor([1, 0]), T)
    losses.sum().backward()
    expected = -torch.stack([T[0, 1], T[1:, 0].mean()]).log()
    torch.testing.assert_close(losses.detach().double(), expected, rtol=1e-5, atol=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@corrections
@bases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_half_types_are_promoted_and_others_stay(correct: Correction, base: Any, dtype: torch.dtype) -> None:
    (logits, target), T = batch(8, 5), noise(5)
    rounded = logits.to(dtype)
    for matrix in (T, T.float()):
        got = correct(rounded, target, matrix, base=base)
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(got.double(), correct(rounded.double(), target, T, base=base), rtol=2e-5, atol=2e-6)
        assert observed_log_probs(rounded, matrix).dtype == got.dtype


def test_invalid_arguments_are_refused() -> None:
    logits, target = batch(4, 3)
    T = noise(3)
    for correct in (forward_correction, backward_correction):
        for shape in ((3, 4), (4, 4), (3,), (2, 2)):
            with pytest.raises(ValueError, match=r"\bT\b"):
                correct(logits, target, torch.full(shape, 1 / shape[-1]))
        with pytest.raises(ValueError, match=r"T\[1\].*sum"):
            correct(logits, target, T * torch.tensor([[1.0], [1.1], [1.0]]))
        with pytest.raises(ValueError, match=r"(?=.*base)(?=.*hinge)(?=.*ce)(?=.*square)"):
            correct(logits, target, T, base="hinge")
    never = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.3, 0.7, 0.0]])
    with pytest.raises(ValueError, match=r"\b2\b"):
        forward_correction(logits, target, never)
    logits, target = batch(4, 10)
    for call in (invert_transition_matrix, lambda T, mix: backward_correction(logits, target, T, mix=mix)):
        for mix in (-0.1, 1.0, 1.5, math.nan):
            with pytest.raises(ValueError, match=r"\bmix\b"):
                call(torch.eye(10), mix=mix)
        for T in (torch.full((10, 10), 0.1), transition_matrix("sym", 10, 0.9)):
            with pytest.raises(ValueError, match=r"(?=.*condition number)(?=.*\bmix\b)"):
                call(T, mix=0.0)
            assert call(T, mix=0.1).isfinite().all()
        assert call(transition_matrix("sym", 10, 0.89), mix=0.0).isfinite().all()
