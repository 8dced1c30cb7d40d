"""Training on a part of each batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from noisylabels_pl.core.table import gather
from noisylabels_pl.functional import keep_smallest

SCOPES = ("rank", "global")


def keep(scores: Tensor, forget_rate: float, scope: str) -> tuple[Tensor, Tensor]:
    """Which samples of a process's batch to keep, and the share that is kept.

    Args:
        scores: ``(B,)``; as many in every process.
        forget_rate: see :func:`~noisylabels_pl.functional.keep_smallest`.
        scope: ``rank``: the smallest of this process's scores. ``global``: of those of all processes.

    Returns:
        ``(B,)`` bool, and the share of the scope's samples that is kept, a scalar.
    """
    everyone = gather(scores) if scope == "global" else scores
    kept = keep_smallest(everyone, forget_rate)
    rank = dist.get_rank() if len(everyone) > len(scores) else 0
    return kept.view(-1, len(scores))[rank], kept.float().mean()


def masked(losses: Tensor, kept: Tensor, share: Tensor) -> Tensor:
    """``(B,)`` losses whose mean, over all processes of the scope, is the mean of those that are kept.

    The others get gradients of exactly 0, also where they are infinite.
    """
    return torch.where(kept, losses, torch.zeros_like(losses)) / share
