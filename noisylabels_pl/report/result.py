"""The result row of a run."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.callbacks import History
from noisylabels_pl.data import NoisyDataModule

_PACKAGES = ("noisylabels-pl", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")


def make_result(
    name: str, config: dict[str, Any], datamodule: NoisyDataModule, history: History, monitor: str
) -> dict[str, Any]:
    """All that is needed to put a run into a table and to repeat it, as JSON types.

    Args:
        name: identity of the run, for titles.
        config: the resolved configuration.
        datamodule: after the fit.
        history: after the fit.
        monitor: see :meth:`~noisylabels_pl.callbacks.History.four_numbers`.
    """
    labels = datamodule.labels
    is_wrong, realized_T = labels.is_wrong, labels.realized_T
    name_of_metric = {"acc": "accuracy", "r2": "r2"}[history.metric]
    precision = [value for value in history.column("selection/precision") if value is not None]
    seconds = [row["seconds"] for row in history.rows]
    return {
        "name": name,
        "metric": name_of_metric,
        f"test_{name_of_metric}": history.four_numbers(monitor),
        "monitor": monitor,
        "selection_precision": precision[-1] if precision else None,
        "pool_precision": None if is_wrong is None else float((~is_wrong[datamodule.train_indices]).double().mean()),
        "noise": {
            "sha256": labels.sha256,
            "realized_rate": labels.rate,
            "realized_T": None if realized_T is None else realized_T.tolist(),
        },
        "data": {
            "origin": datamodule.arrays.origin,
            "sha256": datamodule.arrays.digest(),
            "train_samples": len(datamodule.train_indices),
            "val_samples": len(datamodule.val_indices),
            "test_samples": len(datamodule.arrays.y_test),
        },
        "epochs": len(history.rows),
        "steps": int(history.rows[-1]["step"]) if history.rows else 0,
        "seconds": sum(seconds),
        "seconds_per_epoch": seconds,
        "threads": torch.get_num_threads(),
        "peak_memory_mib": _peak_memory(),
        "history": history.columns(),
        "config": config,
        "versions": {package: _version(package) for package in _PACKAGES} | {"python": platform.python_version()},
        "commit": _commit(),
    }


def _peak_memory() -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = {"process": peak / (2**20 if sys.platform == "darwin" else 2**10)}  # bytes on macOS, KiB elsewhere
    if torch.cuda.is_available():
        memory["cuda"] = torch.cuda.max_memory_allocated() / 2**20
    return memory


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this project's checkout, marked if files differ from it; ``None`` for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
