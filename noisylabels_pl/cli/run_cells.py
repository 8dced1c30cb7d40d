"""Running the cells of a sweep: each in a process of its own, and no cell twice at the same time."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from noisylabels_pl.cli.cells import SweepCell


@dataclass
class _Job:
    """A cell that is running."""

    cell: SweepCell
    process: subprocess.Popen[bytes]


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
        except BaseException as error:  # Ctrl-C, or the scheduler's signal before it ends a job
            _stop(running)
            if isinstance(error, KeyboardInterrupt):
                sys.exit("interrupted; the same command goes on")
            raise
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
