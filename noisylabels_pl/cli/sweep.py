"""The command ``python -m noisylabels_pl.sweep``: run the missing cells of a table."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from noisylabels_pl.cli.cells import SweepCell, make_cells
from noisylabels_pl.cli.errors import composition_message
from noisylabels_pl.cli.launch_cells import check_launcher, launch_cells, split_launcher
from noisylabels_pl.cli.run_cells import run_cells
from noisylabels_pl.cli.table import make_table, number_list, read_rows

_DESCRIPTION = """
Run all combinations of values that are separated by commas, such as method=ce,crust,elr noise.rate=0.2,0.5 seed=0,1,2,
and print their table. Finished runs are left alone and half-finished ones go on, so the same command continues an
interrupted sweep, and a command with more seeds extends a sweep. A run that fails does not stop the others.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells that have no result yet, then print the table of all cells.

    Args:
        arguments: of the command line; ``sys.argv`` if not given.
    """
    options = _parser().parse_intermixed_args(arguments)
    console = Console()
    launcher, overrides = split_launcher(options.overrides)
    try:
        cells = make_cells(overrides, options.folder, options.config_dir)
        if launcher:
            check_launcher(launcher, options.jobs)
        missing = [cell for cell in cells if not cell.is_finished]
        if options.commands:
            for cell in missing:
                sys.stdout.write(f"{shlex.join(cell.command())}\n")
            return
        console.print(f"{len(cells)} runs, {len(cells) - len(missing)} of them finished before", highlight=False)
        if launcher and missing:
            launch_cells(missing, launcher, options.folder, console)
        elif missing:
            num_jobs = options.jobs or 1
            run_cells(missing, num_jobs, _thread_overrides(overrides, num_jobs), console)
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {composition_message(error)}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # while a launcher works
        sys.exit("interrupted; the same command goes on")
    _report(cells, options.number, console)


def _report(cells: Sequence[SweepCell], numbers: Sequence[str], console: Console) -> None:
    """Print the table, and the cells that failed with the command that repeats each; these end the command with 1."""
    if any(cell.is_finished for cell in cells):
        rows = read_rows([cell.folder for cell in cells if cell.folder.is_dir()])
        console.print(make_table(rows, numbers, form="rich"))
    failed = [cell for cell in cells if not cell.is_finished]
    for cell in failed:
        console.print(f"failed: {cell.title}: {_last_line(cell)}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"  again: {shlex.join(cell.command())}", soft_wrap=True, highlight=False, markup=False)
    if failed:
        sys.exit(1)


def _thread_overrides(overrides: Sequence[str], num_jobs: int) -> list[str]:
    """Return the override that divides the processors among jobs, unless the user sets ``threads``."""
    if num_jobs == 1 or any(override.startswith("threads=") for override in overrides):
        return []
    num_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [f"threads={max(1, num_processors // num_jobs)}"]


def _last_line(cell: SweepCell) -> str:
    """Return the line of a failed cell's log that says why it failed."""
    log = cell.folder / "log.txt"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1]


def positive_int(text: str) -> int:
    """Return the whole number from 1 that an option of a command line has."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m noisylabels_pl.sweep", description=_DESCRIPTION)
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE,...", help="as of python -m noisylabels_pl")
    parser.add_argument("--jobs", type=positive_int, help="how many runs at the same time (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path("sweeps"), help="of all runs (default: sweeps)")
    parser.add_argument("--config-dir", type=Path, help="a folder of configuration files of your own")
    parser.add_argument("--commands", action="store_true", help="print the commands that are still to run, and stop")
    parser.add_argument(
        "--number", type=number_list, default=["last", "best_val"], help="numbers of the table (default: last,best_val)"
    )
    return parser
