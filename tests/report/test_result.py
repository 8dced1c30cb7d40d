"""The result row of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from noisylabels_pl.callbacks import DivergedError, History
from noisylabels_pl.data import Diabetes
from noisylabels_pl.report.result import make_result

Make = Callable[..., Any]
CONFIG = {"method": {"_target_": "noisylabels_pl.CoPRL", "_partial_": True, "forget_rate": 0.2}, "seed": 0}
NAMES = {"method": "co_prl_l", "data": "digits", "noise": "sym", "net": "mlp", "optim": "sgd"}


def made(datamodule: Any, history: History, names: Any = NAMES, monitor: str = "val/acc") -> dict[str, Any]:
    row = make_result("a run", CONFIG, datamodule, history, monitor, names)
    assert json.loads(json.dumps(row)) == row
    return row


def history(metric: str = "acc", **columns: list[Any]) -> History:
    kept = History(metric=metric)
    kept.rows = [{"epoch": 0, "step": 9, "seconds": 2.0}, {"epoch": 1, "step": 18, "seconds": 1.5}]
    for name, values in columns.items():
        for row, value in zip(kept.rows, values, strict=True):
            if value is not None:
                row[name.replace("_", "/", 1)] = value
    return kept


def test_names_and_options(digits: Make) -> None:
    row = made(digits(), history())
    assert (row["method"], row["net"], row["data"]["name"], row["noise"]["name"]) == (
        "co_prl_l",
        "mlp",
        "digits",
        "sym",
    )
    assert row["method_options"] == {"forget_rate": 0.2}
    assert row["config"] == CONFIG


def test_without_hydra_there_are_no_names(digits: Make) -> None:
    row = made(digits(), history(), names={})
    assert row["method"] is row["net"] is row["data"]["name"] is row["noise"]["name"] is None
    assert row["method_options"] == {"forget_rate": 0.2}


def test_the_metric_has_one_name(digits: Make) -> None:
    row = made(digits(), history(test_acc=[0.5, 0.25], val_acc=[0.1, 0.3]))
    assert row["metric"] == "acc"
    assert row["test_acc"] == {"last": 0.25, "last_10": 0.375, "best_val": 0.25, "label_wave": None, "best_oracle": 0.5}
    assert row["history"]["test/acc"] == [0.5, 0.25]
    diabetes = Diabetes()
    diabetes.setup()
    row = made(diabetes, history("r2", test_r2=[0.5, 0.25], val_r2=[0.3, 0.1]), monitor="val/r2")
    assert row["metric"] == "r2"
    assert row["test_r2"]["best_val"] == 0.5
    assert row["monitor"] == "val/r2"
    assert row["noise"]["realized_T"] is None


def test_numbers_of_the_labels(digits: Make) -> None:
    datamodule = digits()
    row = made(datamodule, history())
    observed, clean = datamodule.labels.observed, datamodule.labels.clean
    assert row["noise"]["realized_rate"] == pytest.approx(float((observed != clean).double().mean()))
    is_right = (observed == clean)[datamodule.train_indices]
    assert row["pool_precision"] == pytest.approx(float(is_right.double().mean()))
    sizes = [row["data"][f"{split}_samples"] for split in ("train", "val", "test")]
    assert sizes == [270, 30, len(datamodule.arrays.y_test)]


def test_the_last_selection_counts(digits: Make) -> None:
    assert made(digits(), history(selection_precision=[0.5, 0.75]))["selection_precision"] == 0.75
    assert made(digits(), history(selection_precision=[0.5, None]))["selection_precision"] == 0.5
    assert made(digits(), history())["selection_precision"] is None


def test_epochs_steps_and_seconds(digits: Make) -> None:
    row = made(digits(), history())
    assert (row["epochs"], row["steps"], row["seconds"], row["seconds_per_epoch"]) == (2, 18, 3.5, [2.0, 1.5])
    row = made(digits(), History())
    assert (row["epochs"], row["steps"], row["seconds"]) == (0, 0, 0)


def test_where_the_run_was_made(digits: Make) -> None:
    row = made(digits(), history())
    assert row["versions"]["torch"] == version("torch")
    assert row["peak_memory_mib"]["process"] > 50
    assert row["commit"] is None or len(row["commit"].removesuffix("-dirty")) == 40


def test_a_diverged_run_has_no_last_epoch(digits: Make) -> None:
    kept = history(val_acc=[0.5, 0.25], test_acc=[0.75, 0.5])
    error = DivergedError("the training loss is nan", epoch=2, step=20)
    row = make_result("a run", CONFIG, digits(), kept, "val/acc", NAMES, diverged=error, warnings=["a ramp"])
    assert row["test_acc"] == {"last": None, "last_10": None, "best_val": 0.75, "label_wave": None, "best_oracle": 0.75}
    assert row["diverged"] == {"epoch": 2, "step": 20, "message": str(error)}
    assert row["warnings"] == ["a ramp"]
    assert row["best_epoch"] == 0
    assert made(digits(), kept)["diverged"] is None


def test_the_rate_of_the_training_split_is_beside_its_precision(digits: Make) -> None:
    row = made(digits(), history())
    assert row["noise"]["training_rate"] == pytest.approx(1 - row["pool_precision"])
    assert row["noise"]["training_rate"] != row["noise"]["realized_rate"]
