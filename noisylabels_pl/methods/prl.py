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
            again. ``forward(x)`` must return what the criterion takes, and the loader must be ``indexed``.
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
        reforward: bool = False,
        scope: str = "rank",
        convert_batchnorm: bool = False,
        criterion: str | None = None,
    ) -> None:
        super().__init__(convert_batchnorm=convert_batchnorm, criterion=criterion)
        check_choice("score", score, ("loss_layer", "gradient", "loss"))
        if convert_batchnorm and score != "gradient":
            raise ValueError(f"convert_batchnorm=True is for score='gradient', got {score!r}")
        self.filter = Filter(forget_rate, ramp_epochs, schedule, scope, reforward)
        self.score = score
        self.reforward = reforward
        self.needs_index = reforward
        self.depends_on_batch = scope == "rank"

    def needs_norms(self) -> bool:
        return self.score == "gradient"

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._epoch = trainer.current_epoch
        if self.reforward:
            with torch.set_grad_enabled(self.needs_norms()), trainer.precision_plugin.forward_context():
                output = pl_module(batch.x)
                kept, _ = self._keep(per_sample(self.hooked, output, batch.y), output, batch.y)
            batch.x, batch.y, batch.index = batch.x[kept], batch.y[kept], batch.index[kept]
            batch.kept = (kept[kept],)

    def adjust(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        if self.reforward:
            return losses
        kept, share = self._keep(losses, logits, target)
        if isinstance(batch, Batch):
            batch.kept = (kept,)
        return self.weighted(losses, kept / share) if self.needs_norms() else masked(losses, kept, share)

    def _keep(self, losses: Tensor, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.score == "gradient":
            scores = self.gradient_norms(losses)
        elif self.score == "loss":
            scores = losses.detach()
        else:
            scores = loss_layer_gradient_norm(output.detach(), target, self._loss_layer(target))
        return self.filter.keep(scores, self._epoch)

    def _loss_layer(self, target: Tensor) -> str:
        if isinstance(self.hooked, REGRESSION_LOSSES):
            return "mse"
        if not target.is_floating_point():
            return "ce"
        raise TypeError(
            f"PRL knows no closed form of the gradient of {type(self.hooked).__name__} with targets that are real "
            "numbers; take score='gradient'"
        )
