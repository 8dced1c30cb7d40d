"""Callbacks that train on the samples of each batch with the smallest scores."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core.batch_filter import BatchFilter, FilterOptions, masked_losses
from noisylabels_pl.core.criterion_callback import Needs, per_sample_losses
from noisylabels_pl.core.gradient_callback import GradientCallback
from noisylabels_pl.data import Batch

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FilterCallback(GradientCallback):
    """Drops the samples of each batch with the largest scores, and averages the losses of the rest.

    The kept samples of a batch are left in ``batch.kept`` if the loader is ``indexed``. With ``second_forward``, the
    training step sees the kept samples only: the loader must be ``indexed``, and ``forward(x)`` must return what the
    criterion takes.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        convert_batchnorm: see :class:`~noisylabels_pl.core.GradientCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.
    """

    needs = Needs(role="weights", tasks=("classification", "regression"), separate_samples=True)

    def __init__(
        self,
        forget_rate: float,
        *,
        convert_batchnorm: bool = False,
        criterion: str | None = None,
        **options: Unpack[FilterOptions],
    ) -> None:
        super().__init__(convert_batchnorm=convert_batchnorm, criterion=criterion)
        self.filter = BatchFilter(forget_rate, **options)
        self.needs = replace(
            self.needs,
            positions=self.filter.second_forward is not False,
            depends_on_batch=self.filter.scope == "rank",
        )

    @abstractmethod
    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        """Return ``(B,)``: the score of each sample; the largest are dropped.

        Args:
            losses: ``(B,)`` the criterion's losses.
            output: ``(B, ...)`` what the criterion was given.
            target: ``(B, ...)`` the same.
        """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._epoch = trainer.current_epoch
        self._is_filtered = self.needs.positions and self.filter.uses_second_forward(self._epoch, len(batch.index))
        if self._is_filtered:
            self._drop_from_batch(trainer, pl_module, batch)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        if self._is_filtered:
            return losses
        kept, kept_fraction = self.filter.keep(self.scores(losses, logits, target), self._epoch)
        if isinstance(batch, Batch):
            batch.kept = (kept,)
        if self.needs.gradient_norms:
            return self.reweighted(losses, kept / kept_fraction)
        return masked_losses(losses, kept, kept_fraction)

    def _drop_from_batch(self, trainer: L.Trainer, module: L.LightningModule, batch: Batch) -> None:
        """Score all samples by a forward pass, and leave only the kept ones in the batch."""
        with torch.set_grad_enabled(self.needs.gradient_norms), self.filter.scoring_pass(trainer, module):
            output = module(batch.x)
            scores = self.scores(per_sample_losses(self.criterion_module, output, batch.y), output, batch.y)
        kept = self.filter.keep_indices(scores, self._epoch)
        batch.x, batch.y, batch.index = batch.x[kept], batch.y[kept], batch.index[kept]
        batch.kept = (torch.ones_like(kept, dtype=torch.bool),)
