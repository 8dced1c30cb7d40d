"""Sparse over-parameterization: its formula and the gradients of its variables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional import sop_gradients, sop_losses
from noisylabels_pl.functional.losses.sparse import EPS


def restated(logits: Tensor, target: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Autograd through all variables; t is a constant in the first term."""
    y = F.one_hot(target, logits.shape[1]).to(logits.dtype)
    s, t = (u**2 * y).clamp(0, 1), (v**2 * (1 - y)).clamp(0, 1)
    p = logits.softmax(1)
    h = F.one_hot(p.argmax(1), logits.shape[1]).to(logits.dtype)
    q = F.normalize((p + s - t.detach()).clamp(min=EPS), p=1, dim=1)
    return -(y * q.log()).sum(1) + (h + s - t - y).square().sum(1)


def inputs(scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    u = scale * torch.randn(40, 1, generator=generator, dtype=torch.float64)
    v = scale * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    return logits, torch.arange(40) % 5, u, v


@pytest.mark.parametrize("scale", [1e-8, 0.5, 2.0])
def test_against_autograd(scale: float) -> None:
    logits, target, u, v = inputs(scale)
    expected_by = [value.clone().requires_grad_() for value in (logits, u, v)]
    expected = restated(expected_by[0], target, *expected_by[1:])
    expected.sum().backward()
    logits.requires_grad_()
    losses = sop_losses(logits.softmax(1), target, u, v)
    losses.sum().backward()
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(logits.grad, expected_by[0].grad)
    for own, other in zip(sop_gradients(logits.softmax(1), target, u, v), expected_by[1:], strict=True):
        torch.testing.assert_close(own, other.grad)


def test_without_variables_it_is_cross_entropy() -> None:
    logits, target, _, _ = inputs(1.0)
    logits = (logits / 4).requires_grad_()  # all probabilities are above eps
    probs = logits.softmax(1)
    assert float(probs.min()) > EPS
    losses = sop_losses(probs, target, torch.zeros(40, 1), torch.zeros(40, 5))
    cross_entropy = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(losses, cross_entropy + 2 * (probs.argmax(1) != target))
    (own,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
    (other,) = torch.autograd.grad(cross_entropy.sum(), logits)
    torch.testing.assert_close(own, other)
