"""Loops of your own: kernels and losses in Lightning Fabric, and in manual optimization (SAM).

Callbacks change the one loss of a training step. A loop that decides itself what a step is calls the functions.

    python examples/fabric_and_manual.py
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import GCELoss
from noisylabels_pl.functional import corrupt_labels, elr_penalty, ema_targets, transition_matrix


def digits_with_wrong_labels() -> tuple[TensorDataset, TensorDataset]:
    """Training samples with their positions, 40 % of them labeled wrongly, and test samples with true labels."""
    bunch = load_digits()
    x = torch.tensor(bunch.data / 16, dtype=torch.float32)
    y = torch.tensor(bunch.target)
    noisy = corrupt_labels(y, transition_matrix("sym", 10, 0.4), generator=torch.Generator().manual_seed(0))
    return TensorDataset(x[:1200], noisy[:1200], torch.arange(1200)), TensorDataset(x[1200:], y[1200:])


def make_network() -> nn.Module:
    """Return a network that is large enough to memorize wrong labels."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))


def train_with_fabric(train: TensorDataset, epochs: int, *, lam: float = 3.0, beta: float = 0.7) -> nn.Module:
    """Train by ELR in a Fabric loop; the targets are one row a sample."""
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(0)
    network = make_network()
    network, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9))
    loader = fabric.setup_dataloaders(DataLoader(train, batch_size=32, shuffle=True))
    targets = torch.zeros(len(train), 10, device=fabric.device)
    for _ in range(epochs):
        for x, y, index in loader:
            logits = network(x)
            probs = logits.softmax(1)
            targets[index] = ema_targets(targets[index], probs, beta)
            penalty = elr_penalty(probs, targets[index], eps=1e-4)
            loss = (F.cross_entropy(logits, y, reduction="none") + lam * penalty).mean()
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
    return network.module


class SharpnessAwareGCE(L.LightningModule):
    """Train by a robust loss with SAM: a gradient at the worst weights nearby, and a step from where it was."""

    def __init__(self, *, radius: float = 0.05) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = make_network()
        self.criterion = GCELoss(q=0.7)
        self.radius = radius

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y, _ = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.criterion(self.network(x), y))
        ascent = self._ascent()
        self._move(ascent, 1)
        optimizer.zero_grad()
        self.manual_backward(self.criterion(self.network(x), y))
        self._move(ascent, -1)
        optimizer.step()

    def _ascent(self) -> list[Tensor]:
        gradients = [parameter.grad.clone() for parameter in self.parameters()]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        return [self.radius * gradient / norm for gradient in gradients]

    @torch.no_grad()
    def _move(self, directions: list[Tensor], sign: int) -> None:
        for parameter, direction in zip(self.parameters(), directions, strict=True):
            parameter += sign * direction

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def train_with_sam(train: TensorDataset, epochs: int) -> nn.Module:
    """Train :class:`SharpnessAwareGCE`; no callback is needed."""
    torch.manual_seed(0)
    module = SharpnessAwareGCE()
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, DataLoader(train, batch_size=32, shuffle=True))
    return module.network


@torch.no_grad()
def accuracy(network: nn.Module, test: TensorDataset) -> float:
    """Return the fraction of test samples that the network classifies rightly."""
    x, y = test.tensors
    return (network(x).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    train, test = digits_with_wrong_labels()
    print(f"ELR in a Fabric loop: {accuracy(train_with_fabric(train, 40), test):.1%}")  # noqa: T201
    print(f"GCE with SAM: {accuracy(train_with_sam(train, 40), test):.1%}")  # noqa: T201
