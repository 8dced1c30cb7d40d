"""Losses corrected by a transition matrix, as criteria."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noisylabels_pl import BackwardCorrectionLoss, ForwardCorrectionLoss
from noisylabels_pl.functional import backward_correction, forward_correction, transition_matrix

PAIRFLIP = transition_matrix("pairflip", 10, 0.3)


@pytest.mark.parametrize(
    ("criterion", "kernel"),
    [(ForwardCorrectionLoss, forward_correction), (BackwardCorrectionLoss, backward_correction)],
)
@pytest.mark.parametrize("base", ["ce", "square"])
def test_they_reduce_the_kernels(criterion: Any, kernel: Any, base: str) -> None:
    logits, target = torch.randn(9, 10, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    losses = kernel(logits, target, PAIRFLIP, base=base)
    for reduction, expected in {"none": losses, "mean": losses.mean(), "sum": losses.sum()}.items():
        torch.testing.assert_close(criterion(PAIRFLIP, base=base, reduction=reduction)(logits, target), expected)


@pytest.mark.parametrize("criterion", [ForwardCorrectionLoss, BackwardCorrectionLoss])
def test_unknown_choices(criterion: Any) -> None:
    with pytest.raises(ValueError, match="reduction must be one of none, mean, sum, got 'average'"):
        criterion(PAIRFLIP, reduction="average")
    with pytest.raises(ValueError, match="base must be one of ce, square, got 'mae'"):
        criterion(PAIRFLIP, base="mae")


def test_backward_has_a_lower_bound_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    T = torch.tensor([[0.51, 0.49], [0.49, 0.51]])
    loss = BackwardCorrectionLoss(T)
    assert "condition number 50" not in caplog.text
    BackwardCorrectionLoss(torch.tensor([[0.501, 0.499], [0.499, 0.501]]))
    assert "condition number 500; mix the identity in" in caplog.text
    values = [float(loss(torch.tensor([[0.0, scale]]), torch.tensor([1]))) for scale in (1e2, 1e4)]
    assert values[0] == values[1] < -300  # 25 times log 1e-7


def test_T_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="label 1 is never observed"):
        ForwardCorrectionLoss([[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="condition number"):
        BackwardCorrectionLoss([[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match=r"T\[0\] must sum to 1"):
        ForwardCorrectionLoss([[0.5, 0.4], [0.0, 1.0]])


def test_T_of_another_number_of_classes() -> None:
    for loss in (ForwardCorrectionLoss(torch.eye(9)), BackwardCorrectionLoss(torch.eye(9))):
        with pytest.raises(ValueError, match="T has 9 classes, but the network 10; give a T of as many"):
            loss(torch.zeros(2, 10), torch.tensor([9, 0]))


def test_half_precision_does_not_round_T() -> None:
    for loss in (ForwardCorrectionLoss(PAIRFLIP), BackwardCorrectionLoss(PAIRFLIP)):
        logits, target = torch.zeros(10, 10), torch.arange(10)
        expected = loss(logits, target)
        assert torch.equal(loss.bfloat16()(logits, target), expected)
        assert not loss.state_dict()


@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.01])
def test_the_clip_of_probabilities(eps: float) -> None:
    """Restated in probabilities, as in the public code; beyond the clip the gradient is 0."""
    logits = torch.tensor([[0.0, 30.0, -30.0], [0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([2, 0])
    T = transition_matrix("asym", 3, 0.4, mapping={1: 2})
    p = logits.softmax(1).clamp(eps, 1 - eps)
    forward = ForwardCorrectionLoss(T, eps=eps)
    torch.testing.assert_close(forward(logits, target), -(p @ T).log()[[0, 1], target].mean(), atol=1e-6, rtol=1e-6)
    if eps:
        backward = BackwardCorrectionLoss(T, eps=eps)
        expected = -(torch.linalg.inv(T)[target] * p.log()).sum(1).mean()
        torch.testing.assert_close(backward(logits, target), expected, atol=1e-6, rtol=1e-6)
        gradient = torch.autograd.grad(forward(logits, target), logits)[0]
        assert not gradient[0].any()
        assert gradient[1].any()


def test_a_clip_that_cannot_be() -> None:
    for criterion in (ForwardCorrectionLoss, BackwardCorrectionLoss):
        with pytest.raises(ValueError, match=r"eps must lie in \[0, 0\.5\), got 0\.5"):
            criterion(PAIRFLIP, eps=0.5)
