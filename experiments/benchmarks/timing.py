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
    """Seconds of each alternative, one after the other in every round, so that a busy moment meets all of them.

    Each is called once before that. What returns a number is taken at its word, for it may know what not to count.
    After ``seconds`` a further round is not begun.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for alternative in alternatives.values():
        alternative()
    start = time.perf_counter()
    for _ in range(rounds):
        for name, alternative in alternatives.items():
            synchronize()
            before = time.perf_counter()
            own = alternative()
            synchronize()
            times[name].append(own if isinstance(own, float) else time.perf_counter() - before)
        if time.perf_counter() - start > seconds:
            break
    return times


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(title: str, times: dict[str, list[float]], baseline: str) -> None:
    """A Markdown table of medians, and their ratios to the baseline's."""
    base = statistics.median(times[baseline])
    print(f"### {title}\n\n| | median (s) | least (s) | against {baseline} |\n| --- | --- | --- | --- |")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.4f} | {min(values):.4f} | {median / base:.2f} |")
    rounds = {len(values) for values in times.values()}
    print(f"\n{min(rounds)} rounds; {machine()}\n")


def peak() -> float:
    """The most memory so far, in GiB: of the device if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{device}, torch {torch.__version__}, Python {platform.python_version()}"


def arguments(description: str | None, positional: str = "", **sizes: int | float | str) -> argparse.Namespace:
    """Command line with an option for every size, and perhaps something that has no default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if positional:
        parser.add_argument(positional)
    for name, value in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()
