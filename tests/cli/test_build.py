"""The parts of a fit, and methods that do not fit the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from hydra.utils import instantiate
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from noisylabels_pl.cli.build import SUGGESTED_METHODS, build_trainer, check_method, close_wandb, task_of, to_json
from noisylabels_pl.cli.checkpoints import AtomicCheckpointIO, Checkpoints
from noisylabels_pl.core import TASKS
from noisylabels_pl.data import Diabetes
from tests.helpers import composed, options

Make = Callable[..., Any]


def made(method: str) -> Any:
    return instantiate(composed(f"method={method}").method, _convert_="all")


def test_the_task_follows_from_the_targets(digits: Make) -> None:
    assert task_of(digits()) == "classification"
    diabetes = Diabetes()
    diabetes.setup()
    assert task_of(diabetes) == "regression"


@pytest.mark.parametrize(("task", "method"), [(task, name) for task in TASKS for name in SUGGESTED_METHODS[task]])
def test_suggested_methods_exist_and_fit(task: str, method: str) -> None:
    assert method in options("method")
    check_method(made(method), task)


@pytest.mark.parametrize(
    ("method", "task", "message"),
    [
        ("ce", "regression", "CrossEntropyLoss is for classification, but the data is for regression; take a method"),
        ("gce", "regression", "GCELoss is for classification"),
        ("crust", "regression", "Crust is for classification"),
        ("forward", "regression", "ForwardCorrection is for classification"),
        ("elr_plus", "regression", "ELRPlus is for classification"),
        ("mse", "classification", "MSELoss is for regression, but the data is for classification; .* ce, crust, elr"),
    ],
)
def test_methods_that_do_not_fit(method: str, task: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_method(made(method), task)


def test_a_loss_of_unknown_purpose_is_accepted_for_any_task() -> None:
    for task in TASKS:
        check_method(nn.KLDivLoss(), task)


def test_a_stage_may_have_its_own_length_and_monitor(digits: Make, tmp_path: Path) -> None:
    config = composed("logger=tensorboard", f"logger.tensorboard.save_dir={tmp_path}", "trainer=cpu", "method=ce")
    experiment = build_trainer(
        config, tmp_path, digits(), nn.CrossEntropyLoss(), is_last=False, max_epochs=2, monitor="val/loss"
    )
    assert experiment.trainer.max_epochs == 2
    assert not experiment.trainer.loggers
    assert experiment.history.path == tmp_path / "metrics.csv"
    (checkpoints,) = experiment.trainer.checkpoint_callbacks
    assert isinstance(checkpoints, Checkpoints)
    assert (checkpoints.monitor, checkpoints.always_best) == ("val/loss", True)


def test_without_validation_there_is_no_best_checkpoint(digits: Make, tmp_path: Path) -> None:
    config = composed("trainer=cpu", "method=ce")
    experiment = build_trainer(config, tmp_path, digits(val_fraction=0), nn.CrossEntropyLoss())
    (checkpoints,) = experiment.trainer.checkpoint_callbacks
    assert isinstance(checkpoints, Checkpoints)
    assert checkpoints.monitor is None
    assert experiment.trainer.max_epochs == config.trainer.max_epochs


def test_plugins_of_the_configuration_are_kept(digits: Make, tmp_path: Path) -> None:
    plugin = "{_target_: lightning.pytorch.plugins.environments.LightningEnvironment}"
    for plugins in (plugin, f"[{plugin}]"):
        config = composed("trainer=cpu", "method=ce", f"+trainer.plugins={plugins}")
        strategy = build_trainer(config, tmp_path, digits(), nn.CrossEntropyLoss()).trainer.strategy
        assert isinstance(strategy.checkpoint_io, AtomicCheckpointIO)
    connector = build_trainer(config, tmp_path, digits(), nn.CrossEntropyLoss()).trainer._accelerator_connector
    assert isinstance(connector.cluster_environment, LightningEnvironment)


@pytest.mark.parametrize("method", ["crust", L.LightningModule()], ids=["a name", "a module"])
def test_things_that_are_no_methods(digits: Make, tmp_path: Path, method: Any) -> None:
    with pytest.raises(TypeError, match="a method is a criterion, a callback, or a module class with _partial_: true"):
        build_trainer(composed("trainer=cpu"), tmp_path, digits(), method)


def test_an_unknown_backend_is_refused(digits: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"compile must be one of .*, got 'fast'"):
        build_trainer(composed("trainer=cpu", "compile=fast"), tmp_path, digits(), nn.CrossEntropyLoss())


def test_only_wandb_is_closed(make_trainer: Make) -> None:
    close_wandb(make_trainer(logger=True))


def test_the_configuration_as_json() -> None:
    config = composed("seed=3")
    assert to_json(config)["data"]["seed"] == 3
    assert list(to_json(config)) == list(config)
