"""The folder of a run: starting there, and whether a run may go on in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from noisylabels_pl.cli.build import to_json
from noisylabels_pl.cli.checkpoints import newest_checkpoint, read_run
from noisylabels_pl.cli.run_files import CONFIG, ORIGIN, RESULT, has_progress
from noisylabels_pl.data.files import write_atomically

AUTO = "auto"
"""The value of ``resume`` that goes on in the run's folder, if a run was started there."""

# Keys, and groups of keys, that may differ when a run goes on: they change when, where and how a run is computed and
# shown, not what is computed.
MAY_CHANGE = (
    "resume",
    "name",
    "threads",
    "checkpoint",
    "progress",
    "logger",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "data.root",
    "data.download",
    "data.num_workers",
    "data.resident",
)
# These change how a batch is split among processes, which some methods depend on.
_SPLITS_BATCHES = ("trainer.devices", "trainer.strategy", "trainer.num_nodes")


@dataclass(frozen=True)
class Job:
    """A run as the command line sees it.

    Attributes:
        folder: of the run.
        names: of the chosen configurations by group, such as ``{"method": "crust"}``.
        sweep: the folder of the sweep that the run belongs to; ``None`` for a single run.
        is_serial: whether the runs of the sweep follow each other in this process.
    """

    folder: Path
    names: Mapping[str, str | None]
    sweep: Path | None = None
    is_serial: bool = False


def goes_on_in(folder: Path, resume: str | None) -> bool:
    """Return whether the run that is to go on lies in a folder.

    Args:
        folder: of the run that starts now.
        resume: ``None``, ``auto``, or the path of a checkpoint, which may lie elsewhere.

    Example:
        >>> goes_on_in(Path("run"), "run/checkpoints/last.ckpt"), goes_on_in(Path("new"), "run/checkpoints/last.ckpt")
        (True, False)
    """
    return resume == AUTO or (resume is not None and folder.resolve() in Path(resume).resolve().parents)


def check_is_free(folder: Path) -> None:
    """Check that a new run overwrites no other one.

    Args:
        folder: of the new run.

    Raises:
        ValueError: the folder has the result, or a checkpoint, of another run.
    """
    if has_progress(folder):
        state = "a finished" if (folder / RESULT).exists() else "an interrupted"
        raise ValueError(
            f"{folder} holds {state} run, which a new one would overwrite; delete the folder, choose another by "
            f"hydra.run.dir (of a sweep hydra.sweep.dir), or go on with it by resume={AUTO}"
        )


@rank_zero_only
def save_start(config: DictConfig, job: Job) -> None:
    """Write the files from which the run can be started again, before anything else is done.

    ``run.json`` adds to ``config.yaml`` the chosen names, and the folder that the run was started in.

    Args:
        config: of the run. A folder with progress keeps its own, because the two are compared later.
        job: the run.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    if not has_progress(job.folder):
        save_config(config, job.folder)
    names = {group: name for group, name in job.names.items() if not group.startswith("hydra/")}
    origin = {"names": names, "folder": str(job.folder), "started_in": os.getcwd()}
    with write_atomically(job.folder / ORIGIN) as partial:
        # OmegaConf would take the ${x} in the name of a folder for an interpolation.
        partial.write_text(json.dumps(origin, indent=1))


def save_config(config: DictConfig, folder: Path) -> None:
    """Write ``config.yaml``, with all interpolations resolved.

    Args:
        config: of the run.
        folder: of the run.
    """
    with write_atomically(folder / CONFIG) as partial:
        OmegaConf.save(config, partial, resolve=True)


def read_job(folder: Path) -> tuple[DictConfig, Job, Path]:
    """Read the configuration and the origin of a run.

    Args:
        folder: of the run. It may have been moved: paths into it, as loggers have them, follow.

    Returns:
        The configuration, the run, and the folder that it was started in.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is not the folder of a run.

    Example:
        >>> read_job(Path("no/such/folder"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder ...no/such/folder
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    for name in (CONFIG, ORIGIN):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} is not the folder of a run: it has no {name}; name the folder of one, or repeat the "
                "command of the sweep"
            )
    config = _load_yaml(folder / CONFIG)
    origin = json.loads((folder / ORIGIN).read_text())
    escaped = str(folder).replace("${", "\\${")  # or OmegaConf would interpolate
    config.logger = _move(OmegaConf.to_container(config.logger), origin["folder"], escaped)
    return config, Job(folder, origin["names"]), Path(origin["started_in"])


