"""The five numbers of a run, and metrics that survive a resume."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from noisylabels_pl.callbacks import History

Make = Callable[..., Any]


def history(test: list[float], **watched: list[float]) -> History:
    made = History()
    for epoch, accuracy in enumerate(test):
        extra = {name.replace("_", "/"): values[epoch] for name, values in watched.items()}
        made.rows.append({"epoch": epoch, "test/acc": accuracy, **extra})
    return made


def test_five_numbers_by_hand() -> None:
    test = [0.1 * epoch for epoch in range(12)]
    test[3] = 2.0
    numbers = history(test, val_acc=[0, 0, 5, 1, 1, 1, 5, 1, 1, 1, 1, 1]).five_numbers()
    assert numbers == {
        "last": pytest.approx(1.1),
        "last_10": pytest.approx((0.2 + 2.0 + sum(0.1 * epoch for epoch in range(4, 12))) / 10),
        "best_val": pytest.approx(0.2),  # the first of two equally good epochs
        "label_wave": None,
        "best_oracle": 2.0,
    }


def test_the_lowest_validation_loss_can_choose() -> None:
    numbers = history([0.1, 0.2, 0.3], val_loss=[3.0, 1.0, 2.0]).five_numbers("val/loss")
    assert numbers["best_val"] == 0.2


def test_changed_predictions_choose_without_validation() -> None:
    changed = [9.0, 5.0, 5.0, 2.0, 2.0, 8.0, 1.0]
    rows = history([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], train_changed=changed).rows
    del rows[0]["train/changed"]  # nothing to compare with
    made = History()
    made.rows = rows
    assert made.five_numbers()["label_wave"] == 0.5  # averages 4, 3, 4
    made.rows = rows[:4]
    assert made.five_numbers()["label_wave"] == 0.4  # not stopped yet
    made.rows = rows[:2]
    assert made.five_numbers()["label_wave"] == 0.2


def test_without_validation_there_is_no_best() -> None:
    assert history([0.1, 0.2]).five_numbers()["best_val"] is None
    assert set(History().five_numbers().values()) == {None}


def test_rows_and_file_survive_a_resume(digits: Make, classifier: Make, make_trainer: Make, tmp_path: Path) -> None:
    first, second = History(tmp_path / "metrics.csv"), History(tmp_path / "metrics.csv")
    checkpoint = ModelCheckpoint(tmp_path, "last")
    make_trainer(first, checkpoint, enable_checkpointing=True, max_epochs=2).fit(classifier(), datamodule=digits())
    make_trainer(second, max_epochs=4).fit(classifier(), datamodule=digits(), ckpt_path=tmp_path / "last.ckpt")
    assert second.column("epoch") == [0, 1, 2, 3]
    assert second.rows[:2] == first.rows
    steps = len(digits().train_dataloader())
    assert second.column("step") == [steps * epoch for epoch in (1, 2, 3, 4)]
    with (tmp_path / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(row["test/acc"]) for row in written] == second.column("test/acc")


def test_an_epoch_that_was_not_evaluated_has_no_old_numbers(digits: Make, classifier: Make, make_trainer: Make) -> None:
    kept = History()
    datamodule = digits()
    steps = len(datamodule.train_dataloader())
    make_trainer(kept, max_steps=2 * steps + 1, max_epochs=9).fit(classifier(), datamodule=datamodule)
    accuracy = kept.column("test/acc")
    assert len(accuracy) == 3
    assert accuracy[2] is None
    assert kept.rows[2]["train/loss"] > 0
    assert kept.five_numbers()["last"] == accuracy[1]


def test_the_last_number_is_what_the_trainer_tests(digits: Make, classifier: Make, make_trainer: Make) -> None:
    kept, module, datamodule = History(), classifier(), digits()
    trainer = make_trainer(kept, max_epochs=2)
    trainer.fit(module, datamodule=datamodule)
    (tested,) = trainer.test(module, datamodule=datamodule, verbose=False)
    assert tested["test/acc"] == pytest.approx(kept.five_numbers()["last"])
    assert tested["test/loss"] == pytest.approx(kept.rows[-1]["test/loss"])
