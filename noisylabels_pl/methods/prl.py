"""Provable robust learning: training without the samples of largest gradient (Liu et al., ICLR 2021 submission)."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core import REGRESSION_LOSSES, Filter, GradientCallback, masked, per_sample
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import check_choice, loss_layer_gradient_norm


class PRL(GradientCallback):
    """Drops the share of each batch that has the largest gradients, and averages the rest.

    ``score`` makes it PRL(L), PRL(G) or self-paced learning (SPL); SPL with a forget rate of 1 is Min-SGD. In
    regression with squared errors PRL(L) and SPL choose the same samples.

    Args:
        forget_rate: share of each batch that is dropped after the ramp, in ``[0, 1]``; the paper's ``epsilon`` and
            ``tau``, and there the true rate of corruption. At least one sample stays.
        score: ``loss_layer``: length of the gradient of cross-entropy, or of the squared error, at the network's
            output, whichever loss is trained. ``gradient``: length of the trained loss's gradient over all trainable
            parameters; every layer must treat the samples of a batch by themselves. ``loss``: the trained loss.
        ramp_epochs: epochs in which the share rises, the paper's ``T_k``; 0 for no ramp.
        schedule: of the ramp, see :func:`~noisylabels_pl.functional.forget_rate_at`.
        reforward: let the training step see the kept samples only, after a forward pass that scores all of them by the
            module's own criterion. Batch normalisation then takes its statistics from what is kept, and dropout draws
            again. ``forward(x)`` must return what the criterion takes, and the loader must be ``indexed``. ``"auto"``
            does so in epochs that drop more than a third of the samples, where it is faster, with at least two left.
        train_mode: run that scoring pass in training mode, in which batch normalisation goes by the whole batch, as the
            public code does, instead of in evaluation mode. The two drop other samples, above all in early epochs.
        bf16_scoring: run that scoring pass under autocast to bfloat16, whatever the trainer's precision.
        scope: under DDP the largest scores are those of each process's part of the batch (``rank``), or of the whole
            batch (``global``), which equals a single process.
        convert_batchnorm: for ``score="gradient"``, replace the module's batch normalisation by group normalisation,
            for good: the network must be converted likewise (``functional.batchnorm_to_groupnorm``) before its weights
            are loaded without this callback. See :class:`~noisylabels_pl.core.GradientCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Raises:
        ValueError: a number is out of range, an option unknown, or options do not go together.
    """

    role = "weights"
    tasks = ("classification", "regression")

    def __init__(
        self,
        forget_rate: float,
        *,
        score: str = "loss_layer",
        ramp_epochs: int = 0,
        schedule: str = "paper",
        reforward: bool | str = False,
        train_mode: bool = True,
        bf16_scoring: bool = False,
        scope: str = "rank",
        convert_batchnorm: bool = False,
        criterion: str | None = None,
    ) -> None:
        super().__init__(convert_batchnorm=convert_batchnorm, criterion=criterion)
        check_choice("score", score, ("loss_layer", "gradient", "loss"))
        if convert_batchnorm and score != "gradient":
            raise ValueError(f"convert_batchnorm=True is for score='gradient', got {score!r}")
        if reforward == "auto" and score == "gradient":
            reforward = False  # without a second pass it takes the gradients from what scoring found
        self.filter = Filter(forget_rate, ramp_epochs, schedule, scope, reforward, train_mode, bf16_scoring)
        self.score = score
        self.needs_index = reforward is not False
        self.depends_on_batch = scope == "rank"

    def needs_norms(self) -> bool:
        return self.score == "gradient"

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._epoch = trainer.current_epoch
        self._passes_twice = self.needs_index and self.filter.reforwards(self._epoch, len(batch.index))
        if self._passes_twice:
            with torch.set_grad_enabled(self.needs_norms()), self.filter.scoring_pass(trainer, pl_module):
                output = pl_module(batch.x)
                scores = self._scores(per_sample(self.hooked, output, batch.y), output, batch.y)
            kept = self.filter.smallest(scores, self._epoch)
            batch.x, batch.y, batch.index = batch.x[kept], batch.y[kept], batch.index[kept]
            batch.kept = (torch.ones_like(kept, dtype=torch.bool),)

    def adjust(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        if self._passes_twice:
            return losses
        kept, share = self.filter.keep(self._scores(losses, logits, target), self._epoch)
        if isinstance(batch, Batch):
            batch.kept = (kept,)
        return self.weighted(losses, kept / share) if self.needs_norms() else masked(losses, kept, share)

    def _scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        if self.score == "gradient":
            return self.gradient_norms(losses)
        if self.score == "loss":
            return losses.detach()
        return loss_layer_gradient_norm(output.detach(), target, self._loss_layer(target))

    def _loss_layer(self, target: Tensor) -> str:
        if isinstance(self.hooked, REGRESSION_LOSSES):
            return "mse"
        if not target.is_floating_point():
            return "ce"
        raise TypeError(
            f"PRL knows no closed form of the gradient of {type(self.hooked).__name__} with targets that are real "
            "numbers; take score='gradient'"
        )
