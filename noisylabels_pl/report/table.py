"""The table that a run prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def result_table(result: dict[str, Any], files: str) -> Table:
    """A run's result row as people read it.

    Args:
        result: see :func:`noisylabels_pl.report.result.make_result`.
        files: where the run's files are.
    """
    table = Table(title=result["name"], show_header=False)
    accuracy = result["test_accuracy"]
    table.add_row("test accuracy, last epoch", percent(accuracy["last"]))
    table.add_row("test accuracy, mean of the last 10 epochs", percent(accuracy["last_10"]))
    table.add_row("test accuracy, best noisy-validation epoch", percent(accuracy["best_val"]))
    table.add_row("test accuracy, best epoch (oracle: chosen on the test set)", percent(accuracy["best_oracle"]))
    table.add_section()
    if result["selection_precision"] is not None:
        table.add_row("right labels among the selected samples, last epoch", percent(result["selection_precision"]))
    table.add_row("right labels in the whole training set", percent(result["pool_precision"]))
    table.add_row("realised noise rate", percent(result["noise"]["realised_rate"]))
    table.add_section()
    table.add_row("epochs, optimiser steps, seconds", f"{result['epochs']}, {result['steps']}, {result['seconds']:.0f}")
    table.add_row("files", files)
    return table


def percent(share: float | None) -> str:
    """``0.1234`` as ``12.3 %``; ``n/a`` for ``None``."""
    return "n/a" if share is None else f"{100 * share:.1f} %"
