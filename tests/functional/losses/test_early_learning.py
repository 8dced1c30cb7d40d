"""Targets that follow the predictions, and the penalties for leaving them, against the paper of ELR and its code."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import noisylabels_pl
from noisylabels_pl.functional import elr_penalty, ema_targets, kl_penalty
from tests.functional.helpers import seeded
from tests.helpers import WithCriterion, foreign_loader

few = settings(derandomize=True, max_examples=25, deadline=None)
shapes = (st.integers(1, 9), st.integers(2, 7), st.integers(0, 10**6))


def batch(rows: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and targets that sum to less than 1."""
    generator = seeded(seed)
    logits, other = 2 * torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    return logits, other.softmax(1) * torch.rand(rows, 1, generator=generator, dtype=torch.float64)


@few
@given(*shapes, st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_targets_are_moving_averages(rows: int, classes: int, seed: int, beta: float) -> None:
    logits, targets = batch(rows, classes, seed)
    old, probs = targets.clone(), logits.requires_grad_().softmax(1)
    new = ema_targets(targets, probs, beta)
    torch.testing.assert_close(new, beta * old + (1 - beta) * probs.detach(), rtol=1e-14, atol=1e-15)
    assert not new.requires_grad
    assert torch.equal(targets, old)
    new.zero_()
    assert torch.equal(targets, old)
    assert probs.min() > 0


def test_targets_of_zero_ramp_up_by_themselves() -> None:
    probs = batch(5, 4)[0].softmax(1)
    targets = torch.zeros_like(probs)
    for visit in range(1, 6):
        targets = ema_targets(targets, probs, 0.7)
        torch.testing.assert_close(targets, (1 - 0.7**visit) * probs)
        torch.testing.assert_close(targets.sum(1), torch.full((5,), 1 - 0.7**visit, dtype=torch.float64))


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(ValueError, match=rf"\bbeta\b.*{beta}"):
        ema_targets(torch.zeros(2, 3), torch.full((2, 3), 1 / 3), beta)


def test_the_penalty_by_hand() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]], dtype=torch.float64)
    targets = torch.tensor([[0.6, 0.2, 0.2], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([math.log(0.6), math.log(0.6), 0.0], dtype=torch.float64)
    torch.testing.assert_close(elr_penalty(probs, targets), expected)


@few
@given(*shapes)
def test_lemma_2(rows: int, classes: int, seed: int) -> None:
    logits, targets = batch(rows, classes, seed)
    logits.requires_grad_()
    targets.requires_grad_()
    elr_penalty(logits.softmax(1), targets).sum().backward()
    p, t = logits.detach().softmax(1), targets.detach()
    expected = torch.empty_like(p)
    for i in range(rows):
        for c in range(classes):
            expected[i, c] = p[i, c] / (1 - p[i] @ t[i]) * ((t[i] - t[i, c]) * p[i]).sum()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-12)
    assert targets.grad is None


def test_the_clamp_restated() -> None:
    _, targets = batch(3, 4)
    rows = [[0.99999, 4e-6, 5e-6, 1e-6], [0.7, 0.2999, 5e-5, 5e-5], [0.4, 0.3, 0.2, 0.1]]
    probs = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    losses = elr_penalty(probs, targets, eps=1e-4)
    inner = (probs.detach().clamp(1e-4, 1 - 1e-4) * targets).sum(1, keepdim=True)
    torch.testing.assert_close(losses.detach(), (1 - inner).log()[:, 0])
    losses.sum().backward()
    free = (probs > 1e-4) & (probs < 1 - 1e-4)
    assert free.sum() == 6
    assert probs.grad is not None
    torch.testing.assert_close(probs.grad, torch.where(free, -targets / (1 - inner), 0.0))
    assert (probs.grad[~free] == 0).all()


@pytest.mark.parametrize("target_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_clamp_is_a_floor(dtype: torch.dtype, target_dtype: torch.dtype) -> None:
    one_hot = torch.eye(10)
    clamped = one_hot.clamp(1e-4, 1 - 1e-4)
    settled = clamped / clamped.sum(1, keepdim=True)  # the limit of the public code's targets
    probs = one_hot.to(dtype).requires_grad_()
    assert elr_penalty(probs, one_hot).isinf().all()
    for targets, floor in ((settled, math.log(1e-3)), (one_hot, math.log(1e-4))):
        targets = targets if targets is settled else targets.to(target_dtype)
        losses = elr_penalty(probs, targets, eps=1e-4)
        assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert ((losses > floor - 0.01) & (losses < floor + 0.01)).all()
        losses.sum().backward()
        assert probs.grad is not None
        assert (probs.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_half_types_are_promoted_and_others_stay(dtype: torch.dtype) -> None:
    logits, targets = (values.to(dtype) for values in batch(8, 5))
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    probs = logits.softmax(1)
    for penalty, given_ in ((elr_penalty, probs), (kl_penalty, logits)):
        got = penalty(given_, targets)
        assert got.dtype == wanted
        torch.testing.assert_close(got.double(), penalty(given_.double(), targets.double()), rtol=1e-5, atol=1e-6)


@few
@given(*shapes)
def test_the_divergence_from_normalized_targets(rows: int, classes: int, seed: int) -> None:
    logits, targets = batch(rows, classes, seed)
    targets[0, 0] = 0  # 0 log 0 is 0
    normalized = targets / targets.sum(1, keepdim=True)
    logits.requires_grad_()
    losses = kl_penalty(logits, targets)
    expected = F.kl_div(logits.log_softmax(1), normalized, reduction="none").sum(1)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    losses.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - normalized, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(kl_penalty(normalized.clamp(1e-300).log(), targets), torch.zeros_like(losses))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_sample_without_targets_has_no_divergence(scale: float) -> None:
    logits = scale * torch.tensor([[1.0, -1.0, 0.0], [1.0, -1.0, 0.0]])
    logits.requires_grad_()
    losses = kl_penalty(logits, torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.1, 0.1]]))
    losses.sum().backward()
    assert losses[0] == 0
    assert losses[1] > 0
    assert losses.isfinite().all()
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    expected = logits.detach()[1].softmax(0) - torch.tensor([0.5, 0.25, 0.25])
    torch.testing.assert_close(logits.grad[1], expected)


