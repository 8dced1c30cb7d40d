"""From a configuration to a fitted network, and the files that the fit writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data import Digits

Cli = Callable[..., Path]
SHORT = ("trainer=cpu", "trainer.max_epochs=7", "data.train_size=400")


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_noise_is_saved_hashed_and_reloadable(cli: Cli) -> None:
    first = cli(*SHORT, "method=ce", "seed=3")
    saved = np.load(first / "noise.npz")
    row = result(first)["noise"]
    assert hashlib.sha256(saved["observed"].astype("<i8").tobytes()).hexdigest() == row["sha256"]
    assert row["realized_rate"] == (saved["observed"] != saved["clean"]).mean()
    assert np.allclose(row["realized_T"], saved["realized_T"])
    digits = Digits()
    digits.setup()
    assert np.array_equal(saved["clean"], digits.arrays.y_train.numpy())
    again = cli(*SHORT, "method=ce", "seed=3", "noise=file", f"noise.path={first / 'noise.npz'}", folder="again")
    assert result(again)["noise"] == row | {"name": "file"}
    assert result(again)["history"]["train/loss"] == result(first)["history"]["train/loss"]


def test_best_checkpoint_is_that_of_the_best_validation_epoch(cli: Cli) -> None:
    folder = cli(*SHORT, "method=ce")
    validation = result(folder)["history"]["val/acc"]
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == validation.index(max(validation))


@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_other_loggers(cli: Cli, logger: str) -> None:
    folder = cli(*SHORT, "method=ce", f"logger={logger}", "trainer.max_epochs=1")
    assert (folder / "metrics.csv").exists() == (logger != "none")
    assert bool(list(folder.rglob("events.out.tfevents*"))) == (logger == "tensorboard")
