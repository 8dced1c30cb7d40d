"""Samples to mix the selected ones with."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset.selectors import Coreset


def cluster_partners(coreset: Coreset, *, generator: torch.Generator | None = None) -> Tensor:
    """For each medoid a random other member of its cluster (CRUST, section 4.2, with ``|R_j| = 1``).

    Args:
        coreset: what :func:`facility_location` or :func:`centrality` returned.
        generator: a CPU generator; the default one if none is given.

    Returns:
        ``(k,)`` int64 on the CPU, aligned with ``coreset.indices``; the medoid itself where it is alone in its cluster.
    """
    coreset = coreset.cpu()
    indices, assignment = coreset.indices, coreset.assignment
    partners = indices.clone()
    others = torch.ones(len(assignment), dtype=torch.bool)
    others[indices] = False
    shuffled = torch.randperm(len(assignment), generator=generator)
    shuffled = shuffled[others[shuffled]]
    cluster, order = assignment[shuffled].sort(stable=True)
    first = torch.ones_like(cluster, dtype=torch.bool)
    first[1:] = cluster[1:] != cluster[:-1]
    partners[cluster[first]] = shuffled[order[first]]
    return partners


def same_label_partners(indices: Tensor, targets: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """For each selected sample a random sample of the whole set with the same label, possibly itself.

    Args:
        indices: ``(k,)`` selected rows, on the CPU.
        targets: ``(n,)`` int64 labels, on the CPU.
        generator: a CPU generator; the default one if none is given.

    Returns:
        ``(k,)`` int64 rows.
    """
    order = targets.sort(stable=True).indices
    counts = torch.bincount(targets)
    starts = counts.cumsum(0) - counts
    labels = targets[indices]
    draws = torch.rand(len(indices), dtype=torch.float64, generator=generator)
    return order[starts[labels] + (draws * counts[labels]).long()]
