"""One run: build what the configuration says, fit it, write down what came out."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from noisylabels_pl.callbacks import History, LabelQuality, ProgressBar
from noisylabels_pl.core import Classifier
from noisylabels_pl.data import NoisyDataModule
from noisylabels_pl.functional import check_choice
from noisylabels_pl.report.curves import draw_curves
from noisylabels_pl.report.result import make_result
from noisylabels_pl.report.table import result_table

_MISTAKES = (ValueError, TypeError, OSError)  # what this library raises for a setting that is wrong


@dataclass
class Experiment:
    """What :func:`build` makes of a configuration."""

    datamodule: NoisyDataModule
    module: L.LightningModule
    trainer: L.Trainer
    history: History


def run(config: DictConfig) -> float | None:
    """Train and report.

    Returns:
        What a sweeper may maximise without looking at the test set: the best accuracy on the noisy validation split;
        ``None`` without one.
    """
    _quieten()
    if config.name is None:
        config.name = _name(config)
    try:
        return _fit_and_report(config, Path(HydraConfig.get().runtime.output_dir))
    except (InstantiationException, OmegaConfBaseException, MisconfigurationException, *_MISTAKES) as error:
        # A sweep goes on with its next job, and developers want the traceback.
        if HydraConfig.get().mode == RunMode.MULTIRUN or "HYDRA_FULL_ERROR" in os.environ:
            raise
        sys.exit(f"error: {_root_cause(error)}\n(HYDRA_FULL_ERROR=1 shows where)")


def _fit_and_report(config: DictConfig, folder: Path) -> float | None:
    experiment = build(config, folder)
    if experiment.trainer.is_global_zero:
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
        experiment.datamodule.labels.save(folder / "noise.npz")
    try:
        experiment.trainer.fit(experiment.module, datamodule=experiment.datamodule, ckpt_path=config.resume)
    except SystemExit:  # what Lightning makes of Ctrl-C
        if experiment.trainer.is_global_zero:
            _explain_resume(folder / "checkpoints" / "last.ckpt")
        sys.exit(130)  # as shells report an interrupt
    else:
        if experiment.trainer.is_global_zero:
            report(experiment, config, folder)
    finally:
        for logger in experiment.trainer.loggers:
            if isinstance(logger, WandbLogger) and experiment.trainer.is_global_zero:
                logger.experiment.finish()  # so that the next job of a sweep is a run of its own
    validation = [value for value in experiment.history.column("val/acc") if value is not None]
    return max(validation, default=None)


def build(config: DictConfig, folder: Path) -> Experiment:
    """Everything that a fit needs.

    Args:
        config: composed from ``conf/``.
        folder: where checkpoints go.
    """
    check_choice("monitor", config.monitor, ("val/acc", "val/loss"))
    _check_strategy(str(config.trainer.get("strategy")))
    if config.resume is not None and not Path(config.resume).is_file():
        raise FileNotFoundError(f"resume: there is no checkpoint {Path(config.resume).resolve()}")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=True, verbose=False)
    datamodule: NoisyDataModule = instantiate(config.data, noise=instantiate(config.noise, _convert_="all"))
    datamodule.setup()
    method = instantiate(config.method, _convert_="all")
    is_callback = isinstance(method, L.Callback)
    module = Classifier(
        instantiate(config.net, input_shape=datamodule.input_shape, num_classes=datamodule.arrays.num_classes),
        num_classes=datamodule.arrays.num_classes,
        optimizer=instantiate(config.optim),
        scheduler=instantiate(config.schedule),
        criterion=None if is_callback else method,
    )
    csv_name = config.logger.get("csv")
    history = History(folder / csv_name if csv_name else None)
    callbacks: list[L.Callback] = [method] if is_callback else []
    if datamodule.clean_targets is not None:
        observed = datamodule.labels.observed[datamodule.train_indices]
        callbacks.append(LabelQuality(datamodule.clean_targets, observed))
    callbacks += [history, *_checkpoints(folder, config.monitor if len(datamodule.val_indices) else None)]
    show_progress = sys.stdout.isatty()
    if show_progress:
        callbacks.append(ProgressBar())
    loggers = [instantiate(logger) for name, logger in config.logger.items() if name != "csv"]
    for logger in loggers:
        logger.log_hyperparams(_plain(config))
    trainer = instantiate(
        config.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        default_root_dir=str(folder),
        enable_progress_bar=show_progress,
    )
    return Experiment(datamodule, module, trainer, history)


def report(experiment: Experiment, config: DictConfig, folder: Path) -> None:
    """Write ``result.json`` and ``curves.png``, print the table, and hand both to W&B if it is there."""
    name = f"{config.name}, seed {config.seed}"
    result = make_result(name, _plain(config), experiment.datamodule, experiment.history, config.monitor)
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    draw_curves(result["history"], name, folder / "curves.png", result["pool_precision"])
    console = Console()
    console.print(result_table(result))
    console.print(f"Files: {folder}", soft_wrap=True, highlight=False, markup=False)
    for logger in experiment.trainer.loggers:
        if isinstance(logger, WandbLogger):
            _publish(logger, result, folder)


def _publish(logger: WandbLogger, result: dict[str, Any], folder: Path) -> None:
    import wandb

    run = logger.experiment
    run.summary.update({f"test_accuracy/{name}": value for name, value in result["test_accuracy"].items()})
    artifact = wandb.Artifact(f"result-{run.id}", type="result")
    artifact.add_file(str(folder / "result.json"))
    run.log_artifact(artifact)
    run.log({"curves": wandb.Image(str(folder / "curves.png"))})


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


def _check_strategy(strategy: str) -> None:
    """Refuse what would hang or lose its results."""
    if "spawn" in strategy or "fork" in strategy:
        raise ValueError(f"trainer.strategy={strategy} leaves the metrics in processes that end; use ddp")
    hydra = HydraConfig.get()
    if strategy == "ddp" and hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_.endswith("BasicLauncher"):
        raise ValueError(
            "each process of strategy=ddp would start the whole sweep again; start the runs one by one from a shell "
            "loop, or with a launcher that gives each a process of its own, such as hydra/launcher=submitit_slurm"
        )


def _name(config: DictConfig) -> str:
    chosen = HydraConfig.get().runtime.choices
    rate = config.noise.get("rate")
    return f"{chosen['method']} on {chosen['data']}, {chosen['noise']}" + ("" if rate is None else f" {rate}")


def _explain_resume(checkpoint: Path) -> None:
    if checkpoint.is_file():
        sources = HydraConfig.get().runtime.config_sources
        searched = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
        overrides = [item for item in HydraConfig.get().overrides.task if not item.startswith("resume=")]
        folder = checkpoint.parent.parent
        command = shlex.join(
            ["python", "-m", "noisylabels_pl", *searched, *overrides, f"resume={checkpoint}", f"hydra.run.dir={folder}"]
        )
        message = f"The last finished epoch is saved. To go on from there:\n  {command}"
    else:
        message = "No epoch was finished, so there is nothing to resume from."
    Console(stderr=True).print(message, soft_wrap=True, highlight=False, markup=False)


def _plain(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}


def _root_cause(error: BaseException) -> BaseException:
    """What went wrong, without Hydra's account of where."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _quieten() -> None:
    """Lightning's start-up messages and its advice on things that are meant here."""
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")  # after a resume
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # inside Lightning, on the newest torch
