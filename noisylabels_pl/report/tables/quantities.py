"""The numbers that a table can show of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from noisylabels_pl.report.tables.rows import Row
from noisylabels_pl.report.tables.statistics import Summary


@dataclass(frozen=True)
class Quantity:
    """A number of a run.

    Attributes:
        label: of its column.
        read: returns the number from a row, or ``None`` if the run has none.
        factor: for display; 100 for per cent.
        digits: after the point.
        is_score: whether larger is better, so that the best method can be marked.
    """

    label: str
    read: Callable[[Row], float | None]
    factor: float = 1.0
    digits: int = 1
    is_score: bool = False

    def format(self, summary: Summary) -> str:
        """Return ``mean ± standard deviation`` for display, and the mean alone for one run."""
        mean = f"{self.factor * summary.mean:.{self.digits}f}"
        return mean if summary.std is None else f"{mean} ± {self.factor * summary.std:.{self.digits}f}"


def _score(number: str) -> Callable[[Row], float | None]:
    return lambda row: row[f"test_{row['metric']}"].get(number)


SCORES = {
    "last": "last",
    "last_10": "last 10",
    "best_val": "best val.",
    "label_wave": "Label Wave",
    "best_oracle": "oracle",
}
MEANINGS = {
    "last_10": "mean of the last ten epochs",
    "best_val": "epoch that is best on the noisy validation split",
    "label_wave": "epoch at which Label Wave stops, chosen without validation data",
    "best_oracle": "best epoch, chosen on the test set",
    "label_precision": "right labels among the selected samples",
    "pool_precision": "right labels among all training samples",
}
OTHERS = {
    "label_precision": Quantity("label precision (%)", lambda row: row["selection_precision"], 100),
    "pool_precision": Quantity("right labels (%)", lambda row: row["pool_precision"], 100),
    "memorized": Quantity("wrong labels memorized (%)", lambda row: row["final"].get("train/memorized"), 100),
    "noise_rate": Quantity("realized noise (%)", lambda row: row["noise"]["realized_rate"], 100),
    "T_error": Quantity("T off by (%)", lambda row: row.get("transition", {}).get("error"), 100),
    "epochs": Quantity("epochs", lambda row: row["epochs"], digits=0),
    "steps": Quantity("steps", lambda row: row["steps"], digits=0),
    "seconds": Quantity("seconds", lambda row: row["seconds"], digits=0),
    "seconds_per_epoch": Quantity("seconds per epoch", lambda row: row["epoch_seconds"], digits=3),
    "peak_memory": Quantity("peak memory (MiB)", lambda row: max(row["peak_memory_mib"].values()), digits=0),
}
NAMES = (*SCORES, *OTHERS)


def quantity(name: str, metric: str) -> Quantity:
    """Return a quantity by its name.

    Args:
        name: one of :data:`NAMES`.
        metric: ``acc``, which is shown in per cent, or ``r2``.

    Example:
        >>> quantity("last", "acc").label, quantity("last", "r2").label
        ('last (%)', 'last (R²)')
    """
    if name in OTHERS:
        return OTHERS[name]
    unit = "R²" if metric == "r2" else "%"
    factor, digits = (1.0, 3) if metric == "r2" else (100.0, 1)
    return Quantity(f"{SCORES[name]} ({unit})", _score(name), factor, digits, is_score=True)


def meaning(name: str) -> str:
    """Return a sentence that explains the label of a quantity, one of :data:`MEANINGS`.

    Example:
        >>> meaning("best_oracle")
        'oracle: best epoch, chosen on the test set.'
    """
    label = SCORES[name] if name in SCORES else OTHERS[name].label.removesuffix(" (%)")
    return f"{label}: {MEANINGS[name]}."


def finite_values(quantity: Quantity, rows: Sequence[Row]) -> list[float]:
    """Return the finite numbers of some finished runs."""
    values: list[Any] = [quantity.read(row) for row in rows]
    return [value for value in values if value is not None and math.isfinite(value)]
