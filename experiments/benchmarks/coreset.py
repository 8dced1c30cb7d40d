"""Coresets: exact facility location and centrality against torch.cdist, apricot's lazy greedy, and their own growth.

usage: python experiments/benchmarks/coreset.py [--n 5000] [--d 10] [--rounds 7] [--large 0] [--growth 0]
       [--approximate 0]
apricot-select is compared if it can be imported, on a similarity matrix that is ready.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from timing import arguments, device, interleaved, machine, peak, report, synchronize
from torch import Tensor

from noisylabels_pl.functional import Coreset, centrality, distributed_greedy, facility_location, stochastic_greedy
from noisylabels_pl.functional import logit_gradient as gradient
from noisylabels_pl.functional.coreset import greedy_torch


def points(n: int, d: int) -> Tensor:
    """Like the gradients of samples at the logits of ``d`` classes."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, d, generator=generator)
    return gradient(logits, torch.randint(d, (n,), generator=generator)).to(device())


def apricot(x: Tensor, k: int) -> Callable[[], Any] | None:
    try:
        from apricot import FacilityLocationSelection
    except ImportError:
        return None
    distances = torch.cdist(x.double(), x.double()).cpu()
    similarities = (distances.max() - distances).numpy()
    return lambda: FacilityLocationSelection(k, metric="precomputed", optimizer="lazy").fit(similarities)


def side_by_side(n: int, d: int, rounds: int) -> None:
    x, k = points(n, d), n // 2
    alternatives: dict[str, Callable[[], Any]] = {
        "torch.cdist": lambda: torch.cdist(x, x),
        "torch.cdist, direct": lambda: torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"),
        "facility_location": lambda: facility_location(x, k),
        "facility_location, torch": lambda: greedy_torch.greedy(x, k),
        "centrality": lambda: centrality(x, k),
        "centrality, torch": lambda: greedy_torch.central(x, k),
    }
    rival = apricot(x, k)
    if rival is not None:
        alternatives["apricot, lazy"] = rival
    report(f"{n} points, {d} dimensions, half of them chosen", interleaved(alternatives, rounds), "torch.cdist")


def large(n: int, d: int) -> None:
    """One class of many points: seconds, and memory above what was there before."""
    facility_location(points(200, d), 100)  # compiled, or loaded
    x, before = points(n, d), peak()
    alternatives: dict[str, Callable[[], float]] = {
        "centrality": lambda: centrality(x, n // 2).cost,
        "facility_location": lambda: facility_location(x, n // 2).cost,
        "facility_location, torch": lambda: float(greedy_torch.greedy(x, n // 2)[2].sum()),
    }
    for name, cost in alternatives.items():
        synchronize()
        start = time.perf_counter()
        found = cost()
        seconds = time.perf_counter() - start
        print(f"- {name}, n = {n}: {seconds:.1f} s, {peak() - before:.2f} GiB above, cost {found:.1f}", flush=True)
    if find_spec("numba") and x.device.type == "cpu":
        from noisylabels_pl.functional.coreset import greedy_numba

        passes = {"pass": lambda: greedy_numba._prepare(x), "whole": lambda: centrality(x, n // 2)}
        times = {name: statistics.median(values) for name, values in interleaved(passes, 3).items()}
        print(f"- centrality takes {times['whole'] / times['pass']:.2f} times its pass over all distances")
    print(f"\n{machine()}\n")


def cost_of(select: Callable[..., Coreset], *args: Any, **options: Any) -> float:
    return select(*args, **options).cost


def approximate(n: int, d: int) -> None:
    """Greedy from samples and by parts: seconds, and the cost against exact greedy's."""
    x, generator = points(n, d), torch.Generator()
    for k in (n // 2, n // 10):
        parts = max(4, n // 5000)
        alternatives: dict[str, Callable[[], float]] = {
            "exact": partial(cost_of, facility_location, x, k),
            "exact, torch": lambda k=k: float(greedy_torch.greedy(x, k)[2].sum()),  # type: ignore[misc]
            "stochastic": partial(cost_of, stochastic_greedy, x, k, generator=generator.manual_seed(0)),
            "distributed": partial(cost_of, distributed_greedy, x, k, parts=parts, generator=generator),
        }
        print(f"### {k} of {n} points, {d} dimensions\n\n| | time (s) | cost against exact |\n| --- | --- | --- |")
        exact = alternatives["exact"]()  # and compiled
        for name, select in alternatives.items():
            start = time.perf_counter()
            cost = select()
            print(f"| {name} | {time.perf_counter() - start:.3f} | {cost / exact:.4f} |", flush=True)
        print(f"\n{machine()}\n")


def growth(largest: int, d: int) -> None:
    """The exponent with which exact facility location grows from 1,000 points on, half of them chosen."""
    sizes = [1000 * 2**i for i in range(int(math.log2(largest / 1000)) + 1)]
    seconds = []
    for n in sizes:
        x = points(n, d)
        times = interleaved({"": lambda x=x, n=n: facility_location(x, n // 2)}, 3, seconds=20)  # type: ignore[misc]
        seconds.append(statistics.median(times[""]))
    logs = [math.log(n) for n in sizes], [math.log(s) for s in seconds]
    exponent = statistics.linear_regression(*logs).slope
    listed = ", ".join(f"{n}: {s:.3f} s" for n, s in zip(sizes, seconds, strict=True))
    print(f"- growth: exponent {exponent:.2f} ({listed})\n\n{machine()}\n")


if __name__ == "__main__":
    options = arguments(__doc__, n=5000, d=10, rounds=7, large=0, growth=0, approximate=0)
    side_by_side(options.n, options.d, options.rounds)
    if options.large:
        large(options.large, options.d)
    if options.approximate:
        approximate(options.approximate, options.d)
    if options.growth:
        growth(options.growth, options.d)
