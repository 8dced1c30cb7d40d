"""What holds for every criterion: reductions, refusals, autocast, and no state."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl import (
    ANLCELoss,
    GCELoss,
    HardBootstrapLoss,
    LabelSmoothingLoss,
    LDMILoss,
    LogitClip,
    MAELoss,
    NCERCELoss,
    RampLoss,
    SavageLoss,
    SCELoss,
    SigmoidLoss,
    SoftBootstrapLoss,
    UnhingedLoss,
)
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


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, reduction="none")


def active_plus_passive(logits: Tensor, target: Tensor) -> Tensor:
    return 5 * normalized_cross_entropy(logits, target) + 5 * normalized_negative_cross_entropy(logits, target)


# Each criterion, by the formula of its defaults.
EXPECTED: dict[type[nn.Module], Callable[[Tensor, Tensor], Tensor]] = {
    MAELoss: mean_absolute_error,
    GCELoss: generalized_cross_entropy,
    SCELoss: lambda z, y: 0.1 * cross_entropy(z, y) + reverse_cross_entropy(z, y),
    NCERCELoss: lambda z, y: normalized_cross_entropy(z, y) + reverse_cross_entropy(z, y),
    ANLCELoss: active_plus_passive,
    UnhingedLoss: unhinged_loss,
    SigmoidLoss: sigmoid_loss,
    RampLoss: ramp_loss,
    SavageLoss: savage_loss,
    SoftBootstrapLoss: lambda z, y: soft_bootstrap(z, y, 0.95),
    HardBootstrapLoss: lambda z, y: hard_bootstrap(z, y, 0.8),
    LabelSmoothingLoss: lambda z, y: F.cross_entropy(z, y, reduction="none", label_smoothing=0.1),
    LogitClip: lambda z, y: cross_entropy(clip_logits(z, 1.5), y),
    LDMILoss: lambda z, y: dmi_loss(z, y).expand(len(y)),
}
every_loss = pytest.mark.parametrize("loss", EXPECTED)


@every_loss
def test_it_reduces_its_kernel(loss: type[nn.Module]) -> None:
    logits, target = batch(12, 4, 3)
    losses = EXPECTED[loss](logits, target)
    for reduction, expected in {"none": losses, "mean": losses.mean(), "sum": losses.sum()}.items():
        torch.testing.assert_close(loss(reduction=reduction)(logits, target), expected)
    torch.testing.assert_close(loss()(logits, target), losses.mean())
    assert not nn.Sequential(loss()).state_dict()


@pytest.mark.parametrize("loss", [loss for loss in EXPECTED if loss is not LogitClip])
def test_other_reductions_are_refused(loss: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="reduction must be one of none, mean, sum, got 'average'"):
        loss(reduction="average")


@every_loss
def test_it_works_under_autocast(loss: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer, criterion, target = nn.Linear(5, 3), loss(), torch.tensor([0, 2, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(torch.randn(4, 5))
        value = criterion(logits, target)
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, criterion(logits.float(), target))
    value.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCELoss(alpha=-1), "alpha must not be negative, got -1"),
        (lambda: SCELoss(A=4), "A must lie in (-inf, 0), got 4; it stands for log 0"),
        (lambda: NCERCELoss(beta=-0.5), "beta must not be negative, got -0.5"),
        (lambda: ANLCELoss(p_min=1), "p_min must lie in (0, 1), got 1; 1e-7 is usual"),
        (lambda: SoftBootstrapLoss(beta=2), "beta must lie in [0, 1], got 2"),
        (lambda: HardBootstrapLoss(beta=-1), "beta must lie in [0, 1], got -1"),
        (lambda: LabelSmoothingLoss(1.5), "smoothing must lie in [0, 1], got 1.5"),
        (lambda: LDMILoss(eps=0), "eps must be positive, got 0"),
        (lambda: LogitClip(tau=0), "tau must lie in (0, inf], got 0"),
        (lambda: LogitClip(clipped_norm=0), "clipped_norm must be positive, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_without_smoothing_it_is_cross_entropy() -> None:
    logits, target = batch(6, 4, 0)
    torch.testing.assert_close(LabelSmoothingLoss(0.0)(logits, target), F.cross_entropy(logits, target))


@pytest.mark.parametrize("make", [nn.CrossEntropyLoss, GCELoss, MAELoss, LabelSmoothingLoss])
def test_an_infinite_threshold_is_the_loss_inside(make: Callable[[], nn.Module]) -> None:
    logits, target = batch(6, 4, 0)
    torch.testing.assert_close(LogitClip(make(), tau=math.inf)(logits, target), make()(logits, target))


def test_the_reduction_of_a_clipped_loss_is_that_of_the_loss_inside() -> None:
    inside = GCELoss(reduction="sum")
    clipped = LogitClip(inside)
    assert clipped.reduction == "sum"
    clipped.reduction = "none"
    assert inside.reduction == "none"
    logits, target = batch(6, 4, 0)
    assert clipped(logits, target).shape == (6,)
    with pytest.raises(TypeError, match=r"loss must be a module with a reduction, such as LogitClip\(GCELoss\(\)\)"):
        LogitClip(nn.Identity())
