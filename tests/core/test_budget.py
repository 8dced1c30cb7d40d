"""Fits that are too short for their method."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from noisylabels_pl import CoTeaching, Crust, ELRPlus
from noisylabels_pl.nets import mlp

Make = Callable[..., Any]
STEPS = 9  # of an epoch of 270 samples
SGD = partial(torch.optim.SGD, lr=0.1)


def net() -> torch.nn.Module:
    return mlp((1, 8, 8), 10, hidden=(16,))


def test_a_warm_up_that_never_ends_is_refused(digits: Make, classifier: Make, make_trainer: Make) -> None:
    with pytest.raises(
        ValueError, match="Crust would never select samples: warmup_epochs=3 is no less than max_epochs=3"
    ):
        make_trainer(Crust(warmup_epochs=3), max_epochs=3).fit(classifier(), datamodule=digits())


def test_steps_may_end_a_fit_before_its_epochs(digits: Make, classifier: Make, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match="warmup_epochs=2 is no less than max_epochs=2"):
        make_trainer(Crust(warmup_epochs=2), max_epochs=50, max_steps=STEPS + 1).fit(classifier(), datamodule=digits())


def test_trying_the_code_is_not_refused(digits: Make, classifier: Make, make_trainer: Make) -> None:
    trainer = make_trainer(Crust(warmup_epochs=5), fast_dev_run=True)
    trainer.fit(classifier(), datamodule=digits())
    assert trainer.global_step == 1


def test_a_ramp_that_is_longer_than_the_fit_is_a_warning(digits: Make, make_trainer: Make) -> None:
    pair = CoTeaching(net, 10, SGD, forget_rate=0.2)
    with pytest.warns(UserWarning, match="ramp_epochs=10 is longer than the fit of 2 epochs: .* drops 0.04 of a batch"):
        make_trainer(max_epochs=2).fit(pair, datamodule=digits())
    (warning,) = pair.warnings
    assert warning.endswith("not forget_rate=0.2")


def test_ramps_that_count_steps(digits: Make, make_trainer: Make) -> None:
    pair = ELRPlus(net, 10, SGD, ema_ramp=1000, coef_ramp=STEPS)
    with pytest.warns(UserWarning, match=f"ema_ramp=1000 is longer than the fit of {STEPS} steps"):
        make_trainer(max_epochs=1).fit(pair, datamodule=digits())
    assert len(pair.warnings) == 1  # the ramp of the penalty ends with the fit


def test_a_fit_that_is_long_enough_has_no_warning(digits: Make, classifier: Make, make_trainer: Make) -> None:
    crust = Crust(warmup_epochs=1, mixup_start_epoch=1)
    make_trainer(crust, max_epochs=2).fit(classifier(), datamodule=digits())
    assert crust.warnings == []
    with pytest.warns(UserWarning, match="nothing is mixed: mixup_start_epoch=6"):
        make_trainer(Crust(warmup_epochs=1, mixup_start_epoch=6), max_epochs=2).fit(classifier(), datamodule=digits())
