"""Min-SGD: a step is that of the smallest loss."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from noisylabels_pl import SPL, MinSGD
from tests.core.filter_helpers import LR, Make, Plain, fit, problem


@pytest.mark.parametrize("method", [MinSGD(), SPL(1.0)], ids=["min_sgd", "spl"])
def test_a_step_is_that_of_the_smallest_loss(method: Any, make_trainer: Make) -> None:
    torch.manual_seed(0)
    module = Plain()
    x, y = problem("ce")
    net = deepcopy(module.net)
    fit(module, [method], (x[:20], y[:20]), make_trainer, max_epochs=1)
    losses = F.cross_entropy(net(x[:20]), y[:20], reduction="none")
    losses.min().backward()
    for after, before in zip(module.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(after, before - LR * before.grad)


def test_it_has_no_other_forget_rate() -> None:
    with pytest.raises(TypeError, match="forget_rate"):
        MinSGD(forget_rate=0.5)  # type: ignore[call-arg]