def test_the_callback_is_the_released_loss(digits: Callable[..., Any], make_trainer: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    module, lam, beta = WithCriterion(), 3.0, 0.7
    module.net[-1].weight.data *= 20  # sure from the start, so that both ends of the clamp matter
    restated = deepcopy(module)
    make_trainer(noisylabels_pl.ELR(lam=lam, beta=beta), max_epochs=3).fit(
        module, noisylabels_pl.indexed(foreign_loader(digits()))
    )
    optimizer, targets = restated.configure_optimizers(), torch.zeros(300, 10)
    got, expected, clamped = [], [], torch.zeros(2)
    for recorded, loss, _ in module.losses:
        (x, y), rows = recorded, recorded.index
        logits = restated(x)
        p = logits.softmax(1)
        clamped += torch.stack([(p < 1e-4).sum(), (p > 1 - 1e-4).sum()])
        p = p.clamp(1e-4, 1 - 1e-4)
        seen = p.detach()
        targets[rows] = beta * targets[rows] + (1 - beta) * seen / seen.sum(1, keepdim=True)
        reg = (1 - (p * targets[rows]).sum(1)).log().mean()
        total = F.cross_entropy(logits, y) + lam * reg
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        got.append(loss)
        expected.append(total.detach())
    visits = torch.cat([recorded.index for recorded, _, _ in module.losses]).bincount()
    assert (visits == 3).all()
    assert (clamped > 5).all()
    torch.testing.assert_close(torch.stack(got), torch.stack(expected), rtol=1e-6, atol=1e-6)