def changed_keys(config: DictConfig, saved: Mapping[str, Any], where: str) -> set[str]:
    """Return the keys in which a configuration differs from that of the run that is to go on.

    Args:
        config: the present configuration.
        saved: the run's, as JSON types.
        where: the folder or checkpoint that ``saved`` comes from, for the message.

    Returns:
        The keys, such as ``trainer.max_epochs``. All of them may change.

    Raises:
        ValueError: a key differs that may not change.

    Example:
        >>> config = OmegaConf.create({"seed": 1, "trainer": {"max_epochs": 9}})
        >>> changed_keys(config, {"seed": 1, "trainer": {"max_epochs": 6}}, "run")
        {'trainer.max_epochs'}
        >>> changed_keys(config, {"seed": 0, "trainer": {"max_epochs": 6}}, "run")
        Traceback (most recent call last):
        ...
        ValueError: resume: run was trained with seed=0, now seed=1; start a new run, or leave all as it was but for ...
    """
    before, now = _flat(saved), _flat(to_json(config))
    missing = "(not set)"
    changed = [
        key
        for key in dict.fromkeys([*before, *now])  # in the order of the file
        if before.get(key, missing) != now.get(key, missing)
    ]
    refused = [key for key in changed if not may_change(key)]
    if refused:
        values = [f"{key}={before.get(key, missing)}, now {key}={now.get(key, missing)}" for key in refused[:6]]
        if len(refused) > 6:
            values.append(f"and {len(refused) - 6} keys more")
        raise ValueError(
            f"resume: {where} was trained with {'; '.join(values)}; start a new run, or leave all as it was but for "
            f"{', '.join(MAY_CHANGE)}"
        )
    return set(changed)


def may_change(key: str) -> bool:
    """Return whether a key may change when a run goes on.

    Example:
        >>> may_change("logger.wandb.project"), may_change("optim.lr")
        (True, False)
    """
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_CHANGE)


def check_split(changed: set[str], depends_on_batch: bool) -> None:
    """Check that a method may go on with another number of processes.

    Args:
        changed: the keys that differ from the run's.
        depends_on_batch: whether splitting a batch among processes changes what the method does.

    Raises:
        ValueError: it may not.
    """
    split = [key for key in _SPLITS_BATCHES if key in changed]
    if split and depends_on_batch:
        raise ValueError(
            f"resume: {', '.join(split)} must not change with this method, which acts on each process's part of a batch"
        )


def resumable_checkpoint(folder: Path) -> Path | None:
    """Return the newest usable checkpoint of a fit; ``None`` if the fit has not saved any.

    Args:
        folder: of the fit.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    checkpoint, problems = newest_checkpoint(folder / "checkpoints")
    if problems and checkpoint is None:
        raise ValueError(
            f"resume: {'; '.join(problems)}; there is no other checkpoint in {folder}: delete it to train afresh there"
        )
    if problems:
        rank_zero_warn(f"resume: {'; '.join(problems)}; going on from {checkpoint}")
    return checkpoint


def read_changes(config: DictConfig, resume: str | None, folder: Path) -> set[str] | None:
    """Check that a run goes on with its own configuration.

    Args:
        config: the present configuration.
        resume: ``None``, ``auto``, or the path of a checkpoint.
        folder: of the run.

    Returns:
        The keys that differ, all of which may change; ``None`` for a new run.

    Raises:
        FileNotFoundError: there is no checkpoint ``resume``.
        ValueError: the configurations differ, or ``resume`` is no checkpoint.
    """
    if resume is None or (resume == AUTO and not has_progress(folder)):
        return None
    if resume == AUTO:
        saved = OmegaConf.to_container(_load_yaml(folder / CONFIG))
        return changed_keys(config, saved, str(folder))  # type: ignore[arg-type]
    try:
        run = read_run(Path(resume))
    except (FileNotFoundError, ValueError) as error:
        checkpoint, _ = newest_checkpoint(Path(resume).parent)
        hint = "" if checkpoint is None else f"; {checkpoint} can be resumed from"
        raise type(error)(f"resume: {error}{hint}") from error
    return changed_keys(config, run["config"], resume)


def is_finished(config: DictConfig, resume: str, folder: Path) -> bool:
    """Return whether there is nothing left to do for a run that is to go on.

    Args:
        config: the present configuration.
        resume: ``auto``, or the path of a checkpoint.
        folder: of the run.

    Raises:
        ValueError: the run in the folder has another configuration; or it is finished, and ``resume`` is a checkpoint.
    """
    if not (folder / RESULT).is_file():
        return False
    changed = read_changes(config, AUTO, folder)
    if changed is not None and "trainer.max_epochs" in changed:
        return False
    if resume != AUTO:
        raise ValueError(f"resume: the run in {folder} is finished; to train it for longer, raise trainer.max_epochs")
    return True


def _load_yaml(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(config, DictConfig) or not config:
        raise ValueError(f"{path} is damaged: it holds no keys")
    return config


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return all values by their dotted keys."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def _move(value: Any, old: str, new: str) -> Any:
    """Return a value in which all paths into the folder ``old`` lead into ``new``."""
    if isinstance(value, dict):
        return {key: _move(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_move(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(old + os.sep)):
        return new + value[len(old) :]
    return value
