"""The smallest methods of the mechanisms that no file of ``conf/method`` uses yet."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.core import Artifacts, CriterionCallback, Stage, StagedMethod, TwinModule, score, training_loader
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import selected_mean


class Table(CriterionCallback):
    """Keeps the network near the running average of what it said of each sample."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.averages = self.tables.add("averages")

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        probs = logits.float().softmax(1)
        old = self.averages.read(batch.index, probs)
        self.averages.write(batch.index, self.beta * old + (1 - self.beta) * probs)
        return losses + (probs - self.averages.read(batch.index, probs)).square().sum(1)


class Twin(TwinModule):
    """Each network learns the less of a sample, the more it has cost the other, and nothing of what costs a lot."""

    def __init__(self, *args: Any, beta: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.beta = beta
        self.costs = self.tables.add("costs")

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x, y = batch
        first, second = (F.cross_entropy(net(x), y, reduction="none") for net in (self.net.first, self.net.second))
        costs = torch.stack([first, second], 1).detach().float()
        costs = self.beta * self.costs.read(batch.index, costs) + (1 - self.beta) * costs
        self.costs.write(batch.index, costs)
        first, second = first * (-costs[:, 1]).exp(), second * (-costs[:, 0]).exp()
        return selected_mean(first, costs[:, 1] < 100), selected_mean(second, costs[:, 0] < 100)


class Prior(nn.Module):
    """Cross-entropy of logits that a prior shifts."""

    def __init__(self, prior: Tensor) -> None:
        super().__init__()
        self.register_buffer("prior", prior)
        self.reduction = "mean"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits + self.prior, target, reduction=self.reduction)


class Stages(StagedMethod):
    """Trains twice; the second time with what the first network took each class for."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def stages(self) -> list[Stage]:
        return [
            Stage("first", lambda artifacts: nn.CrossEntropyLoss(), self.prior, max_epochs=self.epochs),
            Stage("second", lambda artifacts: Prior(artifacts["prior"])),
        ]

    @staticmethod
    def prior(trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
        scores = score(trainer, module, training_loader(trainer))
        return {"prior": scores.logits.argmax(1).bincount(minlength=10).add(1).double().log().float()}
