"""All metrics of all epochs, and the four numbers that a run reports."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

import lightning as L

_EVALUATION = ("val/", "test/")
FOUR_NUMBERS = ("last", "last_10", "best_val", "best_oracle")


class History(L.Callback):
    """Keeps every epoch's metrics, through checkpoints too.

    A checkpoint that is written after validation, before its epoch ends, does not hold what Lightning had averaged of
    the training steps, so after a resume from one that epoch's row has no ``train/loss``.

    Args:
        path: of a CSV file that is rewritten after every epoch, with one row an epoch, also after a resume.
        metric: by which predictions are judged: ``acc``, or ``r2`` in regression.

    Attributes:
        rows: one dict an epoch: ``epoch``, ``step`` (optimizer steps so far), ``seconds``, and all logged metrics.
    """

    def __init__(self, path: Path | None = None, metric: str = "acc") -> None:
        self.path = path
        self.metric = metric
        self.rows: list[dict[str, float]] = []
        self._start = 0.0
        self._evaluation: dict[str, float] = {}  # of the current epoch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A checkpoint from within an epoch may hold a row of it already.
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()
        self._evaluation = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        self._evaluation = {name: float(metrics[name]) for name in metrics if name.startswith(_EVALUATION)}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": time.perf_counter() - self._start,
        }
        for name, value in trainer.callback_metrics.items():
            # Of an epoch without evaluation, as the last one under max_steps, Lightning still has the older numbers.
            if not name.startswith(_EVALUATION):
                row[name] = float(value)
        self.rows.append(row | self._evaluation)
        if self.path is not None and trainer.is_global_zero:
            with self.path.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns())
                writer.writeheader()
                writer.writerows(self.rows)

    def column(self, name: str) -> list[float | None]:
        """One metric by epoch; ``None`` where it was not logged."""
        return [row.get(name) for row in self.rows]

    def columns(self) -> dict[str, list[float | None]]:
        """All metrics by epoch."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: self.column(name) for name in names}

    def four_numbers(self, monitor: str = "val/acc") -> dict[str, float | None]:
        """The test metric at the last epoch, its mean over the last 10, at the best noisy-validation epoch, the best.

        The best over epochs is chosen on the test set: an oracle that no user has. ``best_val`` is ``None`` without a
        validation split; of equally good epochs it takes the first.

        Args:
            monitor: what to choose the epoch by: the highest ``val/acc`` or ``val/r2``, or the lowest ``val/loss``.
        """
        name = f"test/{self.metric}"
        values = [value for value in self.column(name) if value is not None]
        if not values:
            return dict.fromkeys(FOUR_NUMBERS)
        watched = [row for row in self.rows if isfinite(row.get(monitor, nan)) and name in row]
        sign = -1 if monitor.endswith("loss") else 1
        best = max(watched, key=lambda row: sign * row[monitor])[name] if watched else None
        last = values[-10:]
        return dict(zip(FOUR_NUMBERS, (values[-1], sum(last) / len(last), best, _largest(values)), strict=True))

    def best(self, name: str) -> float | None:
        """The largest value of a metric over the epochs; NaN, as R2 of a network that diverged, counts for none."""
        return _largest(self.column(name))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "evaluation": self._evaluation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._evaluation = state_dict["rows"], state_dict["evaluation"]


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None and not isnan(value)), default=None)
