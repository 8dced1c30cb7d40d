"""Training on a part of each batch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, TypedDict

import lightning as L
import torch
from torch import Tensor, nn

from noisylabels_pl.core.distributed import all_gather, rank_and_world_size
from noisylabels_pl.core.scoring import scoring_pass
from noisylabels_pl.functional import (
    check_choice,
    check_range,
    forget_rate_schedule,
    keep_candidates,
    keep_indices,
    keep_mask,
)
from noisylabels_pl.functional.schedules import ForgetRateSchedule

MASKING_REMEDY = "; a filter drops such a sample, but only second_forward=True keeps it out of the training pass"
SCORING_REMEDY = (
    "; a filter drops such a sample, but batch normalization spreads it in the scoring pass: train_mode=False"
)

# The forward pass takes about a third of a training step: a second one pays where more samples than that are dropped.
FORWARD_COST = 1 / 3


class FilterOptions(TypedDict, total=False):
    """The options that every method with a :class:`BatchFilter` passes on to it; documented there."""

    ramp_epochs: int
    schedule: ForgetRateSchedule
    scope: Literal["rank", "global"]
    second_forward: bool | Literal["auto"]
    train_mode: bool
    bf16_scoring: bool


class BatchFilter:
    """Keeps the samples of each batch with the smallest scores.

    Args:
        forget_rate: fraction of the samples to drop after the ramp, in ``[0, 1]``; at least one sample stays. It is the
            papers' ``epsilon`` or ``tau``, and there the true rate of wrong labels.
        ramp_epochs: epochs in which the dropped fraction rises, the papers' ``T_k``; 0 for no ramp.
        schedule: of the ramp, see :func:`~noisylabels_pl.functional.forget_rate_schedule`.
        scope: under DDP, drop the largest scores of each process's part of the batch (``rank``), or of the whole batch
            (``global``), which equals a single process.
        second_forward: train on a second forward pass, of the kept samples alone, after a pass that scores all of them.
            Batch normalization then takes its statistics from the kept samples, and dropout draws again. ``"auto"``
            does so in epochs that drop more than a third of the samples, where it is faster. A batch that keeps a
            single sample, which has no statistics, never takes a second pass; its other samples are masked.
        train_mode: run the scoring pass in training mode, in which batch normalization uses the whole batch, instead of
            in evaluation mode. The two drop different samples, most of all in early epochs. Only where a second forward
            pass follows.
        bf16_scoring: run that scoring pass under autocast to bfloat16, whatever the trainer's precision.

    Raises:
        ValueError: a number is out of range, an option unknown, or two options do not go together.
    """

    def __init__(
        self,
        forget_rate: float | None,
        *,
        ramp_epochs: int = 0,
        schedule: ForgetRateSchedule = "paper",
        scope: Literal["rank", "global"] = "rank",
        second_forward: bool | Literal["auto"] = False,
        train_mode: bool = True,
        bf16_scoring: bool = False,
    ) -> None:
        if forget_rate is None:  # a variant that takes the rate from the noise, and the noise has none
            raise ValueError(
                "forget_rate is not known, because this noise has no rate; give one: method.forget_rate=0.2"
            )
        check_range("forget_rate", forget_rate, "[0, 1]")
        check_choice("scope", scope, ("rank", "global"))
        check_choice("second_forward", second_forward, (True, False, "auto"))
        forget_rate_schedule(0, forget_rate, ramp_epochs=ramp_epochs, schedule=schedule)  # checks these two
        if second_forward is False and (bf16_scoring or not train_mode):
            raise ValueError(
                "train_mode=False and bf16_scoring=True are options of the scoring pass that second_forward adds, but "
                "second_forward is False; set it to True or 'auto'"
            )
        if second_forward is True and scope == "global":
            raise ValueError(
                "scope='global' may leave a process without samples, on which second_forward=True cannot train; set "
                "scope='rank'"
            )
        self.forget_rate = forget_rate
        self.ramp_epochs = ramp_epochs
        self.schedule = schedule
        self.scope = scope
        self.second_forward = second_forward
        self.train_mode = train_mode
        self.bf16_scoring = bf16_scoring

    def rate(self, epoch: int) -> float:
        """Return the fraction of a batch to drop in an epoch, counted from 0."""
        return forget_rate_schedule(epoch, self.forget_rate, ramp_epochs=self.ramp_epochs, schedule=self.schedule)

    def check_budget(self, epochs: float) -> list[str]:
        """Return a warning if the ramp is longer than a fit; see ``check_budget`` of the methods."""
        last_rate = self.rate(max(int(epochs) - 1, 0)) if epochs < self.ramp_epochs else self.forget_rate
        if last_rate == self.forget_rate:
            return []
        return [
            f"ramp_epochs={self.ramp_epochs} is longer than the fit of {epochs} epochs: its last epoch drops "
            f"{last_rate:.3g} of a batch, not forget_rate={self.forget_rate}"
        ]

    def uses_second_forward(self, epoch: int, batch_size: int) -> bool:
        """Return whether this epoch's batches of ``batch_size`` samples take a second forward pass."""
        rate = self.rate(epoch)
        if (1 - rate) * batch_size < 2 - 1e-9:
            return False  # batch normalization has no statistics of a single sample
        if self.second_forward != "auto":
            return bool(self.second_forward)
        return self.scope == "rank" and rate > FORWARD_COST

    def scoring_pass(self, trainer: L.Trainer, module: nn.Module) -> AbstractContextManager[None]:
        """Return the context for the pass whose scores :meth:`keep_indices` is given."""
        return scoring_pass(trainer, module, self.train_mode, self.bf16_scoring)

    def keep_indices(self, scores: Tensor, epoch: int) -> Tensor:
        """Return ``(k,)`` int64: which of this process's samples to keep, given their scores ``(B,)``."""
        return keep_indices(scores, self.rate(epoch))

    def keep(self, scores: Tensor, epoch: int, candidates: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return which samples to keep, and which fraction that is.

        Args:
            scores: ``(B,)`` of this process's samples; the same number in every process.
            epoch: counted from 0.
            candidates: ``(B,)`` bool, the samples to choose from; all if not given. The rate is then a fraction of
                them, and there may be none.

        Returns:
            ``(B,)`` bool, and the kept fraction of the scope's samples, a scalar.
        """
        batch_size = len(scores)
        rank = 0
        if self.scope == "global":
            rank, _ = rank_and_world_size()
            scores = all_gather(scores)
            candidates = None if candidates is None else all_gather(candidates)
        if candidates is None:
            kept = keep_mask(scores, self.rate(epoch))
        else:
            kept = keep_candidates(scores, candidates, self.rate(epoch))
        return kept.view(-1, batch_size)[rank], kept.float().mean()


def masked_losses(losses: Tensor, kept: Tensor, kept_fraction: Tensor) -> Tensor:
    """Return losses whose mean over the scope's processes is the mean of the kept samples' losses.

    Dropped losses get gradients of exactly 0, even where they are infinite or NaN. Where the network's outputs are not
    finite, :func:`stop_bad_gradients` is needed, too.

    Args:
        losses: ``(B,)``.
        kept: ``(B,)`` bool.
        kept_fraction: a scalar, see :meth:`BatchFilter.keep`. Where it is 0, so are the losses and their gradients.

    Returns:
        ``(B,)``.
    """
    # The least fraction of any batch that keeps a sample is larger.
    return torch.where(kept, losses, torch.zeros_like(losses)) / kept_fraction.clamp(min=1e-9)


def stop_bad_gradients(outputs: Tensor, kept: Tensor) -> None:
    """Let the gradients of a network's outputs be 0 where the sample is dropped and they are not finite.

    The derivative of a loss may be infinite or NaN, and stays so when it is multiplied by the gradient 0 of a dropped
    loss. Finite gradients pass, because the outputs may be in other losses, too.

    Args:
        outputs: ``(B, ...)``.
        kept: ``(B,)`` bool.

    Example:
        >>> outputs = torch.zeros(2, requires_grad=True)
        >>> stop_bad_gradients(outputs, torch.tensor([True, False]))
        >>> masked_losses(outputs.sqrt() + 1, torch.tensor([False, False]), torch.tensor(1.0)).sum().backward()
        >>> outputs.grad
        tensor([nan, 0.])
    """
    if not outputs.requires_grad:
        return
    kept_rows = kept.view(-1, *(1,) * (outputs.ndim - 1))
    outputs.register_hook(lambda gradient: torch.where(kept_rows | gradient.isfinite(), gradient, 0))  # type: ignore[no-untyped-call]
