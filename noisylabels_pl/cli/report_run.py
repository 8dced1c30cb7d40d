"""One job of Hydra: train what the configuration says, and tell the user what came out, or what went wrong."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from noisylabels_pl.cli.train import Experiment, close_wandb, to_json, train
from noisylabels_pl.functional import transition_error
from noisylabels_pl.report.curves import draw_curves
from noisylabels_pl.report.result import make_result
from noisylabels_pl.report.result_table import result_table
from noisylabels_pl.report.transition import draw_transitions

_MISTAKES = (ValueError, TypeError, OSError)  # what this library raises for a setting that is wrong


def run(config: DictConfig) -> float | None:
    """Train and report.

    Returns:
        What a sweeper may maximize without looking at the test set: the best accuracy, or R2, on the noisy validation
        split; ``None`` without one.
    """
    _quieten()
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if config.name is None:
            config.name = _name(config)
        _check_strategy(str(config.trainer.get("strategy")), config.trainer.get("devices", 1))
        experiment = train(config, folder)
    except (InstantiationException, OmegaConfBaseException, MisconfigurationException, *_MISTAKES) as error:
        # A sweep goes on with its next job, and developers want the traceback.
        if HydraConfig.get().mode == RunMode.MULTIRUN or "HYDRA_FULL_ERROR" in os.environ:
            raise
        sys.exit(f"error: {_root_cause(error)}\n(HYDRA_FULL_ERROR=1 shows where)")
    except SystemExit:  # what Lightning makes of Ctrl-C
        if getattr(rank_zero_only, "rank", 0) == 0:
            _explain_resume(folder)
        sys.exit(130)  # as shells report an interrupt
    if experiment.trainer.is_global_zero:
        report(experiment, config, folder)
    close_wandb(experiment.trainer)
    return experiment.history.best(f"val/{experiment.history.metric}")


def report(experiment: Experiment, config: DictConfig, folder: Path) -> None:
    """Write ``result.json`` and ``curves.png``, print the table, and hand both to W&B if it is there."""
    name = f"{config.name}, seed {config.seed}"
    result = make_result(name, to_json(config), experiment.datamodule, experiment.history, config.monitor)
    (folder / "result.json").write_text(json.dumps(result, indent=1))  # before any picture can fail
    estimate, T = experiment.artifacts.get("T"), experiment.datamodule.labels.T
    if estimate is not None:
        result["transition"] = {"T": estimate.tolist()}
        drawn = {"T as used": estimate}
        if T is not None:
            error = transition_error(estimate, T)
            result["transition"]["error"] = error
            drawn = {f"T as used: {100 * error:.1f} % off": estimate, "T of the configured noise": T}
        (folder / "result.json").write_text(json.dumps(result, indent=1))
        draw_transitions(drawn, name, folder / "transition.png")
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
    numbers = f"test_{result['metric']}"
    run.summary.update({f"{numbers}/{name}": value for name, value in result[numbers].items()})
    artifact = wandb.Artifact(f"result-{run.id}", type="result")
    artifact.add_file(str(folder / "result.json"))
    run.log_artifact(artifact)
    run.log({"curves": wandb.Image(str(folder / "curves.png"))})
    if "transition" in result:
        run.log({"transition": wandb.Image(str(folder / "transition.png"))})
        run.summary.update({"transition_error": result["transition"].get("error")})


def _check_strategy(strategy: str, devices: Any) -> None:
    """Refuse what would hang or lose its results."""
    if "spawn" in strategy or "fork" in strategy:
        raise ValueError(f"trainer.strategy={strategy} leaves the metrics in processes that end; use ddp")
    hydra = HydraConfig.get()
    if devices not in (1, "1") and hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_.endswith("BasicLauncher"):
        raise ValueError(
            f"each process of trainer.devices={devices} would start the whole sweep again; start the runs one by one "
            "from a shell loop, or with a launcher that gives each a process of its own, such as "
            "hydra/launcher=submitit_slurm"
        )


def _name(config: DictConfig) -> str:
    chosen = HydraConfig.get().runtime.choices
    rate = config.noise.get("rate")
    return f"{chosen['method']} on {chosen['data']}, {chosen['noise']}" + ("" if rate is None else f" {rate}")


def _explain_resume(folder: Path) -> None:
    checkpoints = [*folder.glob("checkpoints/last.ckpt"), *folder.glob("*/checkpoints/last.ckpt")]
    if checkpoints:
        checkpoint = max(checkpoints, key=lambda path: path.stat().st_mtime)  # of the stage that was interrupted
        sources = HydraConfig.get().runtime.config_sources
        searched = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
        overrides = [item for item in HydraConfig.get().overrides.task if not item.startswith("resume=")]
        command = shlex.join(
            ["python", "-m", "noisylabels_pl", *searched, *overrides, f"resume={checkpoint}", f"hydra.run.dir={folder}"]
        )
        message = f"The last finished epoch is saved. To go on from there:\n  {command}"
    else:
        message = "No epoch was finished, so there is nothing to resume from."
    Console(stderr=True).print(message, soft_wrap=True, highlight=False, markup=False)


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
