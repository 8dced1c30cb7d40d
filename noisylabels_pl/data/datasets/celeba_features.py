"""The features of CelebA's faces: those of a network that has learned where the landmarks are."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, TensorDataset

from noisylabels_pl.data.arrays import standardize
from noisylabels_pl.data.datasets.celeba_lists import COORDINATES, Lists

NUM_FEATURES, LEARNING_RATE, BATCH_SIZE = 512, 1e-3, 256
_log = logging.getLogger(__name__)


def celeba_features(
    folder: Path,
    lists: Lists,
    *,
    image_size: int,
    max_epochs: int,
    patience: int,
    seed: int,
    num_workers: int = 0,
) -> Tensor:
    """``(n, 512)`` features of the test images, from a network that saw the others only.

    Args:
        folder: of the images.
        lists: of images and landmarks.
        image_size: height and width to which images are scaled, a multiple of 16.
        max_epochs: to train for at most.
        patience: epochs without a lower validation loss after which training stops.
        seed: of the network's weights and batches.
        num_workers: processes that read images.
    """
    from lightning.pytorch.callbacks import EarlyStopping

    _log.info(
        "CelebA: no features for these options yet. Reading %d images of %s (data.num_workers=%d), then training a "
        "network on them for up to %d epochs; this takes long, but happens once",
        len(lists.lines),
        folder,
        num_workers,
        max_epochs,
    )
    y_train, y_val = standardize(lists.landmarks[0], lists.landmarks[1])
    with _repeatable(seed):
        x_train, x_val, x_test = (_read_images(folder, names, image_size, num_workers) for names in lists.names)
        net = _LandmarkNet(image_size)
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
        trainer.fit(net, _batches(x_train, y_train, shuffle=True), _batches(x_val, y_val))
        net.load_state_dict(net.best_weights)
        features: Any = trainer.predict(net, _batches(x_test))
    return torch.cat(features)


def _read_images(folder: Path, names: Sequence[str], size: int, num_workers: int) -> Tensor:
    """``(n, 3, size, size)`` uint8; decoded once here, not once per epoch."""
    loader = DataLoader(_Images(folder, names, size), BATCH_SIZE, num_workers=num_workers)
    images = torch.empty(len(names), size, size, 3, dtype=torch.uint8)
    for part, batch in zip(torch.split(images, BATCH_SIZE), loader, strict=True):
        part.copy_(batch)
    return images.permute(0, 3, 1, 2)


class _Images(Dataset[Tensor]):
    """Images of a folder as ``(size, size, 3)`` uint8."""

    def __init__(self, folder: Path, names: Sequence[str], size: int) -> None:
        self.folder = folder
        self.names = names
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image

        path = self.folder / self.names[index]
        try:
            with Image.open(path) as image:
                resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        except OSError as error:
            raise ValueError(f"data.root: {path} is not a readable image ({error}); unpack it again") from error
        return torch.from_numpy(np.array(resized))


class _LandmarkNet(L.LightningModule):
    """Three convolutions and a linear layer; keeps the weights of the epoch with the lowest validation loss."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        layers = [
            layer
            for channels, width in pairwise((3, 32, 64, 128))
            for layer in (nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU())
        ]
        # To 2x2; the gradient of AdaptiveAvgPool2d(2), which would give the same, is not deterministic on GPUs.
        self.features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 16), nn.Flatten())
        self.head = nn.Linear(NUM_FEATURES, len(COORDINATES))
        self.best_loss = math.inf
        self.best_weights = copy.deepcopy(self.state_dict())

    def forward(self, images: Tensor) -> Tensor:
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
            self.best_loss, self.best_weights = loss, copy.deepcopy(self.state_dict())

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.forward(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), LEARNING_RATE)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Random numbers that start from ``seed``, and deterministic convolutions; as before afterwards."""
    # Not cudnn.flags(), which fails once somebody has set the precision of convolutions alone.
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before


def _batches(*tensors: Tensor, shuffle: bool = False) -> DataLoader[Any]:
    """Batches that are cut out at once, in an order that follows from torch's seed."""
    dataset = TensorDataset(*tensors)
    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, BATCH_SIZE, drop_last=False))
