"""The metrics of all epochs, and the five numbers that a run reports."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

import lightning as L

from noisylabels_pl.data.files import write_atomically
from noisylabels_pl.functional import first_local_minimum

_EVALUATION_LOADERS = ("val", "test")
FIVE_NUMBERS = ("last", "last_10", "best_val", "label_wave", "best_oracle")


class History(L.Callback):
    """Keeps the metrics of every epoch, also across a resume.

    A checkpoint that is written between validation and the end of its epoch does not hold Lightning's averages over the
    training steps. After a resume from such a checkpoint, the row of this epoch has no ``train/loss``.

    Args:
        path: a CSV file with one row per epoch, rewritten after every epoch; no file if not given.
        metric: the metric that judges predictions: ``acc``, or ``r2`` in regression.

    Attributes:
        rows: one dict per epoch: ``epoch``, ``step`` (optimizer steps so far), ``seconds``, and all logged metrics.

    Example:
        >>> history = History()
        >>> trainer = L.Trainer(callbacks=[history], logger=False, enable_checkpointing=False)
        >>> history.rows  # filled by trainer.fit(...)
        []
    """

    def __init__(self, path: Path | None = None, metric: str = "acc") -> None:
        self.path = path
        self.metric = metric
        self.rows: list[dict[str, float]] = []
        self._start = 0.0  # of the current epoch
        self._evaluation: dict[str, float] = {}  # validation and test metrics of the current epoch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A checkpoint written within an epoch may already hold a row for that epoch, which now starts again.
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        # A fit that is resumed within an epoch does not call on_train_epoch_start for this epoch.
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()
        self._evaluation = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluation = {}
        for name, value in trainer.callback_metrics.items():
            if name.startswith(_evaluation_prefixes(trainer)):
                self._evaluation[name] = float(value)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": time.perf_counter() - self._start,
        }
        for name, value in trainer.callback_metrics.items():
            # Not the metrics of evaluation: after an epoch without one, such as the last epoch under max_steps,
            # Lightning still has those of an earlier epoch.
            if not name.startswith(_evaluation_prefixes(trainer)):
                row[name] = float(value)
        self.rows.append(row | self._evaluation)
        if self.path is not None and trainer.is_global_zero:
            self._write_csv(self.path)

    def column(self, name: str) -> list[float | None]:
        """Return one metric by epoch, with ``None`` where it was not logged.

        Example:
            >>> history = History()
            >>> history.rows = [{"epoch": 0}, {"epoch": 1, "test/acc": 0.5}]
            >>> history.column("test/acc")
            [None, 0.5]
        """
        return [row.get(name) for row in self.rows]

    def columns(self) -> dict[str, list[float | None]]:
        """Return all metrics by epoch, see :meth:`column`."""
        names = dict.fromkeys(name for row in self.rows for name in row)  # a dict keeps the order, a set would not
        return {name: self.column(name) for name in names}

    def five_numbers(self, monitor: str = "val/acc") -> dict[str, float | None]:
        """Return the five numbers of the test metric that a run reports.

        Args:
            monitor: the metric that chooses an epoch: the highest ``val/acc`` or ``val/r2``, or the lowest
                ``val/loss``.

        Returns:
            The numbers by name:

            * ``last``: after the last epoch;
            * ``last_10``: mean over the last ten epochs;
            * ``best_val``: after the first epoch with the best ``monitor``; ``None`` without a validation split;
            * ``label_wave``: after the epoch at which :class:`~noisylabels_pl.LabelWave` stops a fit, or after the last
              epoch if it does not; it needs no validation split. ``None`` in regression, and if ``train/changed`` was
              not measured (:class:`~noisylabels_pl.callbacks.LabelQuality`);
            * ``best_oracle``: the largest over all epochs. It is chosen on the test set, which no user can do.

        Example:
            >>> history = History()
            >>> history.rows = [{"val/acc": 0.6, "test/acc": 0.75}, {"val/acc": 0.5, "test/acc": 0.25}]
            >>> history.five_numbers()
            {'last': 0.25, 'last_10': 0.5, 'best_val': 0.75, 'label_wave': None, 'best_oracle': 0.75}
        """
        name = f"test/{self.metric}"
        values = [value for value in self.column(name) if value is not None]
        if not values:
            return dict.fromkeys(FIVE_NUMBERS)
        last_ten = values[-10:]
        return {
            "last": values[-1],
            "last_10": sum(last_ten) / len(last_ten),
            "best_val": self._at_best_epoch(name, monitor),
            "label_wave": self._at_label_wave(name),
            "best_oracle": _largest(values),
        }

    def best_epoch(self, monitor: str) -> int | None:
        """Return the first epoch with the best ``monitor``, see :meth:`five_numbers`; ``None`` if none has it.

        Example:
            >>> history = History()
            >>> history.rows = [{"epoch": 0, "val/acc": 0.5}, {"epoch": 1, "val/acc": 0.6}]
            >>> history.best_epoch("val/acc")
            1
        """
        row = _best_row(self.rows, monitor)
        return None if row is None else int(row["epoch"])

    def best(self, name: str) -> float | None:
        """Return the largest value of a metric over the epochs.

        NaN does not count: the R2 of a network that has diverged is NaN. Without any value the result is ``None``.
        """
        return _largest(self.column(name))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "evaluation": self._evaluation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self._evaluation = state_dict["evaluation"]

    def _at_best_epoch(self, name: str, monitor: str) -> float | None:
        """Return a metric at the first epoch with the best ``monitor``; ``None`` if no epoch has both."""
        row = _best_row([row for row in self.rows if name in row], monitor)
        return None if row is None else row[name]

    def _at_label_wave(self, name: str) -> float | None:
        """Return a metric after the epoch at which Label Wave stops; ``None`` if changed predictions were not measured.

        Where no minimum is confirmed, this is the last epoch that has the metric.
        """
        rows = [row for row in self.rows if name in row and "train/changed" in row]
        if not rows:
            return None
        minimum = first_local_minimum([row["train/changed"] for row in rows])
        if minimum.position is None or not minimum.is_confirmed:
            return rows[-1][name]
        return rows[minimum.position][name]

    def _write_csv(self, path: Path) -> None:
        with write_atomically(path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns())
            writer.writeheader()
            writer.writerows(self.rows)


def _evaluation_prefixes(trainer: L.Trainer) -> tuple[str, ...]:
    """Return how the names of the metrics of validation loaders begin."""
    loaders = trainer.val_dataloaders
    names = (*_EVALUATION_LOADERS, *loaders) if isinstance(loaders, dict) else _EVALUATION_LOADERS
    return tuple(f"{name}/" for name in names)


def _best_row(rows: Sequence[dict[str, float]], monitor: str) -> dict[str, float] | None:
    """Return the first of some epochs' rows with the best ``monitor``; ``None`` if no row has it."""
    rows = [row for row in rows if isfinite(row.get(monitor, nan))]
    if not rows:
        return None
    if monitor.endswith("loss"):
        return min(rows, key=lambda row: row[monitor])
    return max(rows, key=lambda row: row[monitor])


def _largest(values: Sequence[float | None]) -> float | None:
    """Return the largest of the values that are numbers, or ``None`` if none is."""
    numbers = [value for value in values if value is not None and not isnan(value)]
    return max(numbers, default=None)
