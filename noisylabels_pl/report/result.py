"""The result row of a run, the contents of ``result.json``."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.callbacks import History
from noisylabels_pl.data import NoisyDataModule

_PACKAGES = ("noisylabels-pl", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")


def make_result(
    name: str,
    config: dict[str, Any],
    datamodule: NoisyDataModule,
    history: History,
    monitor: str,
    names: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return all that is needed to put a run into a table, and to repeat it, as JSON types.

    Args:
        name: the run's title, such as ``crust on digits, sym 0.4, seed 0``.
        config: the resolved configuration.
        datamodule: after the fit.
        history: after the fit.
        monitor: the metric that chooses the best epoch, see :meth:`~noisylabels_pl.callbacks.History.four_numbers`.
        names: the chosen option of each configuration group, such as ``{"method": "crust"}``. A group that is missing
            becomes ``None`` in the result.

    Returns:
        The row:

        * ``name``;
        * ``method``, ``net``: the chosen options of these groups; ``method_options``: the method's options;
        * ``metric``: ``acc`` or ``r2``; ``test_acc`` or ``test_r2``: the four numbers of
          :meth:`~noisylabels_pl.callbacks.History.four_numbers`; ``monitor``;
        * ``selection_precision``, ``pool_precision``: fraction of right labels among the samples that the last epoch
          selected, and among all training samples;
        * ``noise``: name, SHA-256 of the observed labels, realized rate and transition matrix;
        * ``data``: name, origin, SHA-256 and numbers of samples;
        * ``epochs``, ``steps`` of the optimizer, ``seconds``, ``seconds_per_epoch``, ``threads``, ``peak_memory_mib``;
        * ``history``: all metrics by epoch;
        * ``config``, ``versions``, ``commit``.
    """
    labels = datamodule.labels
    realized_T = labels.realized_T
    seconds = [row["seconds"] for row in history.rows]
    return {
        "name": name,
        "method": names.get("method"),
        "method_options": _options(config["method"]),
        "net": names.get("net"),
        "metric": history.metric,
        f"test_{history.metric}": history.four_numbers(monitor),
        "monitor": monitor,
        "selection_precision": _last_value(history, "selection/precision"),
        "pool_precision": _pool_precision(datamodule),
        "noise": {
            "name": names.get("noise"),
            "sha256": labels.sha256,
            "realized_rate": labels.rate,
            "realized_T": None if realized_T is None else realized_T.tolist(),
        },
        "data": {
            "name": names.get("data"),
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
        "versions": _versions(),
        "commit": _commit(),
    }


def _options(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's options, without Hydra's own keys."""
    return {name: value for name, value in method.items() if name not in ("_target_", "_partial_")}


def _last_value(history: History, name: str) -> float | None:
    """Return a metric's value in the last epoch that logged it."""
    values = [value for value in history.column(name) if value is not None]
    return values[-1] if values else None


def _pool_precision(datamodule: NoisyDataModule) -> float | None:
    """Return the fraction of right labels in the training split; ``None`` if the true labels are unknown."""
    is_wrong = datamodule.labels.is_wrong
    if is_wrong is None:
        return None
    is_right = ~is_wrong[datamodule.train_indices]
    return float(is_right.double().mean())


def _peak_memory() -> dict[str, float]:
    """Return the largest memory that the process, and the GPU if there is one, held so far, in MiB."""
    peak: float = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":  # counts bytes, other systems KiB
        peak /= 2**10
    memory = {"process": peak / 2**10}
    if torch.cuda.is_available():
        memory["cuda"] = torch.cuda.max_memory_allocated() / 2**20
    return memory


def _versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that change results."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    versions["python"] = platform.python_version()
    return versions


def _commit() -> str | None:
    """Return the commit of this project's checkout, ``-dirty`` if files differ; ``None`` for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
