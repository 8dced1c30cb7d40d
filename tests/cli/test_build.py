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

from noisylabels_pl import Crust, GCELoss, LogitClip, RobustLoss
from noisylabels_pl.cli.build import (
    SUGGESTED_METHODS,
    build_trainer,
    check_method,
    close_wandb,
    make_method,
    takes_loss,
    task_of,
    to_json,
)
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


def test_a_loss_inside_a_callback_becomes_a_robust_loss() -> None:
    config = composed("method=crust", "method.loss=gce", "method.loss.q=0.5", "seed=3")
    method, callbacks = make_method(config)
    assert isinstance(method, Crust)
    assert method.seed == 3
    (callback,) = callbacks
    assert isinstance(callback, RobustLoss)
    assert callback.loss.q == 0.5
    assert make_method(composed("method=crust"))[1] == []


def test_a_loss_that_wraps_another_one_takes_it_as_an_argument() -> None:
    method, callbacks = make_method(composed("method=logit_clip", "method.loss=gce", "method.loss.q=0.5"))
    assert isinstance(method, LogitClip)
    assert isinstance(method.loss, GCELoss)
    assert method.loss.q == 0.5
    assert not callbacks
    assert isinstance(make_method(composed("method=logit_clip"))[0].loss, nn.CrossEntropyLoss)
    (inside,) = make_method(composed("method=crust", "method.loss=logit_clip", "method.loss.tau=2.0"))[1]
    assert inside.loss.tau == 2.0


@pytest.mark.parametrize("method", options("method"))
def test_which_methods_take_a_loss(method: str) -> None:
    takes = ("crust", "individual_clip", "logit_clip", "mentornet", "min_sgd", "mixup", "norm_clip")
    assert takes_loss(composed(f"method={method}").method) == method.startswith((*takes, "prl_", "spl"))


@pytest.mark.parametrize("method", ["ce", "gce", "elr", "gce_truncated", "co_teaching", "forward"])
def test_methods_with_a_loss_of_their_own_are_refused_another_one(method: str) -> None:
    with pytest.raises(
        ValueError, match=r"method\.loss puts a loss inside a callback, .* has a loss of its own; leave"
    ):
        make_method(composed(f"method={method}", "method.loss=sce"))


@pytest.mark.parametrize("overrides", [("method=unhinged",), ("method=mixup", "method.loss=unhinged")])
def test_a_loss_that_needs_bounded_logits_gets_a_norm_behind_the_network(
    digits: Make, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    config = composed(*overrides, "trainer=cpu", "progress=false")
    for batch_norm in (True, False):
        holder = config.method if "loss" not in config.method else config.method.loss
        holder.batch_norm = batch_norm
        method, callbacks = make_method(config)
        module = build_trainer(config, tmp_path, digits(), method, callbacks).module
        norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
        assert [norm.num_features for norm in norms] == [10] * batch_norm


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
