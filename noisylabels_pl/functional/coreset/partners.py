"""Samples that the selected ones are mixed with."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset.selectors import Coreset


def cluster_partners(coreset: Coreset, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw for each medoid a random other member of its cluster.

    This is the partner for mixup in section 4.2 of "Coresets for Robust Training of Neural Networks against Noisy
    Labels" (CRUST, https://arxiv.org/abs/2011.07451), with one partner a medoid, ``|R_j| = 1``.

    Args:
        coreset: the result of a selector, such as :func:`facility_location`.
        generator: a CPU generator; the default one if not given.

    Returns:
        ``(k,)`` int64 on the CPU, in the order of ``coreset.indices``. A medoid that is alone in its cluster is its own
        partner.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import cluster_partners, facility_location
        >>> coreset = facility_location(torch.tensor([[0.0], [1.0], [8.0], [20.0]]), k=3)
        >>> coreset.indices, coreset.assignment
        (tensor([1, 3, 2]), tensor([0, 0, 2, 1]))
        >>> cluster_partners(coreset)
        tensor([0, 3, 2])
    """
    coreset = coreset.cpu()
    is_medoid = torch.zeros(len(coreset.assignment), dtype=torch.bool)
    is_medoid[coreset.indices] = True
    shuffled = torch.randperm(len(coreset.assignment), generator=generator)
    others = shuffled[~is_medoid[shuffled]]
    # After a stable sort by cluster, the first member of each cluster is a random one.
    clusters, order = coreset.assignment[others].sort(stable=True)
    is_first = torch.ones_like(clusters, dtype=torch.bool)
    is_first[1:] = clusters[1:] != clusters[:-1]
    partners = coreset.indices.clone()
    partners[clusters[is_first]] = others[order[is_first]]
    return partners


def same_label_partners(indices: Tensor, targets: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw for each selected sample a random one with the same label from the whole set, possibly the sample itself.

    This is the choice of the public code of CRUST.

    Args:
        indices: ``(k,)`` int64, the selected samples, on the CPU.
        targets: ``(n,)`` int64, the labels of all samples, on the CPU.
        generator: a CPU generator; the default one if not given.

    Returns:
        ``(k,)`` int64, in the order of ``indices``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import same_label_partners
        >>> targets = torch.tensor([0, 1, 1, 0, 2])
        >>> partners = same_label_partners(torch.tensor([4, 1, 0]), targets)
        >>> targets[partners]
        tensor([2, 1, 0])
    """
    by_label = targets.sort(stable=True).indices
    counts = torch.bincount(targets)
    starts = counts.cumsum(0) - counts
    labels = targets[indices]
    draws = torch.rand(len(indices), dtype=torch.float64, generator=generator)
    offsets = (draws * counts[labels]).long()
    return by_label[starts[labels] + offsets]
