"""Builds the module and the Trainer of a fit from a composed configuration."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import get_object, instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from noisylabels_pl.callbacks import DivergedError, DivergenceCheck, EpochLines, History, LabelQuality, ProgressBar
from noisylabels_pl.cli.checkpoints import AtomicCheckpointIO, Checkpoints
from noisylabels_pl.cli.make_net import make_net
from noisylabels_pl.core import (
    REGRESSION_LOSSES,
    TASKS,
    Artifacts,
    CriterionCallback,
    RobustLoss,
    Supervised,
    check_task,
)
from noisylabels_pl.core.task import TaskName
from noisylabels_pl.data import NoisyDataModule

_CLASSIFICATION_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)

SINGLE_STAGE = "fit"
"""The name of the stage of a method that trains once."""

# Some options of conf/method, for the message that a method is not made for the task of the data.
SUGGESTED_METHODS = {
    "classification": ("ce", "crust", "elr", "forward", "prl_l", "co_prl_l"),
    "regression": ("mse", "huber", "prl_l", "prl_g", "co_prl_l"),
}


@dataclass
class Experiment:
    """A fit with all that it needs: data, module, Trainer and the metrics that it records.

    Attributes:
        datamodule: the data, after ``setup()``.
        module: the network with its loss.
        trainer: the Trainer.
        history: the metrics of all epochs.
        artifacts: the outputs of all stages of the method, such as an estimated transition matrix.
        diverged: the error that ended the fit, if it diverged.
    """

    datamodule: NoisyDataModule
    module: L.LightningModule
    trainer: L.Trainer
    history: History
    artifacts: Artifacts = field(default_factory=dict)
    diverged: DivergedError | None = None

    @property
    def warnings(self) -> list[str]:
        """Options that have no effect in this fit, such as a ramp that is longer than it."""
        parts = [self.datamodule, self.module, *self.trainer.callbacks]  # type: ignore[attr-defined]
        return [warning for part in parts for warning in getattr(part, "warnings", ())]


def build_trainer(
    config: DictConfig,
    folder: Path,
    datamodule: NoisyDataModule,
    method: Any,
    callbacks: Sequence[L.Callback] = (),
    *,
    stage: str = SINGLE_STAGE,
    is_last: bool = True,
    max_epochs: int | None = None,
    monitor: str | None = None,
) -> Experiment:
    """Build the module and the Trainer of a fit.

    Args:
        config: composed from ``conf/``.
        folder: for checkpoints and the CSV file.
        datamodule: after ``setup()``.
        method: a criterion, a callback, or a module class with its own options bound.
        callbacks: for the Trainer, besides those that every run has.
        stage: name of the stage that is fitted, for its checkpoints and the lines of progress.
        is_last: whether this is the run's last fit. Only that uses the configured loggers, such as W&B; the CSV file
            is written in any case. An earlier fit keeps its best epoch in any case, because the next may need it.
        max_epochs: used instead of ``config.trainer.max_epochs``, if given.
        monitor: used instead of ``config.monitor``, if given.

    Returns:
        All that the fit needs; nothing is trained.
    """
    module = _make_module(config, datamodule, method, [c.loss for c in callbacks if isinstance(c, RobustLoss)])
    csv_path = None
    if config.logger.get("csv"):  # a file name, not a Lightning logger: the callback History writes this file
        csv_path = folder / config.logger.csv
    history = History(csv_path, TASKS[task_of(datamodule)].metric)

    # In this order: LabelQuality logs its metrics before History records those of the epoch.
    all_callbacks: list[L.Callback] = []
    if isinstance(method, L.Callback):
        all_callbacks.append(method)
    if datamodule.clean_targets is not None or not datamodule.arrays.is_regression:
        observed = datamodule.labels.observed[datamodule.train_indices]
        all_callbacks.append(LabelQuality(datamodule.clean_targets, observed))
    checkpoints = Checkpoints(
        folder / "checkpoints",
        saving=config.checkpoint,
        monitor=(monitor or config.monitor) if datamodule.num_validation else None,
        always_best=not is_last,
        run={"config": to_json(config), "stage": stage},
    )
    all_callbacks += [*callbacks, DivergenceCheck(), history, checkpoints]
    progress = config.progress
    if progress == "auto":
        progress = "bar" if sys.stdout.isatty() else "lines"
    if progress == "bar":
        all_callbacks.append(ProgressBar())
    elif progress == "lines":
        all_callbacks.append(EpochLines(None if stage == SINGLE_STAGE else stage))

    loggers = []
    if is_last:
        loggers = _make_loggers(config)
    if max_epochs is None:
        max_epochs = config.trainer.max_epochs
    plugins = _make_plugins(config)
    trainer_config = config.trainer.copy()
    with open_dict(trainer_config):
        trainer_config.pop("plugins", None)
    trainer = instantiate(
        trainer_config,
        max_epochs=max_epochs,
        callbacks=all_callbacks,
        plugins=[*plugins, AtomicCheckpointIO()],
        logger=loggers or False,
        default_root_dir=folder,  # not a string, in which OmegaConf would interpolate ${x}
        enable_progress_bar=progress == "bar",
    )
    return Experiment(datamodule, module, trainer, history)


def task_of(datamodule: NoisyDataModule) -> TaskName:
    """Return the task of a dataset, which follows from its targets: ``classification`` or ``regression``."""
    return "regression" if datamodule.arrays.is_regression else "classification"


def takes_loss(method: DictConfig) -> bool:
    """Return whether another loss can be put inside a configured method, as ``method.loss`` does.

    A loss that wraps another one takes it as an argument. A callback takes it, unless it has a loss of its own.
    """
    made = get_object(method._target_)
    if "loss" in inspect.signature(made).parameters:
        return True
    if not (isinstance(made, type) and issubclass(made, L.Callback)):
        return False
    return not (issubclass(made, CriterionCallback) and made.needs.role == "loss")


def make_method(config: DictConfig) -> tuple[Any, list[RobustLoss]]:
    """Return the configured method, and the callback that trains with ``method.loss``, if that names a loss.

    Args:
        config: composed from ``conf/``.

    Raises:
        ValueError: the method has a loss of its own.
    """
    options = config.method.copy()
    loss = options.get("loss")
    if loss is None:
        return instantiate(options, _convert_="all"), []
    if not takes_loss(options):
        name = options._target_.rpartition(".")[2]
        raise ValueError(
            f"method.loss puts a loss inside a callback, such as crust or prl_l, but {name} has a loss of its own; "
            "leave method.loss out"
        )
    if "loss" in inspect.signature(get_object(options._target_)).parameters:
        return instantiate(options, _convert_="all"), []
    with open_dict(options):
        del options["loss"]
    return instantiate(options, _convert_="all"), [RobustLoss(instantiate(loss, _convert_="all"))]


def check_method(method: Any, task: str) -> None:
    """Check that a method is made for a task.

    Args:
        method: a criterion, a callback, a staged method, or a module class with its own options bound.
        task: the task of the data.

    Raises:
        ValueError: the method is not made for the task; the message suggests some that are.
    """
    if isinstance(method, partial):
        method = method.func  # the module class
    name = getattr(method, "__name__", type(method).__name__)
    try:
        check_task(name, _tasks_of(method, unknown=(task,)), task)
    except ValueError as error:
        suggested = ", ".join(SUGGESTED_METHODS[task])
        raise ValueError(f"{error}; take a method for {task}, such as one of {suggested}") from error


def _tasks_of(method: Any, unknown: Sequence[str]) -> Sequence[str]:
    """Return the tasks that a method is made for, and ``unknown`` for a loss that does not say it."""
    if isinstance(method, CriterionCallback):
        return method.needs.tasks
    if hasattr(method, "tasks"):
        tasks: Sequence[str] = method.tasks
        return tasks
    if type(method) in _CLASSIFICATION_LOSSES:
        return ("classification",)
    if type(method) in REGRESSION_LOSSES:
        return ("regression",)
    return unknown


def close_wandb(trainer: L.Trainer) -> None:
    """Close the run of W&B, so that the next job of a sweep opens a run of its own."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()


