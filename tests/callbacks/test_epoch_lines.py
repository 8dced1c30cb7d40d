"""The lines of a log without a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from noisylabels_pl.callbacks import EpochLines

Make = Callable[..., Any]


def test_a_line_for_each_epoch(
    digits: Make, classifier: Make, make_trainer: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer(EpochLines("corrected"), max_epochs=2).fit(classifier(), datamodule=digits())
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert len(lines) == 2
    number = r"\d\.\d{4}"
    for epoch, line in enumerate(lines, start=1):
        metrics = f"train/loss {number}, val/acc {number}, test/acc {number}"
        assert re.fullmatch(rf"corrected, epoch {epoch}/2: {metrics}, \d+ s left", line)


def test_an_endless_fit_has_no_time_left(
    digits: Make, classifier: Make, make_trainer: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer(EpochLines(), max_epochs=-1, max_steps=9).fit(classifier(), datamodule=digits())
    assert re.search(r"^epoch 1: (?!.*left)", capsys.readouterr().out, re.MULTILINE)
