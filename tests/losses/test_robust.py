"""Robust losses as criteria."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from noisylabels_pl import GCELoss
from noisylabels_pl.functional import generalized_cross_entropy


def batch(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def test_the_default_exponent_is_that_of_the_paper() -> None:
    logits, target = batch(5, 4, 0)
    expected = (1 - logits.softmax(1)[torch.arange(5), target] ** 0.7) / 0.7
    torch.testing.assert_close(GCELoss()(logits, target), expected.mean())


def test_it_reduces_the_kernel() -> None:
    logits, target = batch(6, 4, 3)
    losses = generalized_cross_entropy(logits, target, 0.4)
    for reduction, expected in {"none": losses, "mean": losses.mean(), "sum": losses.sum()}.items():
        torch.testing.assert_close(GCELoss(0.4, reduction=reduction)(logits, target), expected)
    assert not nn.Sequential(GCELoss()).state_dict()


@pytest.mark.parametrize("q", [0, -0.5, 1.5])
def test_exponents_outside_the_papers_range_are_refused(q: float) -> None:
    with pytest.raises(ValueError, match=rf"q must lie in \(0, 1\], got {re.escape(str(q))}; its limit 0 is torch"):
        GCELoss(q)


@pytest.mark.parametrize("reduction", ["average", "", "Mean"])
def test_other_reductions_are_refused_with_the_choices(reduction: str) -> None:
    names = "".join(f"(?=.*{word})" for word in ("reduction", re.escape(repr(reduction)), "none", "mean", "sum"))
    with pytest.raises(ValueError, match=names):
        GCELoss(reduction=reduction)  # type: ignore[arg-type]


def test_it_works_under_autocast() -> None:
    torch.manual_seed(0)
    layer, criterion, target = nn.Linear(5, 3), GCELoss(), torch.tensor([0, 2, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(torch.randn(4, 5))
        loss = criterion(logits, target)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, GCELoss()(logits.float(), target))
    loss.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0
