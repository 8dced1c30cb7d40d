"""Timing of alternatives side by side, for the benchmarks in this folder."""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch


def interleaved(
    alternatives: dict[str, Callable[[], object]], rounds: int, seconds: float = float("inf")
) -> dict[str, list[float]]:
    """Time alternatives in turn, so that a busy moment of the machine slows all of them.

    Args:
        alternatives: functions by name. A function that returns a float reports its own seconds, which lets it leave
            out its preparations; the others are timed here. Each is called once beforehand, untimed.
        rounds: the largest number of calls of each.
        seconds: no further round begins after so much time.

    Returns:
        The seconds of every call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for alternative in alternatives.values():
        alternative()
    start = time.perf_counter()
    for _ in range(rounds):
        for name, alternative in alternatives.items():
            synchronize()
            before = time.perf_counter()
            measured = alternative()
            synchronize()
            elapsed = time.perf_counter() - before
            times[name].append(measured if isinstance(measured, float) else elapsed)
        if time.perf_counter() - start > seconds:
            break
    return times


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    """Wait until the GPU has finished, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(title: str, times: dict[str, list[float]], baseline: str) -> None:
    """Print a Markdown table of the medians, the shortest times, and the medians' ratios to the baseline's."""
    baseline_median = statistics.median(times[baseline])
    print(f"### {title}\n\n| | median (s) | least (s) | against {baseline} |\n| --- | --- | --- | --- |")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.4f} | {min(values):.4f} | {median / baseline_median:.2f} |")
    rounds = {len(values) for values in times.values()}
    print(f"\n{min(rounds)} rounds; {machine()}\n")


def peak() -> float:
    """Return the most memory used so far, in GiB: on the GPU if there is one, else by the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    units_per_gib = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, other systems KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_gib


def machine() -> str:
    """Return the device and the versions, for the line below a table."""
    gpu = torch.cuda.is_available()
    processor = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    return f"{processor}, torch {torch.__version__}, Python {platform.python_version()}"


def arguments(description: str | None, positional: str = "", **options: int | float | str) -> argparse.Namespace:
    """Parse the command line.

    Args:
        description: the program's, for ``--help``.
        positional: name of a required argument; none if empty.
        **options: the other options with their defaults, which also give the types.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if positional:
        parser.add_argument(positional)
    for name, value in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()
