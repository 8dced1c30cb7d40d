"""The table that a run prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from noisylabels_pl.report.metric_labels import METRIC_LABELS


def result_table(result: dict[str, Any]) -> Table:
    """Return the table that the command line prints after a run.

    Args:
        result: see :func:`noisylabels_pl.report.result.make_result`; with ``result["transition"]["error"]`` if the
            method used a transition matrix and the true one is known.

    Returns:
        A table of two columns, titled by the run's name. A run that diverged says so in the first line, and has no
        numbers of its last epoch.
    """
    metric = result["metric"]
    numbers = result[f"test_{metric}"]
    format_number = decimal if metric == "r2" else percent
    best_val = format_number(numbers["best_val"])
    if not result["data"]["val_samples"]:
        best_val = "n/a: no validation split"
    # Text, because a name may contain brackets, which Rich takes for markup in a string.
    table = Table(title=Text(result["name"]), show_header=False)
    if result["diverged"] is not None:
        table.add_row("DIVERGED", f"epoch {result['diverged']['epoch']}, step {result['diverged']['step']}")
        table.add_section()
    table.add_row(f"test {METRIC_LABELS[metric]}, last epoch", format_number(numbers["last"]))
    table.add_row(f"  mean of the last {min(10, result['epochs'])} epochs", format_number(numbers["last_10"]))
    table.add_row("  best noisy-validation epoch", best_val)
    if numbers.get("label_wave") is not None:  # not in regression
        table.add_row("  epoch at which Label Wave stops", format_number(numbers["label_wave"]))
    table.add_row("  best epoch (oracle: chosen on the test set)", format_number(numbers["best_oracle"]))
    table.add_section()
    if result["selection_precision"] is not None:
        table.add_row("right labels, selected in the last epoch", percent(result["selection_precision"]))
    table.add_row("right labels, all training samples", percent(result["pool_precision"]))
    table.add_row("realized noise rate, training samples", percent(result["noise"]["training_rate"]))
    if "error" in result.get("transition", {}):
        table.add_row("T as used, off by (total variation)", percent(result["transition"]["error"]))
    table.add_section()
    table.add_row("epochs, optimizer steps, seconds", f"{result['epochs']}, {result['steps']}, {result['seconds']:.0f}")
    for warning in result["warnings"]:
        table.add_row("warning", Text(warning))
    return table


def decimal(value: float | None) -> str:
    """Return a number with three decimals, or ``n/a`` for ``None``.

    Example:
        >>> decimal(0.12345)
        '0.123'
        >>> decimal(None)
        'n/a'
    """
    return "n/a" if value is None else f"{value:.3f}"


def percent(fraction: float | None) -> str:
    """Return a fraction in per cent with one decimal, or ``n/a`` for ``None``.

    Example:
        >>> percent(0.1234)
        '12.3 %'
        >>> percent(None)
        'n/a'
    """
    return "n/a" if fraction is None else f"{100 * fraction:.1f} %"
