"""ELR: its targets through a fit, and what it does to memorization on real digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from noisylabels_pl import ELR
from noisylabels_pl.callbacks import History, LabelQuality

Make = Callable[..., Any]


def fit(digits: Make, classifier: Make, make_trainer: Make, *callbacks: L.Callback, **options: Any) -> History:
    datamodule, history = digits(train_size=1000), History()
    quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
    trainer = make_trainer(*callbacks, quality, history, **({"max_epochs": 30} | options))
    trainer.fit(classifier(), datamodule=datamodule)
    return history


def test_it_keeps_wrong_labels_from_being_memorized(digits: Make, classifier: Make, make_trainer: Make) -> None:
    plain = fit(digits, classifier, make_trainer).rows[-1]
    regularized = fit(digits, classifier, make_trainer, ELR(lam=3.0, beta=0.7)).rows[-1]
    assert regularized["train/memorized"] < 0.5 * plain["train/memorized"]
    assert regularized["test/acc"] > plain["test/acc"] + 0.05
    assert regularized["train/loss"] < 0  # as in the paper: the penalty has no lower bound but the clamp's


def test_targets_say_which_labels_are_wrong(digits: Make, classifier: Make, make_trainer: Make) -> None:
    method, datamodule = ELR(lam=3.0, beta=0.7), digits(train_size=1000)
    make_trainer(method, max_epochs=30).fit(classifier(), datamodule=datamodule)
    targets: Tensor = method.targets.rows
    torch.testing.assert_close(targets.sum(1), torch.full((len(targets),), 1 - 0.7**30))
    right = targets.argmax(1) == datamodule.clean_targets
    observed = datamodule.labels.observed[datamodule.train_indices] == datamodule.clean_targets
    assert right.double().mean() > observed.double().mean() + 0.2


def test_without_a_penalty_it_is_cross_entropy(digits: Make, classifier: Make, make_trainer: Make) -> None:
    histories = [fit(digits, classifier, make_trainer, *callbacks, max_epochs=3) for callbacks in ([ELR(lam=0.0)], [])]
    for name in ("train/loss", "test/acc"):
        assert histories[0].column(name) == pytest.approx(histories[1].column(name), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "lam must not be negative, got -1.0"),
        ({"beta": 1.0}, r"beta must lie in \[0, 1\), got 1.0"),
        ({"penalty": "l2"}, "penalty must be one of log, kl, got 'l2'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ELR(**options)
