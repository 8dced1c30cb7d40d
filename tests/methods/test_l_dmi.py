"""L_DMI: its two stages, and what they hand on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noisylabels_pl import LDMI, Crust, LDMILoss, RobustLoss
from noisylabels_pl.cli.train import train
from tests.core.combined import fit
from tests.helpers import composed

Make = Callable[..., Any]
SHORT = ("method=l_dmi", "trainer=cpu", "logger=none", "trainer.max_epochs=4", "data.train_size=600", "progress=false")


def test_the_second_stage_starts_from_the_best_weights_of_the_first(tmp_path: Path) -> None:
    experiment = train(composed(*SHORT, "method.lr=1e-30", "optim=sgd"), tmp_path)
    best = torch.load(tmp_path / "cross_entropy" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert experiment.trainer.optimizers[0].param_groups[0]["initial_lr"] == 1e-30
    assert isinstance(experiment.module.criterion, LDMILoss)
    for name, value in experiment.module.net.state_dict().items():
        torch.testing.assert_close(value, best[f"net.{name}"])


def test_it_raises_the_mutual_information(tmp_path: Path) -> None:
    experiment = train(composed(*SHORT, "method.lr=0.01", "data.batch_size=128"), tmp_path)
    losses = experiment.history.column("train/loss")
    assert losses[-1] < losses[0]
    assert experiment.history.column("test/acc")[-1] > 0.5


def test_its_stages_and_options() -> None:
    first, second = LDMI(lr=None).stages()
    assert isinstance(first.method({}), nn.CrossEntropyLoss)
    assert first.monitor == "val/loss"
    assert second.method({}).eps == 1e-3
    with pytest.raises(ValueError, match="lr must be positive, got 0"):
        LDMI(lr=0)
    with pytest.raises(ValueError, match="eps must be positive, got -1"):
        LDMI(eps=-1)


def test_a_loss_of_a_whole_batch_is_refused_where_samples_are_weighted(digits: Make, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match="LDMILoss has one value for a whole batch, not one for each sample; leave"):
        fit(digits, make_trainer, RobustLoss(LDMILoss()), Crust(warmup_epochs=1))
    fit(digits, make_trainer, RobustLoss(LDMILoss()), Crust(warmup_epochs=1, partner="none"))  # changes no loss
