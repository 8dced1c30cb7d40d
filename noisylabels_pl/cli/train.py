"""From a configuration to fitted networks; nothing here depends on how the configuration was composed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from noisylabels_pl.callbacks import History, LabelQuality, ProgressBar
from noisylabels_pl.core import (
    REGRESSION_LOSSES,
    TASKS,
    Artifacts,
    Stage,
    StagedMethod,
    Supervised,
    check_task,
    run_stages,
)
from noisylabels_pl.core.task import TaskName
from noisylabels_pl.data import NoisyDataModule, NoisyLabels
from noisylabels_pl.functional import check_choice

# What torch's losses are for; ours say it themselves.
_TASKS = dict.fromkeys((nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss), ("classification",))
_TASKS |= dict.fromkeys(REGRESSION_LOSSES, ("regression",))


@dataclass
class Experiment:
    """One fit and what it needs."""

    datamodule: NoisyDataModule
    module: L.LightningModule
    trainer: L.Trainer
    history: History
    artifacts: Artifacts = field(default_factory=dict)  # of all stages


def train(config: DictConfig, folder: Path, callbacks: Sequence[L.Callback] = ()) -> Experiment:
    """Fit all stages of the configured method; most have one.

    Args:
        config: composed from ``conf/``.
        folder: of the run. Stages before the last one get a folder of their own name in it.
        callbacks: besides those that every run has.

    Returns:
        The last stage.
    """
    if config.resume is not None and not Path(config.resume).is_file():
        raise FileNotFoundError(f"resume: there is no checkpoint {Path(config.resume).resolve()}")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=True, verbose=False)
    datamodule: NoisyDataModule = instantiate(config.data, noise=instantiate(config.noise, _convert_="all"))
    datamodule.setup()
    check_choice("monitor", config.monitor, (f"val/{TASKS[task_of(datamodule)].metric}", "val/loss"))
    method = instantiate(config.method, _convert_="all")
    staged = isinstance(method, StagedMethod)
    if staged:
        check_task(type(method).__name__, method.tasks, task_of(datamodule))
    stages = method.stages() if staged else [Stage("fit", lambda artifacts: method)]
    given = {name: _known(datamodule.labels, name) for name in (method.reveals if staged else ())}
    folders = {stage.name: folder if stage is stages[-1] else folder / stage.name for stage in stages}
    checkpoints = {name: own / "checkpoints" / "last.ckpt" for name, own in folders.items()}
    if len(stages) > 1:
        _check_stages(config.resume, list(checkpoints.values()))
    fitted: list[Experiment] = []

    def fit(stage: Stage, artifacts: Artifacts) -> tuple[L.Trainer, L.LightningModule]:
        is_last, own = stage is stages[-1], folders[stage.name]
        own.mkdir(parents=True, exist_ok=True)
        # The same seed for every stage: what differs is what the stages before handed on, also after a resume.
        L.seed_everything(config.seed, workers=True, verbose=False)
        method = stage.method(artifacts)
        options: dict[str, Any] = {"max_epochs": stage.max_epochs, "monitor": stage.monitor}
        experiment = build_trainer(config, own, datamodule, method, callbacks, log=is_last, **options)
        stage.initialize(experiment.module, artifacts)
        if experiment.trainer.is_global_zero:
            OmegaConf.save(config, folder / "config.yaml", resolve=True)
            datamodule.labels.save(folder / "noise.npz")
        checkpoint = config.resume
        if checkpoint is not None and len(stages) > 1:
            checkpoint = checkpoints[stage.name] if checkpoints[stage.name].is_file() else None
        try:
            experiment.trainer.fit(experiment.module, datamodule=datamodule, ckpt_path=checkpoint)
        except BaseException:
            close_wandb(experiment.trainer)
            raise
        fitted[:] = [experiment]
        return experiment.trainer, experiment.module

    artifacts = run_stages(stages, folder, fit, resume=config.resume is not None, given=given)
    return replace(fitted[-1], artifacts=artifacts)


def build_trainer(
    config: DictConfig,
    folder: Path,
    datamodule: NoisyDataModule,
    method: Any,
    callbacks: Sequence[L.Callback] = (),
    *,
    log: bool = True,
    max_epochs: int | None = None,
    monitor: str | None = None,
) -> Experiment:
    """Everything that a fit needs.

    Args:
        config: composed from ``conf/``.
        folder: where checkpoints and the CSV file go.
        datamodule: after ``setup()``.
        method: a criterion, a callback, or a module class with its own options bound.
        callbacks: besides those that every run has.
        log: whether to log to W&B and its like, too.
        max_epochs: in place of the configured ones.
        monitor: in place of the configured one.
    """
    module = _make_module(config, datamodule, method)
    own = [method] if isinstance(method, L.Callback) else []
    csv_name = config.logger.get("csv")
    history = History(folder / csv_name if csv_name else None, TASKS[task_of(datamodule)].metric)
    if datamodule.clean_targets is not None:
        observed = datamodule.labels.observed[datamodule.train_indices]
        own.append(LabelQuality(datamodule.clean_targets, observed))
    own += [
        *callbacks,
        history,
        *_checkpoints(folder, (monitor or config.monitor) if len(datamodule.val_indices) else None),
    ]
    show_progress = sys.stdout.isatty()
    if show_progress:
        own.append(ProgressBar())
    loggers = [instantiate(logger) for name, logger in config.logger.items() if name != "csv" and log]
    for logger in loggers:
        logger.log_hyperparams(to_json(config))
    trainer = instantiate(
        config.trainer,
        max_epochs=config.trainer.max_epochs if max_epochs is None else max_epochs,
        callbacks=own,
        logger=loggers or False,
        default_root_dir=str(folder),
        enable_progress_bar=show_progress,
    )
    return Experiment(datamodule, module, trainer, history)


def _make_module(config: DictConfig, datamodule: NoisyDataModule, method: Any) -> L.LightningModule:
    """The method's own module, or a classifier with it as criterion or beside it as a callback."""
    if not isinstance(method, (nn.Module, L.Callback, partial)) or isinstance(method, L.LightningModule):
        raise TypeError(
            f"a method is a criterion, a callback, or a module class with _partial_: true in its YAML, got {method!r}"
        )
    task, outputs = task_of(datamodule), datamodule.arrays.num_outputs
    if config.compile:
        backend = "inductor" if config.compile is True else config.compile
        check_choice("compile", backend, torch.compiler.list_backends(exclude_tags=()))

    def make_net() -> nn.Module:
        net: nn.Module = instantiate(config.net, input_shape=datamodule.input_shape, num_classes=outputs)
        if config.channels_last:
            net.to(memory_format=torch.channels_last)
        if config.compile:
            net.compile(backend=backend)
        return net

    parts: dict[str, Any] = {
        "optimizer": instantiate(config.optim),
        "scheduler": instantiate(config.schedule),
    }
    if isinstance(method, partial):
        if task != "classification":
            parts["task"] = task
        module: L.LightningModule = method(make_net, outputs, **parts)
        return module
    check_task(type(method).__name__, getattr(method, "tasks", _TASKS.get(type(method), (task,))), task)
    return Supervised(
        make_net(), TASKS[task](outputs), criterion=method if isinstance(method, nn.Module) else None, **parts
    )


