"""Pairs of processes for tests of DDP, without the seconds that each would spend on importing torch and Lightning.

A server process imports everything once and forks itself for each request (``multiprocessing``'s forkserver). A forked
process starts at once and shares nothing with the processes before it. Each pytest process has its own server, which
starts at the first request and ends with pytest.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from tests.helpers import ROOT

RANKS = (0, 1)
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.processes", "tests.contract.methods", "noisylabels_pl.methods"])


def run_on_two_ranks(function: Callable[..., Any], *args: Any, folder: Path, timeout: float = 240) -> list[Any]:
    """Call a function in two processes, which Lightning's ``strategy=ddp`` takes for two that it has started.

    Args:
        function: importable by its name, as pickle demands.
        *args: arguments of the function.
        folder: receives the printed text and the returned value of each process.
        timeout: seconds that both processes may take.

    Returns:
        The returned values, in the order of the ranks.

    Raises:
        AssertionError: a process failed or took too long; the message is what both have printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _start_server()
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(len(RANKS)),
    }
    processes = [CONTEXT.Process(target=_run, args=(rank, environment, folder, function, args)) for rank in RANKS]
    for process in processes:
        process.start()
    try:
        _wait_for(processes, time.monotonic() + timeout)
        printed = "\n".join((folder / f"rank{rank}.log").read_text() for rank in RANKS)
        assert [process.exitcode for process in processes] == [0, 0], printed
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in RANKS]


def _start_server() -> None:
    """Start the server unless it is running."""
    before = os.environ.get("PYTHONPATH")
    # Until a request tells it this process's sys.path, PYTHONPATH is where the server finds what it imports.
    os.environ["PYTHONPATH"] = str(ROOT) if before is None else f"{ROOT}{os.pathsep}{before}"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _wait_for(processes: list[BaseProcess], deadline: float) -> None:
    """Wait until all processes have ended or one has failed, for which the other might wait forever."""
    while any(process.exitcode is None for process in processes):
        if any(process.exitcode for process in processes) or time.monotonic() > deadline:
            return
        running = [process.sentinel for process in processes if process.exitcode is None]
        wait(running, timeout=max(0.0, deadline - time.monotonic()))


def _run(
    rank: int, environment: dict[str, str], folder: Path, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Call the function in the process of one rank."""
    log = os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment, LOCAL_RANK=str(rank))
    rank_zero_only.rank = rank  # Lightning has read LOCAL_RANK when the server imported it
    returned = function(*args)
    torch.save(returned, folder / f"rank{rank}.pt")
    if distributed.is_initialized():
        distributed.destroy_process_group()
