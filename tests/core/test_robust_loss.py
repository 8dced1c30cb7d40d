"""Any robust loss as a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from noisylabels_pl import GCELoss, RobustLoss
from tests.core.combined import fit, same_weights
from tests.helpers import WithCriterion

Make = Callable[..., Any]


def test_a_robust_loss_needs_no_positions(make_trainer: Make) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(x[i], y[i]) for i in range(len(y))])

    x, y = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    modules = []
    for loader in (DataLoader(Stream(), batch_size=16), DataLoader(TensorDataset(x, y), batch_size=16)):
        torch.manual_seed(0)
        modules.append(WithCriterion())
        make_trainer(RobustLoss(GCELoss()), max_epochs=2).fit(modules[-1], loader)
    assert same_weights(modules)
    for _, loss, cross_entropy in modules[0].losses:
        assert loss < cross_entropy


def test_a_robust_loss_equals_the_same_loss_as_criterion(digits: Make, make_trainer: Make) -> None:
    class Own(WithCriterion):
        def __init__(self) -> None:
            super().__init__()
            self.criterion = GCELoss(q=0.5)

    modules = [
        fit(digits, make_trainer, RobustLoss(GCELoss(q=0.5))),
        fit(digits, make_trainer, module=Own),
    ]
    for name, value in modules[0].state_dict().items():
        torch.testing.assert_close(value, modules[1].state_dict()[name])


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.scale * F.cross_entropy(logits, target, reduction="none")


class Counts(nn.Module):
    """A loss with a buffer that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(logits, target, reduction="none")


def test_state_of_a_loss(digits: Make, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match=r"Learned has trainable parameters.*self.criterion = loss"):
        RobustLoss(Learned())
    callback = RobustLoss(Counts())
    fit(digits, make_trainer, callback)
    other = RobustLoss(Counts())
    other.load_state_dict(callback.state_dict())
    assert other.loss.calls == callback.loss.calls > 0
