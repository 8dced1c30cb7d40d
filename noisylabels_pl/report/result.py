"""The result row of a run, the contents of ``result.json``."""

from __future__ import annotations

import math
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.callbacks import DivergedError, History
from noisylabels_pl.data import NoisyDataModule

_PACKAGES = ("noisylabels-pl", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")


def make_result(
    name: str,
    config: dict[str, Any],
    datamodule: NoisyDataModule,
    history: History,
    monitor: str,
    names: Mapping[str, str | None],
    *,
    diverged: DivergedError | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return all that is needed to put a run into a table, and to repeat it, as JSON types.

    Args:
        name: the run's title, such as ``crust on digits, sym 0.4, seed 0``.
        config: the resolved configuration.
        datamodule: after the fit.
        history: after the fit.
        monitor: the metric that chooses the best epoch, see :meth:`~noisylabels_pl.callbacks.History.five_numbers`.
        names: the chosen option of each configuration group, such as ``{"method": "crust"}``. A group that is missing
            becomes ``None`` in the result.
        diverged: the error that ended the run, if it diverged.
        warnings: parts of the method that do not come about in this budget.

    Returns:
        The row:

        * ``name``;
        * ``method``, ``net``: the chosen options of these groups; ``method_options``: the method's options;
        * ``metric``: ``acc`` or ``r2``; ``test_acc`` or ``test_r2``: the five numbers of
          :meth:`~noisylabels_pl.callbacks.History.five_numbers`; ``monitor``, ``best_epoch``;
        * ``diverged``: ``None``, or the ``epoch`` and the ``step`` in which the run diverged, and a ``message``; the
          numbers ``last`` and ``last_10`` are then ``None``, and the others are of the epochs before; ``warnings``;
        * ``selection_precision``, ``pool_precision``: fraction of right labels among the samples that the last epoch
          selected, and among all training samples;
        * ``noise``: name, SHA-256 of the observed labels, realized rate of the whole training set and of the training
          split, and transition matrix;
        * ``data``: name, origin, SHA-256 and numbers of samples;
        * ``epochs``, ``steps`` of the optimizer, ``seconds``, ``seconds_per_epoch``, ``threads``, ``peak_memory_mib``;
        * ``history``: all metrics by epoch;
        * ``config``, ``versions``, ``commit``.
    """
    labels = datamodule.labels
    realized_T = labels.realized_T
    seconds = [row["seconds"] for row in history.rows]
    numbers = history.five_numbers(monitor)
    if diverged is not None:
        numbers |= {"last": None, "last_10": None}
    pool_precision = _pool_precision(datamodule)
    return {
        "name": name,
        "method": names.get("method"),
        "method_options": _options(config["method"]),
        "net": names.get("net"),
        "metric": history.metric,
        f"test_{history.metric}": numbers,
        "monitor": monitor,
        "best_epoch": history.best_epoch(monitor),
        "diverged": _divergence(diverged),
        "warnings": list(warnings),
        "selection_precision": _last_value(history, "selection/precision"),
        "pool_precision": pool_precision,
        "noise": {
            "name": names.get("noise"),
            "sha256": labels.sha256,
            "realized_rate": labels.rate,
            "training_rate": None if pool_precision is None else 1 - pool_precision,
            "realized_T": None if realized_T is None else realized_T.tolist(),
        },
        "data": {
            "name": names.get("data"),
            "origin": datamodule.arrays.origin,
            "sha256": datamodule.arrays.digest(),
            "train_samples": len(datamodule.train_indices),
            "val_samples": datamodule.num_validation,
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


def none_for_nan(value: Any) -> Any:
    """Return a value of JSON types with ``None`` in place of every number that is not finite: JSON has no others.

    Example:
        >>> none_for_nan({"r2": [0.5, float("nan")], "max_norm": float("inf")})
        {'r2': [0.5, None], 'max_norm': None}
    """
    if isinstance(value, dict):
        return {key: none_for_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [none_for_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _divergence(error: DivergedError | None) -> dict[str, Any] | None:
    """Return when a run diverged, and the message; ``None`` if it did not."""
    if error is None:
        return None
    return {"epoch": error.epoch, "step": error.step, "message": str(error)}


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
