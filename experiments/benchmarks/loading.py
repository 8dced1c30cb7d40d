"""Compare batches cut out of the device's memory with a DataLoader that crops and flips one image at a time.

usage: python experiments/benchmarks/loading.py [--n 20000] [--batch 128] [--rounds 7] [--net resnet32_cifar]
An epoch is timed until its batches are on the device, cropped, flipped and normalized; no network. The second table
has one training step, and the time in it that cropping, flipping and normalizing take.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from timing import arguments, device, interleaved, report
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from noisylabels_pl import nets
from noisylabels_pl.data import Arrays, NoisyDataModule

MEAN = torch.tensor([0.49, 0.48, 0.45])
STD = torch.tensor([0.20, 0.20, 0.20])


class RandomImages(NoisyDataModule):
    """Random bytes in the shape of CIFAR-10."""

    def __init__(self, num_images: int, **common: Any) -> None:
        super().__init__(val_fraction=0.0, crop_padding=4, flip=True, **common)
        self.num_images = num_images

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(256, (self.num_images, 3, 32, 32), generator=generator, dtype=torch.uint8)
        y = torch.arange(self.num_images) % 10
        return Arrays(
            x_train=x,
            y_train=y,
            x_test=x[:10],
            y_test=y[:10],
            class_names=tuple("abcdefghij"),
            mean=(255 * MEAN).view(3, 1, 1),
            std=(255 * STD).view(3, 1, 1),
            origin="random numbers",
        )


class OneByOne(Dataset[Any]):
    """One image at a time, as torchvision's datasets do it, with the usual transforms of CIFAR-10."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x.permute(0, 2, 3, 1).numpy()
        self.y = y.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN.tolist(), STD.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.x[index])), self.y[index]


def in_training(num_images: int, batch_size: int, resident: bool) -> RandomImages:
    """Return a data module that finds itself within a fit, although none is running."""
    data = RandomImages(num_images, batch_size=batch_size, resident=resident)
    data.setup()
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(training=True, dtype=torch.float32),
        strategy=SimpleNamespace(root_device=device()),
        state=SimpleNamespace(stage="train"),
        training=True,
        current_epoch=0,
        world_size=1,
    )
    return data


def epoch_of(data: RandomImages) -> Callable[[], None]:
    """Return a function that loads and augments one epoch on the device."""

    def run() -> None:
        for batch in data.train_dataloader():
            data.on_after_batch_transfer(batch.to(device()), 0)

    return run


def compare_loaders(num_images: int, batch_size: int, rounds: int) -> None:
    """Print the table of an epoch by each loader."""
    on_device = in_training(num_images, batch_size, resident=True)
    behind_loader = in_training(num_images, batch_size, resident=False)
    plain = OneByOne(on_device.arrays.x_train, on_device.arrays.y_train)

    def one_by_one(workers: int) -> Callable[[], None]:
        loader = DataLoader(
            plain,
            batch_size,
            shuffle=True,
            pin_memory=device().type == "cuda",
            num_workers=workers,
            persistent_workers=workers > 0,
        )

        def run() -> None:
            for x, y in loader:
                x.to(device(), non_blocking=True)
                y.to(device(), non_blocking=True)

        return run

    times = interleaved(
        {
            "on the device": epoch_of(on_device),
            "DataLoader, augmented on the device": epoch_of(behind_loader),
            "DataLoader, 0 workers": one_by_one(0),
            "DataLoader, 2 persistent workers": one_by_one(2),
        },
        rounds,
    )
    report(f"An epoch of {num_images} images, batch {batch_size}, no network", times, "on the device")
    for name, seconds in times.items():
        print(f"- {name}: {num_images / statistics.median(seconds):,.0f} samples/s")


def compare_with_a_step(num_images: int, batch_size: int, rounds: int, net_name: str) -> None:
    """Print the table of a batch's augmentation beside a training step."""
    data = in_training(num_images, batch_size, resident=True)
    net = getattr(nets, net_name)((3, 32, 32), 10).to(device(), memory_format=torch.channels_last)
    batches = (batch.to(device()) for batch in data.train_dataloader())
    x = torch.randn(batch_size, 3, 32, 32, device=device())
    y = torch.randint(10, (batch_size,), device=device())

    def step() -> None:
        F.cross_entropy(net(x), y).backward()

    alternatives = {
        "forward and backward": step,
        "crop, flip, normalize": lambda: data.on_after_batch_transfer(next(batches), 0),
    }
    print()
    times = interleaved(alternatives, rounds)
    report(f"A step of {net_name}, batch {batch_size}", times, "forward and backward")


if __name__ == "__main__":
    options = arguments(__doc__, n=20000, batch=128, rounds=7, net="resnet32_cifar")
    compare_loaders(options.n, options.batch, options.rounds)
    compare_with_a_step(options.n, options.batch, options.rounds, options.net)
