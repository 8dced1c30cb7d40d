"""The command ``python -m noisylabels_pl.resume``: go on with a run, or with a sweep, in its own folder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_SWEEP = "multirun.yaml"  # Hydra writes it into the folder of a sweep
_SWEEP_VARIABLE = "NOISYLABELS_PL_SWEEP"


def resume_command(folder: Path) -> str:
    """Return the command that goes on in a folder, for a shell.

    Example:
        >>> resume_command(Path("/runs/project (1)"))
        "python -m noisylabels_pl.resume '/runs/project (1)'"
    """
    return shlex.join(["python", "-m", "noisylabels_pl.resume", str(folder.absolute())])


def main(arguments: Sequence[str] | None = None) -> None:
    """Go on with a run or a sweep.

    Args:
        arguments: of the command line; those of this process if not given.
    """
    parser = argparse.ArgumentParser(
        prog="python -m noisylabels_pl.resume",
        description="Go on with a run, or with all runs of a sweep that are not finished, in its own folder. The run's "
        "own configuration is read from there.",
    )
    parser.add_argument("folder", type=Path, help="of the run or of the sweep")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="such as trainer.max_epochs=120")
    parsed = parser.parse_args(arguments)
    folder = Path(os.path.abspath(parsed.folder))  # without the .. of a relative path
    if (folder / _SWEEP).is_file():
        resume_sweep(folder, parsed.changes)
    else:
        resume_run(folder, parsed.changes)


def resume_run(folder: Path, changes: Sequence[str] = ()) -> float | None:
    """Go on with a run where it was left, or start it again if it has not finished an epoch.

    Args:
        folder: of the run.
        changes: ``key=value`` for keys that may change, see :data:`noisylabels_pl.cli.run_folder.MAY_CHANGE`.

    Returns:
        The number that a sweeper may maximize, see :func:`noisylabels_pl.cli.report_run.run`.
    """
    # Imported here, so that --help need not wait for torch and Lightning.
    from noisylabels_pl.cli.report_run import run_job
    from noisylabels_pl.cli.run_folder import AUTO, read_job

    try:
        config, job, started_in = read_job(folder)
        _apply(config, changes)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if started_in.is_dir():
        # Relative paths in the configuration, and modules of the user, are found from there.
        os.chdir(started_in)
        sys.path.append(str(started_in))
    # The processes that Lightning starts for DDP run the same command in the folder that is now the current one.
    sys.argv[1:] = [str(folder), *changes]
    config.resume = AUTO
    return run_job(config, job)


def resume_sweep(folder: Path, changes: Sequence[str] = ()) -> None:
    """Start a sweep again: finished runs are skipped, interrupted ones go on, and the others start.

    Args:
        folder: of the sweep.
        changes: overrides of Hydra, for all runs.
    """
    from noisylabels_pl.cli.main import main as run_hydra

    hydra = OmegaConf.load(folder / _SWEEP).hydra
    saved: Any = OmegaConf.to_container(hydra.overrides, resolve=False)
    replaced = {change.split("=")[0] for change in changes} | {"resume", "hydra.sweep.dir", "hydra.mode"}
    overrides = []
    for override in [*saved["hydra"], *saved["task"]]:
        if override.split("=")[0] not in replaced:
            overrides.append(override)
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            overrides.append(f"--config-dir={source.path}")
    # By a variable, because a path in an override would have to follow Hydra's grammar.
    os.environ[_SWEEP_VARIABLE] = str(folder)
    overrides.append(f"hydra.sweep.dir=${{oc.env:{_SWEEP_VARIABLE}}}")
    # Folders that are named after overrides must get the same names as before.
    excluded = dict.fromkeys([*hydra.job.config.override_dirname.exclude_keys, "resume"])
    overrides.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(excluded)}]")
    started_in = Path(hydra.runtime.cwd)
    if started_in.is_dir():
        os.chdir(started_in)
        sys.path.append(str(started_in))
    sys.argv[1:] = ["--multirun", *overrides, *changes, "resume=auto"]
    run_hydra()


def _apply(config: DictConfig, changes: Sequence[str]) -> None:
    """Change a configuration.

    Raises:
        ValueError: a change is not ``key=value``, or the key may not change.
    """
    from noisylabels_pl.cli.run_folder import MAY_CHANGE, may_change

    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not may_change(key):
            raise ValueError(f"{change}: only values of {', '.join(MAY_CHANGE)} can change when a run goes on")
        if isinstance(OmegaConf.select(config, key), DictConfig):
            raise ValueError(
                f"{change}: {key} is a group; change a value in it, such as {key}.{next(iter(config[key]), 'key')}="
            )
        OmegaConf.update(config, key, OmegaConf.from_dotlist([f"x={value}"]).x, force_add=True)
