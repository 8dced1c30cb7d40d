"""Bootstrapping: its limits, and what the gradient flows through."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from noisylabels_pl.functional import hard_bootstrap, soft_bootstrap
from tests.functional.helpers import batch


def test_a_weight_of_one_is_cross_entropy() -> None:
    logits, target = batch(6, 4, 0)
    entropy = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(soft_bootstrap(logits, target, 1.0), entropy)
    torch.testing.assert_close(hard_bootstrap(logits, target, 1.0), entropy)


def test_the_target_is_a_mixture() -> None:
    logits, target = batch(6, 4, 1)
    p, label = logits.softmax(1), F.one_hot(target, 4).double()
    for loss, prediction in ((soft_bootstrap, p), (hard_bootstrap, F.one_hot(logits.argmax(1), 4).double())):
        expected = -((0.7 * label + 0.3 * prediction) * p.log()).sum(1)
        torch.testing.assert_close(loss(logits, target, 0.7), expected)


def test_the_gradient_flows_through_predicted_probabilities_and_not_through_the_predicted_class() -> None:
    logits, target = batch(6, 4, 2)
    logits.requires_grad_()
    p = logits.softmax(1)
    (soft,) = torch.autograd.grad(soft_bootstrap(logits, target, 0.0).sum(), logits)
    (entropy,) = torch.autograd.grad(-(p * p.log()).sum(), logits)
    torch.testing.assert_close(soft, entropy)
    (hard,) = torch.autograd.grad(hard_bootstrap(logits, target, 0.0).sum(), logits)
    torch.testing.assert_close(hard, (p - F.one_hot(logits.argmax(1), 4)).detach())


@pytest.mark.parametrize("loss", [soft_bootstrap, hard_bootstrap])
def test_weights_out_of_range_are_refused(loss: object) -> None:
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\], got 1.5"):
        loss(*batch(2, 3, 0), 1.5)  # type: ignore[operator]
