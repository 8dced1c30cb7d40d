"""Runs that several tests of a method compare with, made once a session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from .methods import record, run


@pytest.fixture(scope="session")
def plain_record(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Returns the record of a method's small run without further options; a copy, which a test may change."""
    records: dict[str, dict[str, Any]] = {}

    def get(method: str) -> dict[str, Any]:
        if method not in records:
            records[method] = record(method, tmp_path_factory.mktemp("plain"))
        return deepcopy(records[method])

    return get


class Stop(L.Callback):
    """Fails in the middle of an epoch, as a machine does."""

    def __init__(self, epoch: int = 7) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and trainer.fit_loop.batch_idx == 1:
            raise InterruptedError("stopped")


class SavesInTheMiddle(Checkpoint):
    """Saves a checkpoint after the first batch of epoch 7."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (7, 0):
            trainer.save_checkpoint(self.path)


@pytest.fixture(scope="session")
def interrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a folder with ``run``, a run that failed in epoch 7, and two checkpoints beside those of the run.

    ``validated.ckpt`` was written after the validation of epoch 6, and ``middle.ckpt`` after the first batch of epoch
    7. A test may change ``run`` by resuming in it: the next one gets it as the failure has left it.
    """
    folders: dict[str, Path] = {}

    def get(method: str) -> Path:
        if method not in folders:
            folder = tmp_path_factory.mktemp("interrupted")
            saved = ModelCheckpoint(folder, filename="validated", mode="max", save_on_train_epoch_end=False)
            callbacks = [Stop(), saved, SavesInTheMiddle(folder / "middle.ckpt")]
            with pytest.raises(InterruptedError):
                run(method, folder / "run", callbacks=callbacks)
            (folder / "run").rename(folder / "as it was left")
            folders[method] = folder
        folder = folders[method]
        shutil.rmtree(folder / "run", ignore_errors=True)
        shutil.copytree(folder / "as it was left", folder / "run")
        return folder

    return get
