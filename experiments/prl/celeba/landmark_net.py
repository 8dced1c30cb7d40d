"""The network that learns CelebA's landmarks, and the features of its last hidden layer."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from noisylabels_pl.data.datasets.celeba_landmarks import NUM_FEATURES
from noisylabels_pl.data.datasets.celeba_lists import COORDINATES

BATCH_SIZE = 256
LEARNING_RATE = 1e-3
_log = logging.getLogger("celeba")


class LandmarkNet(L.LightningModule):
    """Three convolutions and a linear layer; remembers the weights of the epoch with the lowest validation loss.

    Args:
        image_size: height and width of the images, a multiple of 16.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, width in pairwise((3, 32, 64, 128)):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU()]
        # Pools to 2x2. AdaptiveAvgPool2d(2) would give the same, but its gradient is not deterministic on GPUs.
        self.features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 16), nn.Flatten())
        self.head = nn.Linear(NUM_FEATURES, len(COORDINATES))
        self.best_loss = math.inf
        self.best_weights = copy.deepcopy(self.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, 512)`` features of ``(B, 3, image_size, image_size)`` uint8 images."""
        features: Tensor = self.features(images.float() / 127.5 - 1)
        return features

    def _loss(self, batch: list[Tensor]) -> Tensor:
        images, targets = batch
        return F.mse_loss(self.head(self(images)), targets)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch), batch_size=len(batch[0]))

    def on_validation_epoch_end(self) -> None:
        loss = float(self.trainer.callback_metrics["val_loss"])
        _log.info("CelebA: epoch %d, validation loss %.4f", self.current_epoch + 1, loss)
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_weights = copy.deepcopy(self.state_dict())

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.forward(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), LEARNING_RATE)


def learned_features(
    images: list[Tensor], targets: list[Tensor], *, image_size: int, max_epochs: int, patience: int
) -> Tensor:
    """Train the network on the training images and return its features of the test images.

    Args:
        images: ``(n, 3, image_size, image_size)`` uint8 training, validation and test images.
        targets: ``(n, 10)`` standardized landmarks of the training and the validation images.
        image_size: height and width of the images, a multiple of 16.
        max_epochs: the largest number of epochs.
        patience: epochs without a lower validation loss after which training stops.

    Returns:
        ``(n, 512)`` float32 features of the epoch with the lowest validation loss.
    """
    train_images, val_images, test_images = images
    train_targets, val_targets = targets
    net = LandmarkNet(image_size)
    trainer = L.Trainer(
        devices=1,
        max_epochs=max_epochs,
        callbacks=[EarlyStopping("val_loss", patience=patience)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(net, _loader(train_images, train_targets, shuffle=True), _loader(val_images, val_targets))
    net.load_state_dict(net.best_weights)
    features: Any = trainer.predict(net, _loader(test_images))
    return torch.cat(features)


def _loader(*tensors: Tensor, shuffle: bool = False) -> DataLoader[Any]:
    """Return a loader that cuts out each batch at once, in an order that follows from torch's seed."""
    dataset = TensorDataset(*tensors)
    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, BATCH_SIZE, drop_last=False))


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Start torch's random numbers from ``seed`` with deterministic convolutions, and restore both afterwards."""
    # Not cudnn.flags(), which fails once the precision of convolutions alone was set.
    cudnn = torch.backends.cudnn
    deterministic_before = cudnn.deterministic
    benchmark_before = cudnn.benchmark
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            cudnn.deterministic = True
            cudnn.benchmark = False
            yield
        finally:
            cudnn.deterministic = deterministic_before
            cudnn.benchmark = benchmark_before
