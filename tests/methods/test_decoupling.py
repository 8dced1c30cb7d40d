"""Decoupling: who is trained, and that equal networks never change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl import Decoupling
from noisylabels_pl.nets import mlp

Make = Callable[..., Any]
SGD = partial(torch.optim.SGD, lr=0.1)


def make_pair() -> Decoupling:
    torch.manual_seed(0)
    return Decoupling(partial(mlp, (1, 8, 8), 10, hidden=(32,)), 10, SGD)


class Batches(L.Callback):
    """Keeps the batches as the step sees them, and the samples that it keeps."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Any]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.seen.append((batch.x, batch.y, batch.kept))


def test_equal_networks_never_change(digits: Make, make_trainer: Make) -> None:
    pair = make_pair()
    pair.net.second.load_state_dict(pair.net.first.state_dict())
    before = deepcopy(pair.state_dict())
    make_trainer(max_epochs=2).fit(pair, datamodule=digits())
    for name, value in pair.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_fit_is_that_of_a_loop(digits: Make, make_trainer: Make) -> None:
    pair, batches = make_pair(), Batches()
    nets = deepcopy([pair.net.first, pair.net.second])
    make_trainer(batches, max_epochs=4).fit(pair, datamodule=digits())
    optimizers = [SGD(net.parameters()) for net in nets]
    for x, y, kept in batches.seen:
        outputs = [net(x) for net in nets]
        disagrees = outputs[0].argmax(1) != outputs[1].argmax(1)
        assert torch.equal(kept[0], disagrees)
        assert torch.equal(kept[1], disagrees)
        if not disagrees.any():
            continue
        for output, optimizer in zip(outputs, optimizers, strict=True):
            optimizer.zero_grad()
            (F.cross_entropy(output[disagrees], y[disagrees], reduction="sum") / len(y)).backward()
            optimizer.step()
    for net, trained in zip(nets, (pair.net.first, pair.net.second), strict=True):
        for expected, own in zip(net.parameters(), trained.parameters(), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
