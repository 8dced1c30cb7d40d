"""Measure the memory of what grows with samples times classes: CRUST's selection, label quality and ELR's targets.

usage: python experiments/benchmarks/memory.py [--n 200000] [--classes 1000] [--only NAMES]
Each alternative trains a linear network for one step in a process of its own. NAMES are separated by semicolons.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
import warnings
from collections.abc import Callable

import lightning as L
import torch
from timing import arguments, machine, peak
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from noisylabels_pl import ELR, Crust, indexed
from noisylabels_pl.callbacks import LabelQuality
from noisylabels_pl.functional import centrality, facility_location

SELECTION = {"warmup_epochs": 0, "partition": "observed"}  # this network predicts few of the classes
ALTERNATIVES: dict[str, Callable[[Tensor], L.Callback]] = {
    "Crust": lambda labels: Crust(**SELECTION),
    "Crust, facility location": lambda labels: Crust(selector="facility_location", weights="cluster", **SELECTION),
    "LabelQuality": lambda labels: LabelQuality(labels, labels.roll(1)),
    "ELR": lambda labels: ELR(),
    "ELR, float16": lambda labels: ELR(table_dtype="float16"),
}


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Random samples of eight features, read a batch at a time."""

    def __init__(self, n: int, num_classes: int) -> None:
        self.x = torch.randn(n, 8)
        self.y = torch.randint(num_classes, (n,))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.x[position], self.y[position]

    def __getitems__(self, positions: list[int]) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x[positions], self.y[positions], strict=True))


class Linear(L.LightningModule):
    """A linear classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Linear(8, num_classes)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def measure(name: str, n: int, num_classes: int) -> None:
    """Print a row of the table: the peak above what the process had before, and the time."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    centrality(torch.randn(300, 4), 100)  # compiles the kernels, or loads them
    facility_location(torch.randn(300, 4), 100)
    samples = Samples(n, num_classes)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        callbacks=[ALTERNATIVES[name](samples.y)],
        enable_model_summary=False,
        **quiet,
    )
    before = peak()
    start = time.perf_counter()
    trainer.fit(Linear(num_classes), indexed(DataLoader(samples, batch_size=1000, shuffle=True)))
    table = 4 * n * num_classes / 2**30
    above = peak() - before
    print(f"| {name} | {above:.2f} | {above / table:.2f} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    options = arguments(__doc__, n=200_000, classes=1000, only=";".join(ALTERNATIVES))
    table_size = 4 * options.n * options.classes / 2**30
    print(f"### {options.n} samples of {options.classes} classes: a table in float32 has {table_size:.2f} GiB\n")
    print("| | GiB above | tables | time (s) |\n| --- | --- | --- | --- |", flush=True)
    context = multiprocessing.get_context("spawn")
    for alternative in options.only.split(";"):
        process = context.Process(target=measure, args=(alternative, options.n, options.classes))
        process.start()
        process.join()
    print(f"\n{machine()}\n")
