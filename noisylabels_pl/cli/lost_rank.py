"""Finding the process whose end made the others of a distributed fit fail."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from subprocess import Popen
from typing import Any

import lightning as L
from torch import distributed

_SECONDS_TO_END = 1.0  # a process closes its connections a little before the system reports its end


def lost_rank_error(trainer: L.Trainer, error: BaseException) -> ChildProcessError | None:
    """Return the error to raise in place of a lost connection, which says nothing of its cause.

    Args:
        trainer: whose fit failed.
        error: that ended the fit.

    Returns:
        An error that names the rank that ended first, if this process started it; ``None`` if no connection was lost.
    """
    if not _is_lost_connection(error):
        return None
    ended = _ended_process(getattr(trainer.strategy.launcher, "procs", ()))
    if ended is None:
        return ChildProcessError(
            f"rank {trainer.global_rank} lost the connection to another rank, which ended first; the cause is in that "
            "rank's output, or in the log of the system"
        )
    rank, process = ended
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        reason = f"was killed by {name}; the system does so when memory is short (see dmesg, or the log of the job)"
    else:
        reason = f"ended with exit code {process.returncode}; its own message is above"
    return ChildProcessError(f"rank {rank} (process {process.pid}) {reason}")


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether an error comes from torch's communication between processes; gloo's has no class of its own."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _ended_process(processes: Sequence[Popen[Any]]) -> tuple[int, Popen[Any]] | None:
    """Return the first process that failed, and its rank; rank 0 has started the others."""
    deadline = time.monotonic() + _SECONDS_TO_END
    while processes and time.monotonic() < deadline:
        for rank, process in enumerate(processes, start=1):
            if process.poll():
                return rank, process
        time.sleep(0.05)
    return None
