"""Time the selection of coresets, against torch.cdist and apricot's lazy greedy, and its growth with the points.

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

from noisylabels_pl.functional import (
    Coreset,
    centrality,
    distributed_greedy,
    facility_location,
    logit_gradient,
    stochastic_greedy,
)
from noisylabels_pl.functional.coreset import greedy_torch


def gradient_points(n: int, d: int) -> Tensor:
    """Return ``(n, d)`` points that are distributed like the gradients of samples at the logits of ``d`` classes."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, d, generator=generator)
    labels = torch.randint(d, (n,), generator=generator)
    return logit_gradient(logits, labels).to(device())


def apricot(points: Tensor, k: int) -> Callable[[], Any] | None:
    """Return apricot's lazy greedy on a matrix of similarities, or ``None`` if it is not installed."""
    try:
        from apricot import FacilityLocationSelection
    except ImportError:
        return None
    distances = torch.cdist(points.double(), points.double()).cpu()
    similarities = (distances.max() - distances).numpy()
    return lambda: FacilityLocationSelection(k, metric="precomputed", optimizer="lazy").fit(similarities)


def side_by_side(n: int, d: int, rounds: int) -> None:
    """Compare facility location and centrality, compiled and in torch, with all distances by torch.cdist."""
    points = gradient_points(n, d)
    k = n // 2
    alternatives: dict[str, Callable[[], Any]] = {
        "torch.cdist": lambda: torch.cdist(points, points),
        "torch.cdist, direct": lambda: torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist"),
        "facility_location": lambda: facility_location(points, k),
        "facility_location, torch": lambda: greedy_torch.greedy(points, k),
        "centrality": lambda: centrality(points, k),
        "centrality, torch": lambda: greedy_torch.central(points, k),
    }
    rival = apricot(points, k)
    if rival is not None:
        alternatives["apricot, lazy"] = rival
    report(f"{n} points, {d} dimensions, half of them chosen", interleaved(alternatives, rounds), "torch.cdist")


def large(n: int, d: int) -> None:
    """Measure one class of many points: seconds, and memory above what the process had before."""
    facility_location(gradient_points(200, d), 100)  # compiles the kernels, or loads them
    points = gradient_points(n, d)
    k = n // 2
    peak_before = peak()
    alternatives: dict[str, Callable[[], float]] = {
        "centrality": lambda: centrality(points, k).cost,
        "facility_location": lambda: facility_location(points, k).cost,
        "facility_location, torch": lambda: torch_cost(points, k),
    }
    for name, compute_cost in alternatives.items():
        synchronize()
        start = time.perf_counter()
        cost = compute_cost()
        seconds = time.perf_counter() - start
        print(f"- {name}, n = {n}: {seconds:.1f} s, {peak() - peak_before:.2f} GiB above, cost {cost:.1f}", flush=True)
    if find_spec("numba") and points.device.type == "cpu":
        from noisylabels_pl.functional.coreset import greedy_numba

        times = interleaved(
            {"one pass": lambda: greedy_numba._prepare(points), "centrality": lambda: centrality(points, k)}, 3
        )
        ratio = statistics.median(times["centrality"]) / statistics.median(times["one pass"])
        print(f"- centrality takes {ratio:.2f} times its pass over all distances")
    print(f"\n{machine()}\n")


def selector_cost(select: Callable[..., Coreset], *args: Any, **options: Any) -> float:
    """Select a coreset and return its cost."""
    return select(*args, **options).cost


def torch_cost(points: Tensor, k: int) -> float:
    """Run exact greedy in torch and return the cost of its coreset."""
    return float(greedy_torch.greedy(points, k).distances.sum())


def approximate(n: int, d: int) -> None:
    """Compare stochastic and distributed greedy with exact greedy: seconds, and cost."""
    points = gradient_points(n, d)
    generator = torch.Generator()
    for k in (n // 2, n // 10):
        parts = max(4, n // 5000)
        alternatives: dict[str, Callable[[], float]] = {
            "exact": partial(selector_cost, facility_location, points, k),
            "exact, torch": partial(torch_cost, points, k),
            "stochastic": partial(selector_cost, stochastic_greedy, points, k, generator=generator.manual_seed(0)),
            "distributed": partial(selector_cost, distributed_greedy, points, k, parts=parts, generator=generator),
        }
        print(f"### {k} of {n} points, {d} dimensions\n\n| | time (s) | cost against exact |\n| --- | --- | --- |")
        exact_cost = alternatives["exact"]()  # compiles the kernels, too
        for name, compute_cost in alternatives.items():
            start = time.perf_counter()
            cost = compute_cost()
            print(f"| {name} | {time.perf_counter() - start:.3f} | {cost / exact_cost:.4f} |", flush=True)
        print(f"\n{machine()}\n")


def growth(largest: int, d: int) -> None:
    """Print the exponent with which the time of exact facility location grows, from 1,000 points on, half chosen."""
    sizes = [1000 * 2**doubling for doubling in range(int(math.log2(largest / 1000)) + 1)]
    medians = []
    for n in sizes:
        select = partial(facility_location, gradient_points(n, d), n // 2)
        times = interleaved({"": select}, 3, seconds=20)
        medians.append(statistics.median(times[""]))
    log_sizes = [math.log(n) for n in sizes]
    log_medians = [math.log(median) for median in medians]
    exponent = statistics.linear_regression(log_sizes, log_medians).slope
    listed = ", ".join(f"{n}: {median:.3f} s" for n, median in zip(sizes, medians, strict=True))
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
