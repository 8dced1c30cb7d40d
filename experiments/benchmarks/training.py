"""Time an epoch of each method against plain training of the same network on the same batches.

usage: python experiments/benchmarks/training.py [--net resnet32_cifar] [--steps 10] [--rounds 7] [--precision 32-true]
       [--only "GroupNorm,PRL(G)"]
The baseline is a plain LightningModule that calls F.cross_entropy, without any callback of this library.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from timing import arguments, interleaved, peak, report, synchronize
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import (
    ELR,
    CoPRL,
    Crust,
    ForwardCorrectionLoss,
    GCELoss,
    IndividualClip,
    PRLGradient,
    PRLLossLayer,
    RobustLoss,
    indexed,
)
from noisylabels_pl import nets as backbones
from noisylabels_pl.core import Classifier, CriterionCallback, Needs
from noisylabels_pl.functional import transition_matrix
from noisylabels_pl.per_sample import batchnorm_to_groupnorm

Make = Callable[[], nn.Module]


class Plain(L.LightningModule):
    """A module written without this library."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class WithCriterion(Plain):
    """Calls its criterion as a module, so that callbacks can change its losses."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss: Tensor = self.criterion(self(x), y)
        return loss


class Intercepts(CriterionCallback):
    """Sees the loss and leaves its value: the cost of seeing it."""

    needs = Needs(positions=False)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        return losses * 1


class Clock(L.Callback):
    """Measures the seconds of the first epoch, including the hooks of callbacks at its end."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        synchronize()
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        synchronize()
        self.seconds = self.seconds or time.perf_counter() - self.start


def epoch(module: L.LightningModule, loader: Any, precision: Any, *callbacks: L.Callback, epochs: int = 1) -> float:
    """Fit for some epochs and return the seconds of the first one."""
    clock = Clock()
    trainer = L.Trainer(
        max_epochs=epochs,
        precision=precision,
        callbacks=[*callbacks, clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return clock.seconds


def alternatives(make: Make, batch: int, steps: int, precision: Any) -> dict[str, Callable[[], float]]:
    """Return a function for each method, by its name in the table, that trains and returns the seconds of an epoch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch * steps, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (len(x),), generator=generator)
    plain_loader = DataLoader(TensorDataset(x, y), batch, shuffle=True)
    indexed_loader = indexed(DataLoader(TensorDataset(x, y), batch, shuffle=True))

    def net() -> nn.Module:
        return make().to(memory_format=torch.channels_last)

    def with_groups() -> nn.Module:
        return batchnorm_to_groupnorm(make()).to(memory_format=torch.channels_last)

    def sgd(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)

    def twin(**options: Any) -> Callable[[], float]:
        options = {"forget_rate": 0.45, "ramp_epochs": 0} | options
        return lambda: epoch(CoPRL(net, 10, sgd, **options), indexed_loader, precision)

    def callback(
        make_callback: Callable[[], L.Callback], loader: Any = indexed_loader, make: Make = net
    ) -> Callable[[], float]:
        return lambda: epoch(WithCriterion(make()), loader, precision, make_callback())

    T = transition_matrix("sym", 10, 0.4)
    return {
        "CE": lambda: epoch(Plain(net()), plain_loader, precision),
        "CE again": lambda: epoch(Plain(net()), plain_loader, precision),
        "Classifier": lambda: epoch(Classifier(net(), 10, sgd), indexed_loader, precision),
        "interception of a function": lambda: epoch(Plain(net()), plain_loader, precision, Intercepts()),
        "interception of a criterion": callback(Intercepts, plain_loader),
        "GCE": callback(lambda: RobustLoss(GCELoss()), plain_loader),
        "forward correction": callback(lambda: RobustLoss(ForwardCorrectionLoss(T)), plain_loader),
        "ELR": callback(ELR),
        "Crust, warm-up": callback(lambda: Crust(warmup_epochs=5)),
        # Half of the samples, then scoring and selecting for the second epoch.
        "Crust 0.5": lambda: epoch(WithCriterion(net()), indexed_loader, precision, Crust(warmup_epochs=0), epochs=2),
        "Crust 0.5, bf16 scoring": lambda: epoch(
            WithCriterion(net()), indexed_loader, precision, Crust(warmup_epochs=0, bf16_scoring=True), epochs=2
        ),
        "PRL(L) 0.45, masked": callback(lambda: PRLLossLayer(0.45), plain_loader),
        "PRL(L) 0.45": callback(lambda: PRLLossLayer(0.45, second_forward="auto")),
        "PRL(L) 0.45, bf16 scoring": callback(lambda: PRLLossLayer(0.45, second_forward="auto", bf16_scoring=True)),
        "Co-PRL(L) 0.45, masked": twin(second_forward=False),
        "Co-PRL(L) 0.45": twin(),
        "Co-PRL(L) 0.45, bf16 scoring": twin(bf16_scoring=True),
        "Co-PRL(L) 0.2": twin(forget_rate=0.2),
        "CE, GroupNorm": lambda: epoch(Plain(with_groups()), plain_loader, precision),
        "PRL(G) 0.45": callback(lambda: PRLGradient(0.45), plain_loader, with_groups),
        "individual clipping": callback(IndividualClip, plain_loader, with_groups),
    }


if __name__ == "__main__":
    options = arguments(__doc__, net="resnet32_cifar", batch=128, steps=10, rounds=7, precision="32-true", only="")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    factory = getattr(backbones, options.net)
    everything = alternatives(lambda: factory((3, 32, 32), 10), options.batch, options.steps, options.precision)
    wanted = options.only.split(",")
    chosen = {name: run for name, run in everything.items() if any(part in name for part in wanted)}
    before = peak()
    title = f"{options.net}, batch {options.batch}, {options.steps} steps, {options.precision}"
    report(title, interleaved(chosen, options.rounds), next(iter(chosen)))
    print(f"Peak memory of all of them: {1024 * (peak() - before):.0f} MiB above what was there before.")
