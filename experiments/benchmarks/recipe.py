"""CRUST's recipe on CIFAR-10 end to end: seconds of training, scoring and selecting, and how long the device waits.

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

STEPS = 50  # that are profiled
STAGES = ("seconds", "selection/scoring_s", "selection/selecting_s")


class Busy(L.Callback):
    """The share of the time of some steps in which the device has something to do."""

    share = float("nan")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        enough = device().type == "cuda" and trainer.num_training_batches > 5 + STEPS
        if enough and trainer.current_epoch == self.epoch and batch_idx == 5:
            synchronize()
            self.profile = profile(activities=[ProfilerActivity.CUDA])
            self.profile.start()
            self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if hasattr(self, "profile") and batch_idx == 5 + STEPS - 1:
            synchronize()
            seconds = time.perf_counter() - self.start
            self.profile.stop()
            self.share = sum(event.self_device_time_total for event in self.profile.key_averages()) / 1e6 / seconds


def main(folder: str, epochs: int, precision: Any, train_size: int, compiled: bool) -> None:
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
    steps = partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[80, 100], gamma=0.1)
    history, busy = History(), Busy(epochs - 1)
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
    trainer.fit(Classifier(net, 10, sgd, steps), datamodule=data)
    synchronize()
    seconds = time.perf_counter() - start
    whole, score, select = (sum(value or 0 for value in history.column(name)) for name in STAGES)
    print(f"### CRUST on CIFAR-10, {epochs} epochs of {len(data.train_indices)} samples, {precision}\n")
    print("| | seconds | share |\n| --- | --- | --- |")
    # An epoch ends with scoring and selecting for the next one.
    for name, part in (("train, evaluate", whole - score - select), ("score", score), ("select", select)):
        print(f"| {name} | {part:.1f} | {part / seconds:.3f} |")
    print(f"| all | {seconds:.1f} | 1 |\n")
    waits = f"; of {STEPS} steps the device waits {1 - busy.share:.0%}" if busy.share == busy.share else ""
    accuracy = history.four_numbers()["last"]
    print(f"Test accuracy {accuracy:.4f}{waits}; {machine()}")


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
