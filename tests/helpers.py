"""What several tests need and no fixture is needed for."""

from __future__ import annotations

import subprocess
import time
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl.data import Digits, SelectionSampler

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def options(group: str) -> list[str]:
    """The names of a group's configurations."""
    return sorted(str(path.relative_to(CONF / group).with_suffix("")) for path in (CONF / group).rglob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    """Return the configuration of a command line: a copy, because each command line is composed only once."""
    return deepcopy(_compose(overrides))


@cache
def _compose(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def wait_for_lines(process: subprocess.Popen[str], path: Path, lines: int) -> None:
    """Until a running process has written so many lines."""
    deadline = time.monotonic() + 120
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


class LargeTensors(TorchDispatchMode):
    """Counts the tensors of at least so many elements that operations inside of its block allocate."""

    def __init__(self, least_elements: int) -> None:
        super().__init__()
        self.least_elements = least_elements
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        storages_before = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for output in tree_leaves(returned):
            if not isinstance(output, Tensor) or output.numel() < self.least_elements:
                continue
            self.count += output.untyped_storage().data_ptr() not in storages_before
        return returned


class Tutorial(L.LightningModule):
    """As in Lightning's tutorials: knows nothing of this library."""

    lr = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_acc", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class WithCriterion(Tutorial):
    """Its criterion is a module, as Lightning's documentation has it; keeps the losses of its training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()
        self.losses: list[tuple[Any, Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = self.criterion(self(x), y)
        with torch.no_grad():
            self.losses.append((batch, loss.detach(), F.cross_entropy(self(x), y)))
        return loss


def foreign_loader(datamodule: Digits) -> DataLoader[Any]:
    """A loader that knows nothing of this library, over the training split and its noisy labels."""
    rows = datamodule.train_indices
    x = (datamodule.arrays.x_train[rows].float() - 4.88) / 6.02
    return DataLoader(TensorDataset(x, datamodule.labels.observed[rows]), batch_size=32, shuffle=True)


class Recorder(L.Callback):
    """Which samples each epoch was given and trained on, and in which epochs validation ran."""

    def __init__(self) -> None:
        self.given: dict[int, list[int]] = {}
        self.visited: dict[int, list[int]] = {}
        self.validated: list[int] = []
        self.batches: dict[int, int] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.__init__()  # type: ignore[misc]  # of several stages the last one counts

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        sampler = trainer.train_dataloader.sampler
        chosen = sampler.selection if isinstance(sampler, SelectionSampler) else None
        everything = torch.arange(len(trainer.train_dataloader.dataset))
        self.given[trainer.current_epoch] = (everything if chosen is None else chosen.indices).tolist()
        self.batches[trainer.current_epoch] = self.batches.get(trainer.current_epoch, 0) + 1
        self.visited.setdefault(trainer.current_epoch, []).extend(batch.index.tolist())

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validated.append(trainer.current_epoch)
