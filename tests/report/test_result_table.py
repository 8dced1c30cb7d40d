"""The printed table."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from noisylabels_pl.report.result_table import result_table


def printed(**changes: Any) -> dict[str, str]:
    """The table's lines by their labels, of a row that differs in some keys."""
    numbers = {"last": 0.5, "last_10": 0.25, "best_val": 0.75, "best_oracle": 1.0}
    row: dict[str, Any] = {
        "name": "a run, seed 0",
        "metric": "acc",
        "test_acc": numbers,
        "test_r2": numbers,
        "selection_precision": None,
        "pool_precision": 0.625,
        "noise": {"realized_rate": 0.25, "training_rate": 0.375},
        "diverged": None,
        "warnings": [],
        "data": {"val_samples": 30},
        "epochs": 4,
        "steps": 36,
        "seconds": 2.6,
    }
    file = io.StringIO()
    Console(file=file, width=100).print(result_table(row | changes))
    cells = [line.strip("│┃ ").split("│") for line in file.getvalue().splitlines() if "│" in line]
    return {label.strip(): value.strip() for label, value in cells}


def test_accuracy() -> None:
    assert printed() == {
        "test accuracy, last epoch": "50.0 %",
        "mean of the last 4 epochs": "25.0 %",
        "best noisy-validation epoch": "75.0 %",
        "best epoch (oracle: chosen on the test set)": "100.0 %",
        "right labels, all training samples": "62.5 %",
        "realized noise rate, training samples": "37.5 %",
        "epochs, optimizer steps, seconds": "4, 36, 3",
    }


def test_r2() -> None:
    lines = printed(metric="r2", epochs=60)
    assert lines["test R², last epoch"] == "0.500"
    assert lines["mean of the last 10 epochs"] == "0.250"
    assert "test accuracy, last epoch" not in lines


def test_lines_that_some_runs_have() -> None:
    lines = printed(selection_precision=0.875, transition={"T": [], "error": 0.0625})
    assert lines["right labels, selected in the last epoch"] == "87.5 %"
    assert lines["T as used, off by (total variation)"] == "6.2 %"
    assert "T as used, off by (total variation)" not in printed(transition={"T": []})


def test_unknown_numbers() -> None:
    lines = printed(data={"val_samples": 0}, pool_precision=None, noise={"training_rate": None})
    assert lines["best noisy-validation epoch"] == "n/a: no validation split"
    assert lines["right labels, all training samples"] == lines["realized noise rate, training samples"] == "n/a"


def test_a_run_that_diverged_says_so_first() -> None:
    lines = printed(
        diverged={"epoch": 3, "step": 120, "message": "the run has diverged"},
        test_acc={"last": None, "last_10": None, "best_val": 0.75, "best_oracle": 1.0},
    )
    assert next(iter(lines.items())) == ("DIVERGED", "epoch 3, step 120")
    assert lines["test accuracy, last epoch"] == "n/a"
    assert lines["best noisy-validation epoch"] == "75.0 %"


def test_warnings_stand_in_the_table() -> None:
    assert printed(warnings=["ramp [x] is longer"])["warning"] == "ramp [x] is longer"


def test_brackets_in_the_name_are_no_markup() -> None:
    file = io.StringIO()
    row = {"name": "run [1] [/x] [bold]", "metric": "acc", "test_acc": dict.fromkeys(("last", "last_10"), 0.5)}
    row["test_acc"] |= {"best_val": 0.5, "best_oracle": 0.5}
    rest = {"data": {"val_samples": 1}, "epochs": 1, "steps": 1, "seconds": 1.0, "diverged": None, "warnings": []}
    rates = {"selection_precision": None, "pool_precision": None, "noise": {"training_rate": None}}
    Console(file=file, width=100).print(result_table(row | rest | rates))
    assert "run [1] [/x] [bold]" in file.getvalue()
