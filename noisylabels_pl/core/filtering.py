"""Training on a part of each batch."""

from __future__ import annotations

from contextlib import AbstractContextManager

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn

from noisylabels_pl.core.processes import gather
from noisylabels_pl.data import scoring_pass
from noisylabels_pl.functional import check_choice, check_share, forget_rate_at, keep_smallest, smallest

# Of the cost of a training step, what its forward pass takes: leaving out more than this pays for another one.
FORWARD_SHARE = 1 / 3


class Filter:
    """Leaves the samples with the largest scores out of each batch.

    Args:
        forget_rate: share of the samples to leave out after the ramp, in ``[0, 1]``; at least one stays.
        ramp_epochs: epochs in which the share rises; 0 for no ramp.
        schedule: of the ramp, see :func:`~noisylabels_pl.functional.forget_rate_at`.
        scope: under DDP the largest scores are those of each process's part of the batch (``rank``), or of the whole
            batch (``global``), which equals a single process.
        reforward: whether the kept samples are to be trained on by themselves, after a pass that scores all of them:
            ``True``, ``False``, or ``"auto"``, in epochs that leave out so many samples that it is the cheaper way.
        train_mode: whether that pass runs the network as in training.
        bf16_scoring: whether it runs under autocast to bfloat16.

    Raises:
        ValueError: a number is out of range, an option unknown, or options do not go together.
    """

    def __init__(
        self,
        forget_rate: float | None,
        ramp_epochs: int,
        schedule: str,
        scope: str,
        reforward: bool | str,
        train_mode: bool,
        bf16_scoring: bool,
    ) -> None:
        if forget_rate is None:  # what a variant that is told the rate gets of noise that has none
            raise ValueError(
                "forget_rate is not known, because this noise has no rate; give one: method.forget_rate=0.2"
            )
        check_share("forget_rate", forget_rate)
        check_choice("scope", scope, ("rank", "global"))
        forget_rate_at(0, forget_rate, ramp_epochs=ramp_epochs, schedule=schedule)
        if reforward not in (True, False, "auto"):
            raise ValueError(f"reforward must be true, false or auto, got {reforward!r}")
        if reforward is False and (bf16_scoring or not train_mode):
            raise ValueError(
                "train_mode=False and bf16_scoring=True are of the pass that reforward adds, but reforward is False; "
                "set it to True or 'auto'"
            )
        if reforward is True and scope == "global":
            raise ValueError("scope='global' may leave a process without samples, on which reforward=True cannot train")
        self.forget_rate = forget_rate
        self.ramp_epochs = ramp_epochs
        self.schedule = schedule
        self.scope = scope
        self.reforward = reforward
        self.train_mode = train_mode
        self.bf16_scoring = bf16_scoring

    def rate(self, epoch: int) -> float:
        """The share that an epoch, counted from 0, leaves out."""
        return forget_rate_at(epoch, self.forget_rate, ramp_epochs=self.ramp_epochs, schedule=self.schedule)

    def reforwards(self, epoch: int, size: int) -> bool:
        """Whether an epoch's batches of ``size`` samples are trained on the kept ones by themselves."""
        if self.reforward != "auto":
            return bool(self.reforward)
        rate = self.rate(epoch)
        # Of a single sample batch normalisation has no statistics.
        return self.scope == "rank" and rate > FORWARD_SHARE and (1 - rate) * size >= 2

    def scoring_pass(self, trainer: L.Trainer, module: nn.Module) -> AbstractContextManager[None]:
        """For the pass that scores what :meth:`smallest` is to choose from."""
        return scoring_pass(trainer, module, self.train_mode, self.bf16_scoring)

    def smallest(self, scores: Tensor, epoch: int) -> Tensor:
        """``(k,)`` int64: the samples of this process to keep."""
        return smallest(scores, self.rate(epoch))

    def keep(self, scores: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Which samples to keep, and the share that is kept.

        Args:
            scores: ``(B,)`` of this process's samples; as many in every process.
            epoch: counted from 0.

        Returns:
            ``(B,)`` bool, and the share of the scope's samples that is kept, a scalar.
        """
        everyone = gather(scores) if self.scope == "global" else scores
        kept = keep_smallest(everyone, self.rate(epoch))
        rank = dist.get_rank() if len(everyone) > len(scores) else 0
        return kept.view(-1, len(scores))[rank], kept.float().mean()


def masked(losses: Tensor, kept: Tensor, share: Tensor) -> Tensor:
    """``(B,)`` losses whose mean, over all processes of the scope, is the mean of those that are kept.

    The others get gradients of exactly 0, also where they are infinite.
    """
    return torch.where(kept, losses, torch.zeros_like(losses)) / share
