"""Clipping the gradient of a step, and of each sample."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import IndividualClip, NormClip
from tests.helpers import WithCriterion

Make = Callable[..., Any]


class Plain(WithCriterion):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def step(make_trainer: Make, *callbacks: Any, **options: Any) -> tuple[nn.Module, list[torch.Tensor]]:
    """The network before, and what one step subtracted from its parameters."""
    torch.manual_seed(0)
    module, loader = Plain(), DataLoader(TensorDataset(*DATA), batch_size=16)
    net = deepcopy(module.net)
    make_trainer(*callbacks, max_epochs=1, **options).fit(module, loader)
    return net, [b.detach() - a.detach() for b, a in zip(net.parameters(), module.net.parameters(), strict=True)]


DATA = torch.randn(16, 64, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 10


def grads(net: nn.Module, rows: slice = slice(None)) -> list[torch.Tensor]:
    loss = F.cross_entropy(net(DATA[0][rows]), DATA[1][rows])
    return list(torch.autograd.grad(loss, list(net.parameters())))


def length(parts: list[torch.Tensor]) -> float:
    return float(torch.cat([part.flatten() for part in parts]).norm())


def test_the_step_is_clipped_as_the_trainer_does(make_trainer: Make) -> None:
    _, taken = step(make_trainer, NormClip(0.3))
    assert length(taken) == pytest.approx(0.3, rel=1e-4)
    _, trainers = step(make_trainer, gradient_clip_val=0.3)
    torch.testing.assert_close(taken, trainers)
    net, unclipped = step(make_trainer, NormClip(1e6))
    torch.testing.assert_close(unclipped, grads(net), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_norm", [0.5, 4.0])
def test_each_sample_is_clipped(max_norm: float, make_trainer: Make) -> None:
    net, taken = step(make_trainer, IndividualClip(max_norm))
    singles = [grads(net, slice(i, i + 1)) for i in range(16)]
    factors = [min(1.0, max_norm / length(single)) for single in singles]
    assert min(factors) < 1
    assert max_norm < 1 or max(factors) == 1  # some are clipped, some are not
    expected = [
        torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).mean(0)
        for parts in zip(*singles, strict=True)
    ]
    torch.testing.assert_close(taken, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [NormClip, IndividualClip])
def test_a_norm_must_be_positive(method: Any) -> None:
    with pytest.raises(ValueError, match=r"max_norm must lie in \(0, inf\], got 0"):
        method(0)
