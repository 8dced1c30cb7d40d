"""Images cut out of the device's memory against a DataLoader that crops and flips one image at a time.

usage: python experiments/benchmarks/loading.py [--n 20000] [--batch 128] [--rounds 7] [--net resnet32_cifar]
An epoch is timed until its batches are on the device, cropped, flipped and normalized; no network. The second table
has one training step, and how much of it goes to cropping, flipping and normalizing.
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

MEAN, STD = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.20, 0.20, 0.20])


class Images(NoisyDataModule):
    """Noise of CIFAR-10's shape."""

    def __init__(self, n: int, **common: Any) -> None:
        super().__init__(val_fraction=0.0, crop_padding=4, flip=True, **common)
        self.n = n

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(256, (self.n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        y = torch.arange(self.n) % 10
        moments = (255 * MEAN).view(3, 1, 1), (255 * STD).view(3, 1, 1)
        return Arrays(x, y, x[:10], y[:10], tuple("abcdefghij"), *moments, "random numbers")


class OneByOne(Dataset[Any]):
    """As torchvision's datasets do it, with the usual transforms of CIFAR-10."""

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


def set_up(n: int, batch: int, resident: bool) -> Images:
    """As within a fit of a network in training mode."""
    data = Images(n, batch_size=batch, resident=resident)
    data.setup()
    module = SimpleNamespace(training=True, dtype=torch.float32)
    strategy = SimpleNamespace(root_device=device())
    running: dict[str, Any] = {"training": True, "current_epoch": 0, "world_size": 1}
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=module, strategy=strategy, state=SimpleNamespace(stage="train"), **running
    )
    return data


def epoch_of(data: Images) -> Callable[[], None]:
    def run() -> None:
        for batch in data.train_dataloader():
            data.on_after_batch_transfer(batch.to(device()), 0)

    return run


def loaders(n: int, batch: int, rounds: int) -> None:
    held, behind = set_up(n, batch, True), set_up(n, batch, False)
    plain = OneByOne(held.arrays.x_train, held.arrays.y_train)

    def one_by_one(workers: int) -> Callable[[], None]:
        options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
        loader = DataLoader(plain, batch, shuffle=True, pin_memory=device().type == "cuda", **options)

        def run() -> None:
            for x, y in loader:
                x.to(device(), non_blocking=True), y.to(device(), non_blocking=True)

        return run

    times = interleaved(
        {
            "on the device": epoch_of(held),
            "DataLoader, augmented on the device": epoch_of(behind),
            "DataLoader, 0 workers": one_by_one(0),
            "DataLoader, 2 persistent workers": one_by_one(2),
        },
        rounds,
    )
    report(f"An epoch of {n} images, batch {batch}, no network", times, "on the device")
    for name, values in times.items():
        print(f"- {name}: {n / statistics.median(values):,.0f} samples/s")


def share_of_a_step(n: int, batch: int, rounds: int, name: str) -> None:
    data = set_up(n, batch, True)
    net = getattr(nets, name)((3, 32, 32), 10).to(device(), memory_format=torch.channels_last)
    batches = (batch.to(device()) for batch in data.train_dataloader())
    x, y = torch.randn(batch, 3, 32, 32, device=device()), torch.randint(10, (batch,), device=device())

    def step() -> None:
        F.cross_entropy(net(x), y).backward()

    alternatives = {
        "forward and backward": step,
        "crop, flip, normalize": lambda: data.on_after_batch_transfer(next(batches), 0),
    }
    print()
    report(f"A step of {name}, batch {batch}", interleaved(alternatives, rounds), "forward and backward")


if __name__ == "__main__":
    options = arguments(__doc__, n=20000, batch=128, rounds=7, net="resnet32_cifar")
    loaders(options.n, options.batch, options.rounds)
    share_of_a_step(options.n, options.batch, options.rounds, options.net)
