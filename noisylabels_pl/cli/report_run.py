"""One job of Hydra: train, then report the results, or the error in one line."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from torch import Tensor

from noisylabels_pl.cli.build import Experiment, close_wandb, to_json
from noisylabels_pl.cli.check_config import check_config, nearest_argument
from noisylabels_pl.cli.errors import JobFailedError, error_message, file_error_message
from noisylabels_pl.cli.resume import resume_command
from noisylabels_pl.cli.run_files import RESULT, best_validation_score, read_result
from noisylabels_pl.cli.run_folder import (
    Job,
    check_is_free,
    goes_on_in,
    is_finished,
    may_change,
    save_start,
)
from noisylabels_pl.cli.train import train
from noisylabels_pl.data.files import write_atomically
from noisylabels_pl.functional import transition_error
from noisylabels_pl.report.curves import draw_curves
from noisylabels_pl.report.result import make_result, none_for_nan
from noisylabels_pl.report.result_table import result_table
from noisylabels_pl.report.transition import draw_transitions

# The errors that a wrong setting raises: Hydra's, OmegaConf's, Lightning's and this library's.
_SETTING_ERRORS = (
    InstantiationException,
    OmegaConfBaseException,
    MisconfigurationException,
    ValueError,
    TypeError,
    ImportError,  # of an optional package
)

# The groups whose options change a run's result, and the keys among them that do not, or are in its name anyway.
_NAMED_GROUPS = ("method", "noise", "data", "net", "optim", "schedule", "trainer")
# The title says these otherwise, or need not say them.
_UNNAMED_KEYS = (
    "method",
    "method.loss",
    "noise",
    "noise.rate",
    "data",
    "data.path",
    "data.label",
    "data.datamodule",
    "data.train",
    "data.test",
    "data.class_names",
    "data.target_names",
    "trainer",
)


def run(config: DictConfig) -> float | None:
    """Train and report.

    Args:
        config: composed by Hydra, which also knows the run's folder.

    Returns:
        The best accuracy or R2 on the noisy validation split, which a sweeper may maximize without a look at the test
        set; ``None`` without a validation split.
    """
    hydra = HydraConfig.get()
    is_sweep = hydra.mode == RunMode.MULTIRUN
    job = Job(
        Path(hydra.runtime.output_dir).absolute(),
        dict(hydra.runtime.choices),
        sweep=Path(hydra.sweep.dir).absolute() if is_sweep else None,
        is_serial=is_sweep and hydra.launcher._target_.endswith("BasicLauncher"),
    )
    return run_job(config, job)


def run_job(config: DictConfig, job: Job) -> float | None:
    """Train and report, without Hydra.

    Args:
        config: of the run.
        job: its folder, and where it comes from.

    Returns:
        As :func:`run`.
    """
    _silence_advice()
    folder = job.folder
    # The files describe the run, however many attempts it takes.
    resume, config.resume = config.resume, None
    try:
        check_config(config)
        job = replace(job, names=_names_of_run(job.names, config))
        if config.name is None:
            config.name = _run_name(config, job.names)
        _check_strategy(str(config.trainer.get("strategy")), config.trainer.get("devices", 1), job.is_serial)
        if not goes_on_in(folder, resume):
            check_is_free(folder)
        elif resume is not None and is_finished(config, resume, folder):
            Console().print(f"Finished before: {folder}", soft_wrap=True, highlight=False, markup=False)
            return best_validation_score(read_result(folder) or {})
        save_start(config, job)
        experiment = train(config, folder, resume=resume)
    except OSError as error:
        _end_with_file_error(error, job)
    except _SETTING_ERRORS as error:
        if "HYDRA_FULL_ERROR" in os.environ:  # developers want the traceback
            raise
        message = error_message(error)
        argument = nearest_argument(message, config)
        if argument is not None:
            message = f"{message}; the nearest is {argument}"
        _end_with_error(message, job)
    except SystemExit:  # raised by Lightning on Ctrl-C
        if getattr(rank_zero_only, "rank", 0) == 0:
            _print_how_to_resume(job)
        sys.exit(130)  # the exit status of an interrupted command in a shell
    if experiment.trainer.is_global_zero:
        try:
            report(experiment, config, folder, job.names)
        except OSError as error:
            _end_with_file_error(error, job)
    close_wandb(experiment.trainer)
    # Only the first rank fails: Lightning kills it, in the middle of its report, if another one does.
    if experiment.diverged is not None and experiment.trainer.is_global_zero:
        _end_with_error(str(experiment.diverged), job)
    return experiment.history.best(f"val/{experiment.history.metric}")


def report(experiment: Experiment, config: DictConfig, folder: Path, names: Mapping[str, str | None]) -> None:
    """Write ``result.json`` and the figures, print the table, and log all of them to W&B if it is configured.

    Args:
        experiment: after the fit.
        config: of the run.
        folder: of the run.
        names: of the chosen configurations by group, such as ``{"method": "crust"}``.
    """
    title = f"{config.name}, seed {config.seed}"
    datamodule = experiment.datamodule
    result = make_result(
        title,
        to_json(config),
        datamodule,
        experiment.history,
        config.monitor,
        names,
        diverged=experiment.diverged,
        warnings=experiment.warnings,
    )
    used_T = experiment.artifacts.get("T")
    true_T = datamodule.labels.T
    matrices: dict[str, Tensor] = {}  # by title, for the figure
    if used_T is not None and true_T is not None:
        error = transition_error(used_T, true_T)
        result["transition"] = {"T": used_T.tolist(), "error": error}
        matrices = {f"T as used: {100 * error:.1f} % off": used_T, "T of the configured noise": true_T}
    elif used_T is not None:
        result["transition"] = {"T": used_T.tolist()}
        matrices = {"T as used": used_T}
    result = none_for_nan(result)
    try:
        if matrices:
            draw_transitions(matrices, title, folder / "transition.png")
        draw_curves(result["history"], title, folder / "curves.png", result["pool_precision"], result["best_epoch"])
    finally:
        # Last: a run with a result counts as finished and is not resumed. The numbers are kept if a figure fails.
        with write_atomically(folder / RESULT) as path:
            path.write_text(json.dumps(result, indent=1, allow_nan=False))
    console = Console()
    console.print(result_table(result))
    console.print(f"Files: {folder}", soft_wrap=True, highlight=False, markup=False)
    for logger in experiment.trainer.loggers:
        if isinstance(logger, WandbLogger):
            _log_to_wandb(logger, result, folder)


def _end_with_file_error(error: OSError, job: Job) -> NoReturn:
    """Say which file cannot be read or written, and how to go on if an epoch was finished, as after a full disk."""
    if "HYDRA_FULL_ERROR" in os.environ:  # developers want the traceback
        raise error
    if any(job.folder.glob("**/checkpoints/last.ckpt")):
        _print_how_to_resume(job)
    _end_with_error(file_error_message(error, job.folder), job)


def _end_with_error(message: str, job: Job) -> NoReturn:
    """Say in one line why the run failed, and end it; a sweep goes on with its next job."""
    if job.sweep is None:
        sys.exit(f"error: {message}\n(HYDRA_FULL_ERROR=1 shows where)")
    hydra_job = HydraConfig.get().job
    line = f"error in job {hydra_job.num} ({hydra_job.override_dirname}): {message}"
    Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
    raise JobFailedError(message)


def _names_of_run(names: Mapping[str, str | None], config: DictConfig) -> Mapping[str, str | None]:
    """Return the chosen names by group, such as ``{"method": "crust"}``.

    The name of your own file or folder stands for that of its configuration, and a method with another loss inside has
    the names of both: ``crust+gce``.
    """
    named = dict(names)
    if "path" in config.data:
        named["data"] = Path(config.data.path).stem
    loss = named.pop("method.loss", None)
    if loss is not None:
        named["method"] = f"{named['method']}+{loss}"
    return named


def _run_name(config: DictConfig, names: Mapping[str, str | None]) -> str:
    """Return a run's name in titles, such as ``crust on digits, sym 0.4, fraction=0.3``.

    It has all options of the command line that change the result, but for the seed, and for the budget, which may grow
    when a run goes on.
    """
    name = f"{names['method']} on {names['data']}, {names['noise']}"
    rate = config.noise.get("rate")
    if rate is not None:
        name = f"{name} {rate}"
    experiment = names.get("experiment")
    if experiment is not None:  # other optimizers and budgets of the same method
        name = f"{name}, {experiment}"
    return ", ".join([name, *_named_options(HydraConfig.get().overrides.task)])


def _named_options(overrides: Sequence[str]) -> list[str]:
    """Return the options of a command line that a run's name must tell, without their groups.

    Example:
        >>> _named_options(["method=crust", "method.fraction=0.3", "net=cnn9", "noise.rate=0.2", "seed=1"])
        ['fraction=0.3', 'net=cnn9']
    """
    options = {}  # the last of several values counts
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        group = key.partition(".")[0]
        is_named = group in _NAMED_GROUPS and key not in _UNNAMED_KEYS and not may_change(key)
        if is_named and not key.endswith("seed"):
            options[key] = override.lstrip("+").removeprefix(f"{group}.")
    return list(options.values())


def _check_strategy(strategy: str, devices: Any, is_serial_sweep: bool) -> None:
    """Refuse a strategy that would hang, or lose its results."""
    if "spawn" in strategy or "fork" in strategy:
        raise ValueError(f"trainer.strategy={strategy} leaves the metrics in processes that end; use ddp")
    if devices not in (1, "1") and is_serial_sweep:
        raise ValueError(
            f"each process of trainer.devices={devices} would start the whole sweep again; start the runs one by one "
            "from a shell loop, or with a launcher that starts a process for each, such as "
            "hydra/launcher=submitit_slurm"
        )


def _print_how_to_resume(job: Job) -> None:
    """Print the command that continues an interrupted run, or the sweep that it belongs to."""
    if any(job.folder.glob("**/checkpoints/last.ckpt")):
        message = "The last finished epoch is saved. To go on from there:"
    else:
        message = "No epoch was finished. To start again:"
    if job.sweep is not None:
        message = "Interrupted. To go on with this run and the rest of the sweep:"
    command = resume_command(job.sweep or job.folder)
    Console(stderr=True).print(f"{message}\n  {command}", soft_wrap=True, highlight=False, markup=False)


def _log_to_wandb(logger: WandbLogger, result: dict[str, Any], folder: Path) -> None:
    """Log the numbers to the run's summary, and the files."""
    import wandb

    wandb_run = logger.experiment
    numbers = f"test_{result['metric']}"
    wandb_run.summary.update({f"{numbers}/{name}": value for name, value in result[numbers].items()})
    artifact = wandb.Artifact(f"result-{wandb_run.id}", type="result")
    artifact.add_file(str(folder / RESULT))
    wandb_run.log_artifact(artifact)
    wandb_run.log({"curves": wandb.Image(str(folder / "curves.png"))})
    if "transition" in result:
        wandb_run.log({"transition": wandb.Image(str(folder / "transition.png"))})
        wandb_run.summary.update({"transition_error": result["transition"].get("error")})


def _silence_advice() -> None:
    """Silence start-up messages, and warnings about settings that are deliberate here."""
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")  # after a resume
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # inside Lightning, on the newest torch
