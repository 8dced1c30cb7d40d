"""Time CRUST's recipe on CIFAR-10 end to end: training, scoring and selecting, and the idle time of the device.

usage: python experiments/benchmarks/recipe.py DIR [--epochs 120] [--precision bf16-mixed] [--train-size 0]
       [--compile 1]
DIR holds torchvision's cifar-10-batches-py/, or a cifar10.npz. ResNet-32, batch 128, 50 % symmetric noise, half of the
samples from epoch 5 on; the test set after every epoch.
"""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from math import isnan
from typing import Any

import lightning as L
import torch
from timing import arguments, device, machine, synchronize
from torch.profiler import ProfilerActivity, profile

from noisylabels_pl import Crust
from noisylabels_pl.callbacks import History
from noisylabels_pl.core import Classifier
from noisylabels_pl.data import CIFAR10, LabelNoise
from noisylabels_pl.nets import resnet32_cifar

NUM_PROFILED_STEPS = 50
FIRST_PROFILED_STEP = 5  # the first steps of an epoch are slower


class BusyFraction(L.Callback):
    """Measures the fraction of the time of some steps in which the GPU is busy.

    Args:
        epoch: in which to measure.

    Attributes:
        fraction: NaN without a GPU, or if the epoch is too short.
    """

    fraction = float("nan")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if device().type != "cuda" or trainer.num_training_batches <= FIRST_PROFILED_STEP + NUM_PROFILED_STEPS:
            return
        if trainer.current_epoch == self.epoch and batch_idx == FIRST_PROFILED_STEP:
            synchronize()
            self.profile = profile(activities=[ProfilerActivity.CUDA])
            self.profile.start()
            self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if hasattr(self, "profile") and batch_idx == FIRST_PROFILED_STEP + NUM_PROFILED_STEPS - 1:
            synchronize()
            seconds = time.perf_counter() - self.start
            self.profile.stop()
            busy_microseconds = sum(event.self_device_time_total for event in self.profile.key_averages())
            self.fraction = busy_microseconds / 1e6 / seconds


def main(folder: str, epochs: int, precision: Any, train_size: int, compiled: bool) -> None:
    """Train the recipe and print the table of its times."""
    L.seed_everything(0, verbose=False)
    data = CIFAR10(
        folder,
        noise=LabelNoise("sym", rate=0.5, seed=0),
        val_fraction=0.0,
        train_size=train_size or None,
        crop_padding=4,
        flip=True,
    )
    data.setup()
    net = resnet32_cifar(data.input_shape, 10).to(memory_format=torch.channels_last)
    if compiled:
        net.compile()
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[80, 100], gamma=0.1)
    history = History()
    busy = BusyFraction(epochs - 1)
    trainer = L.Trainer(
        max_epochs=epochs,
        precision=precision,
        callbacks=[Crust(0.5), history, busy],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    start = time.perf_counter()
    trainer.fit(Classifier(net, 10, sgd, scheduler), datamodule=data)
    synchronize()
    seconds = time.perf_counter() - start
    scoring = total(history, "selection/scoring_s")
    selecting = total(history, "selection/selecting_s")
    # An epoch ends with scoring and selecting for the next one.
    training = total(history, "seconds") - scoring - selecting
    print(f"### CRUST on CIFAR-10, {epochs} epochs of {len(data.train_indices)} samples, {precision}\n")
    print("| | seconds | fraction |\n| --- | --- | --- |")
    for name, phase_seconds in (("train, evaluate", training), ("score", scoring), ("select", selecting)):
        print(f"| {name} | {phase_seconds:.1f} | {phase_seconds / seconds:.3f} |")
    print(f"| all | {seconds:.1f} | 1 |\n")
    accuracy = history.five_numbers()["last"]
    idle = ""
    if not isnan(busy.fraction):
        idle = f"; in {NUM_PROFILED_STEPS} steps the device waits {1 - busy.fraction:.0%} of the time"
    print(f"Test accuracy {accuracy:.4f}{idle}; {machine()}")


def total(history: History, name: str) -> float:
    """Return the sum of a metric over the epochs that have it."""
    return sum(value for value in history.column(name) if value is not None)


if __name__ == "__main__":
    options = arguments(
        __doc__,
        positional="folder",
        epochs=120,
        precision="bf16-mixed",
        train_size=0,
        compile=int(device().type == "cuda"),
    )
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main(options.folder, options.epochs, options.precision, options.train_size, bool(options.compile))
