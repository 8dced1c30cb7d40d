"""Real data and small networks that the tests share, and how pytest shares the machine."""

from __future__ import annotations

import os
import shutil

# Before torch is imported. Several pytest processes run side by side, and each has its processes; more threads than
# cores would only wait for each other. The networks of the tests are too small to gain from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # a pytest that a test starts gets no processes of its own
    os.environ["PYTEST_XDIST_AUTO_NUM_WORKERS"] = "0"

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import lightning as L

    from noisylabels_pl.core import Classifier
    from noisylabels_pl.data import Digits

# torch, Lightning and the package are imported inside of the fixtures: the process that only hands out tests to others
# needs none of them.


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    # The longest tests come first, so that no process is left with one of them when the others have finished.
    items.sort(key=lambda item: "processes" not in item.keywords)
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def digits() -> Callable[..., Digits]:
    """Digits with 40 % symmetric noise, 300 training samples."""
    from noisylabels_pl.data import Digits, LabelNoise

    def make(**options: Any) -> Digits:
        options = {"train_size": 300, "batch_size": 32, "val_fraction": 0.1} | options
        datamodule = Digits(LabelNoise("sym", rate=0.4, seed=0), **options)
        datamodule.setup()
        return datamodule

    return make


@pytest.fixture
def classifier() -> Callable[..., Classifier]:
    """The same small network at every call."""
    import torch

    from noisylabels_pl.core import Classifier
    from noisylabels_pl.nets import mlp

    def make(**options: Any) -> Classifier:
        torch.manual_seed(0)
        net = mlp((1, 8, 8), 10, hidden=(64,))
        return Classifier(net, 10, partial(torch.optim.SGD, lr=0.1, momentum=0.9), **options)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """A quiet trainer on the CPU."""
    import lightning as L

    def make(*callbacks: L.Callback, **options: Any) -> L.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(callbacks=list(callbacks), **(defaults | options))

    return make


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Runs ``python -m noisylabels_pl`` with the given overrides in an empty folder; returns the run's folder.

    A second run in the same folder replaces the first, unless it resumes it, or the test says ``replace=False``.
    """
    from noisylabels_pl.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*overrides: str, folder: str = "run", replace: bool = True) -> Path:
        if replace and not any(override.startswith("resume=") for override in overrides):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        arguments = ["noisylabels_pl", *overrides, f"hydra.run.dir={folder}"]
        monkeypatch.setattr("sys.argv", arguments)
        main()
        return tmp_path / folder

    return run
