"""Running the cells of a sweep by a launcher of Hydra, such as SLURM's: each cell is a job, in its own folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from noisylabels_pl.cli.cells import SweepCell
from noisylabels_pl.cli.main import FULL_ERROR, full_error
from noisylabels_pl.cli.run_cells import run_cells

_CONFIG = "noisylabels_pl_cells"
_LAUNCHER = ("hydra/launcher=", "hydra.launcher.", "+hydra.launcher.")


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides that choose and set a launcher, and the others.

    Example:
        >>> split_launcher(["method=ce,elr", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])
        (['hydra/launcher=joblib', 'hydra.launcher.n_jobs=2'], ['method=ce,elr'])
    """
    launcher = [override for override in overrides if override.startswith(_LAUNCHER)]
    return launcher, [override for override in overrides if not override.startswith(_LAUNCHER)]


def check_launcher(launcher: Sequence[str], num_jobs: int | None) -> None:
    """Check that each cell is a job of one process.

    Args:
        launcher: overrides that choose and set the launcher.
        num_jobs: how many cells may run at the same time on this machine; ``None`` if the user did not say.

    Raises:
        ValueError: a job would have several processes, or the user set a number that the launcher decides on.
        HydraException: an override cannot be read.
    """
    if num_jobs is not None:
        raise ValueError(
            f"--jobs={num_jobs} is for runs of this command; a launcher decides how many run at the same time, by "
            "hydra.launcher.array_parallelism (submitit_slurm) or hydra.launcher.n_jobs (joblib)"
        )
    for override in OverridesParser.create().parse_overrides(list(launcher)):
        several = override.key_or_group in ("hydra.launcher.tasks_per_node", "hydra.launcher.nodes")
        if several and override.value() != 1:
            raise ValueError(
                f"{override.input_line}: a sweep starts one process for each run; for a run of several processes use "
                "--commands in a job script, or python -m noisylabels_pl -m with this launcher"
            )


def launch_cells(cells: Sequence[SweepCell], launcher: Sequence[str], root: Path, console: Console) -> None:
    """Run each cell as a job of a launcher, and wait for all of them.

    A job runs :func:`~noisylabels_pl.cli.run_cells.run_cells` with its cell. So it writes ``log.txt``, goes on with a
    half-finished run, and waits for another process that runs the same cell.

    Args:
        cells: to run.
        launcher: overrides that choose and set the launcher, such as ``hydra/launcher=joblib``.
        root: the folder of all cells. What the launcher itself writes goes into ``.launcher`` there.
        console: for a line about what happens.

    Raises:
        HydraException: there is no such launcher, or it has no such option.
    """
    asked_for_traceback = os.environ.get(FULL_ERROR)
    started_in = os.getcwd()
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")

    def job(config: DictConfig) -> None:
        os.chdir(started_in)
        with full_error(asked_for_traceback):
            run_cells([cells[config.cell]], 1, [], Console())

    folder = str((root / ".launcher" / now).absolute()).replace("${", "\\${")  # or OmegaConf would interpolate
    logging = [{"override hydra/hydra_logging": "none"}, {"override hydra/job_logging": "none"}]
    node = {
        "defaults": ["_self_", *logging],
        "cell": 0,
        "hydra": {"job": {"name": "sweep"}, "output_subdir": None, "sweep": {"dir": folder, "subdir": "."}},
    }
    ConfigStore.instance().store(_CONFIG, node)
    sys.argv[1:] = ["--multirun", *launcher, f"cell={','.join(map(str, range(len(cells))))}"]
    console.print(
        f"{len(cells)} jobs; each writes log.txt in its run's folder in {root}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    try:
        with full_error("1"):  # Hydra then raises its errors instead of printing them
            hydra.main(version_base="1.3", config_path=None, config_name=_CONFIG)(job)()
    except (HydraException, OmegaConfBaseException):
        raise
    except Exception as error:  # each launcher has a class of its own for a job that was killed
        message = f"a job was lost ({type(error).__name__}); others may still run, and the same command waits for them"
        console.print(message, soft_wrap=True, highlight=False)
