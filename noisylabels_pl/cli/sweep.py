"""The command ``python -m noisylabels_pl.sweep``: run the missing cells of a table."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from noisylabels_pl.cli.cells import SweepCell, make_cells
from noisylabels_pl.cli.errors import composition_message
from noisylabels_pl.cli.table import make_table, number_list, read_rows

_DESCRIPTION = """
Run all combinations of values that are separated by commas, such as method=ce,crust,elr noise.rate=0.2,0.5 seed=0,1,2,
and print their table. Finished runs are left alone and half-finished ones go on, so the same command continues an
interrupted sweep, and a command with more seeds extends a sweep. A run that fails does not stop the others.
"""


@dataclass
class _Job:
    """A cell that is running."""

    cell: SweepCell
    process: subprocess.Popen[bytes]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells that have no result yet, then print the table of all cells.

    Args:
        arguments: of the command line; ``sys.argv`` if not given.
    """
    options = _parser().parse_intermixed_args(arguments)
    console = Console()
    try:
        cells = make_cells(options.overrides, options.folder, options.config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {composition_message(error)}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    missing = [cell for cell in cells if not cell.is_finished]
    extra = _thread_overrides(options.overrides, options.jobs)
    if options.commands:
        for cell in missing:
            sys.stdout.write(f"{shlex.join(cell.command())}\n")
        return
    console.print(f"{len(cells)} runs, {len(cells) - len(missing)} of them finished before", highlight=False)
    failed = run_cells(missing, options.jobs, extra, console)
    if any(cell.is_finished for cell in cells):
        rows = read_rows([cell.folder for cell in cells if cell.folder.is_dir()])
        console.print(make_table(rows, options.number, form="rich"))
    for cell in failed:
        console.print(f"failed: {cell.title}: {_last_line(cell)}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"  again: {shlex.join(cell.command())}", soft_wrap=True, highlight=False, markup=False)
    if failed:
        sys.exit(1)


def run_cells(cells: Sequence[SweepCell], num_jobs: int, extra: Sequence[str], console: Console) -> list[SweepCell]:
    """Run cells side by side, each in a process of its own.

    Args:
        cells: to run; the output of each goes to ``log.txt`` in its folder.
        num_jobs: how many run at the same time.
        extra: overrides for all of them.
        console: for the progress; without a terminal, a line for each cell that ends.

    Returns:
        The cells that ended without a result.

    Raises:
        SystemExit: Ctrl-C; the running cells keep their last finished epoch.
    """
    waiting = deque(cells)
    running: list[_Job] = []
    failed: list[SweepCell] = []
    with _progress(console) as progress:
        task = progress.add_task("sweep", total=len(cells))
        try:
            while waiting or running:
                if waiting and len(running) < num_jobs:
                    job = _start(waiting[0], extra)
                    if job is None:
                        waiting.rotate(-1)  # runs in another sweep
                    else:
                        running.append(job)
                        waiting.popleft()
                time.sleep(0.1)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    progress.advance(task)
                    if not job.cell.is_finished:
                        failed.append(job.cell)
                    if not console.is_terminal:
                        state = "finished" if job.cell.is_finished else "failed"
                        console.print(f"{state}: {job.cell.title}", soft_wrap=True, highlight=False, markup=False)
        except KeyboardInterrupt:
            _stop(running)
            sys.exit("interrupted; the same command goes on with the sweep")
    return failed


def _start(cell: SweepCell, extra: Sequence[str]) -> _Job | None:
    """Start a cell in a session of its own, so that Ctrl-C reaches this command alone.

    The process holds a lock for as long as it lives, also if this command is killed.

    Returns:
        The job, or ``None`` if the process of another sweep holds the lock.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    with (cell.folder / ".lock").open("wb") as lock, (cell.folder / "log.txt").open("ab") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        command = ["true"] if cell.is_finished else cell.command(extra)  # by another sweep, in the meantime
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[lock.fileno()]
        )
    return _Job(cell, process)


def _stop(jobs: Sequence[_Job]) -> None:
    """End running cells as Ctrl-C would, and wait for them."""
    for job in jobs:
        job.process.send_signal(signal.SIGINT)
    for job in jobs:
        job.process.wait()


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _thread_overrides(overrides: Sequence[str], num_jobs: int) -> list[str]:
    """Return the override that divides the processors among jobs, unless the user sets ``threads``."""
    if num_jobs == 1 or any(override.startswith("threads=") for override in overrides):
        return []
    num_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [f"threads={max(1, num_processors // num_jobs)}"]


def _last_line(cell: SweepCell) -> str:
    """Return the line of a failed cell's log that says why it failed."""
    lines = (cell.folder / "log.txt").read_text(errors="replace").splitlines()
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
    parser.add_argument("--jobs", type=positive_int, default=1, help="how many runs at the same time (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path("sweeps"), help="of all runs (default: sweeps)")
    parser.add_argument("--config-dir", type=Path, help="a folder of configuration files of your own")
    parser.add_argument("--commands", action="store_true", help="print the commands that are still to run, and stop")
    parser.add_argument(
        "--number", type=number_list, default=["last", "best_val"], help="numbers of the table (default: last,best_val)"
    )
    return parser