def to_json(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as JSON types, with its interpolations resolved.

    Example:
        >>> to_json(OmegaConf.create({"seed": 3, "data": {"seed": "${seed}"}}))
        {'seed': 3, 'data': {'seed': 3}}
    """
    container = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}


def _make_module(
    config: DictConfig, datamodule: NoisyDataModule, method: Any, losses: Sequence[nn.Module]
) -> L.LightningModule:
    """Return the method's own module, or a :class:`Supervised` one for a method that is a criterion or a callback.

    ``losses`` are those that callbacks put in place of the module's own.
    """
    if not isinstance(method, (nn.Module, L.Callback, partial)) or isinstance(method, L.LightningModule):
        raise TypeError(
            f"a method is a criterion, a callback, or a module class with _partial_: true in its YAML, got {method!r}"
        )
    task = task_of(datamodule)
    check_method(method, task)
    num_outputs = datamodule.arrays.num_outputs
    # Both are still to be called: with the parameters, and with the optimizer.
    optimizer = instantiate(config.optim)
    scheduler = instantiate(config.schedule)
    if isinstance(method, partial):
        options: dict[str, Any] = {"optimizer": optimizer, "scheduler": scheduler}
        if task != "classification":  # a module class for classification alone need not take the argument
            options["task"] = task
        module: L.LightningModule = method(partial(make_net, config, datamodule), num_outputs, **options)
        return module
    net = make_net(config, datamodule)
    criterion = None
    if isinstance(method, nn.Module):
        criterion = method
        losses = [*losses, criterion]
    if any(getattr(part, "batch_norm", False) for loss in losses for part in loss.modules()):
        # Without a learned scale, which a loss that is linear in the logits would raise without end.
        net = nn.Sequential(net, nn.BatchNorm1d(num_outputs, affine=False))
    return Supervised(net, TASKS[task](num_outputs), optimizer, scheduler, criterion=criterion)


def _make_loggers(config: DictConfig) -> list[Logger]:
    """Return the configured Lightning loggers; each of them logs the configuration."""
    loggers = [instantiate(logger) for name, logger in config.logger.items() if name != "csv"]
    for logger in loggers:
        logger.log_hyperparams(to_json(config))
    return loggers


def _make_plugins(config: DictConfig) -> list[Any]:
    """Return the Lightning plugins that ``trainer.plugins`` names."""
    plugins = instantiate(config.trainer.get("plugins"), _convert_="all")
    if plugins is None:
        return []
    return plugins if isinstance(plugins, list) else [plugins]
