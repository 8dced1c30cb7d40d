"""The table that a run prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def result_table(result: dict[str, Any]) -> Table:
    """A run's result row as people read it, see :func:`noisylabels_pl.report.result.make_result`."""
    metric, validation = result["metric"], result["data"]["val_samples"]
    numbers = result[f"test_{metric}"]
    shown = {"accuracy": percent, "r2": decimal}[metric]
    table = Table(title=result["name"], show_header=False)
    table.add_row(f"test {'R²' if metric == 'r2' else metric}, last epoch", shown(numbers["last"]))
    table.add_row(f"  mean of the last {min(10, result['epochs'])} epochs", shown(numbers["last_10"]))
    best = shown(numbers["best_val"]) if validation else "n/a: no validation split"
    table.add_row("  best noisy-validation epoch", best)
    table.add_row("  best epoch (oracle: chosen on the test set)", shown(numbers["best_oracle"]))
    table.add_section()
    if result["selection_precision"] is not None:
        table.add_row("right labels, selected in the last epoch", percent(result["selection_precision"]))
    table.add_row("right labels, all training samples", percent(result["pool_precision"]))
    table.add_row("realized noise rate", percent(result["noise"]["realized_rate"]))
    if "error" in result.get("transition", {}):
        table.add_row("T as used, off by (total variation)", percent(result["transition"]["error"]))
    table.add_section()
    table.add_row("epochs, optimizer steps, seconds", f"{result['epochs']}, {result['steps']}, {result['seconds']:.0f}")
    return table


def decimal(value: float | None) -> str:
    """``0.12345`` as ``0.123``; ``n/a`` for ``None``."""
    return "n/a" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """``0.1234`` as ``12.3 %``; ``n/a`` for ``None``."""
    return "n/a" if share is None else f"{100 * share:.1f} %"