def task_of(datamodule: NoisyDataModule) -> TaskName:
    """What a dataset's targets are for."""
    return "regression" if datamodule.arrays.is_regression else "classification"


def _known(labels: NoisyLabels, name: str) -> Tensor:
    check_choice("reveals", name, ("T",))
    value: Tensor | None = getattr(labels, name)
    if value is None:
        raise ValueError(f"this run's noise has no {name} that could be told; configure a noise, or estimate {name}")
    return value


def _check_stages(resume: str | None, checkpoints: Sequence[Path]) -> None:
    """A run of several stages goes on in its own folder; a new one takes nothing of an older one."""
    if resume is None:
        for checkpoint in checkpoints:
            checkpoint.unlink(missing_ok=True)
    elif Path(resume).resolve() not in [checkpoint.resolve() for checkpoint in checkpoints]:
        raise ValueError(
            f"resume={resume} is not the last.ckpt of a stage of this run; a method of several stages goes on in its "
            "own folder: resume=FOLDER/checkpoints/last.ckpt hydra.run.dir=FOLDER"
        )


def _checkpoints(folder: Path, monitor: str | None) -> list[ModelCheckpoint]:
    """``last.ckpt`` and, given something to monitor, ``best.ckpt``."""
    common: dict[str, Any] = {
        "dirpath": folder / "checkpoints",
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
    }
    checkpoints = [ModelCheckpoint(filename="last", **common)]
    if monitor is not None:
        mode = "min" if monitor.endswith("loss") else "max"
        checkpoints.append(ModelCheckpoint(filename="best", monitor=monitor, mode=mode, **common))
    return checkpoints


def close_wandb(trainer: L.Trainer) -> None:
    """So that the next job of a sweep is a run of its own."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()


def to_json(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as JSON types."""
    container = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}
