"""Callbacks that train on the samples of each batch with the smallest scores."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core.batch_filter import (
    MASKING_REMEDY,
    SCORING_REMEDY,
    BatchFilter,
    FilterOptions,
    masked_losses,
    stop_bad_gradients,
)
from noisylabels_pl.core.criterion_callback import paused
from noisylabels_pl.core.distributed import check_equal_batches
from noisylabels_pl.core.gradient_callback import GradientCallback
from noisylabels_pl.core.loss_call import ALL_KINDS
from noisylabels_pl.core.needs import Needs
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.data.batch import keep_samples

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FilterCallback(GradientCallback):
    """Drops the samples of each batch with the largest scores, and averages the losses of the rest.

    With ``second_forward``, the training step sees the kept samples only, after it has run once up to its loss to score
    all of them: the loader must be ``indexed``.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.
    """

    needs = Needs(role="weights", tasks=("classification", "regression"), kinds=ALL_KINDS, separate_samples=True)

    def __init__(self, forget_rate: float, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(criterion=criterion)
        self.filter = BatchFilter(forget_rate, **options)
        self._epoch = 0
        self._batch_is_cut = False
        self.needs = replace(
            self.needs,
            positions=self.filter.second_forward is not False,
            depends_on_batch=self.filter.scope == "rank",
        )

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        return super().check_budget(epochs, steps) + self.filter.check_budget(epochs)

    @abstractmethod
    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        """Return ``(B,)``: the score of each sample; the largest are dropped.

        Args:
            losses: ``(B,)`` the criterion's losses.
            output: ``(B, ...)`` what the loss was given.
            target: ``(B, ...)`` what the loss was given.
        """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.filter.scope == "global":
            check_equal_batches(trainer.train_dataloader)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._epoch = trainer.current_epoch
        self._batch_is_cut = False
        if self.needs.positions and self._batch is not None:
            self._batch_is_cut = self.filter.uses_second_forward(self._epoch, len(self._batch.index))
        if self._batch_is_cut:
            self._drop_from_batch(trainer, pl_module, batch, batch_idx)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        if self._batch_is_cut:
            return losses
        kept, kept_fraction = self.filter.keep(self.scores(losses, logits, target), self._epoch)
        batch.kept = (kept,)
        if self.needs.gradient_norms:
            return self.reweighted(losses, kept / kept_fraction)
        self._bad_samples.add_dropped(~kept, logits, self._data, index=batch.index, remedy=MASKING_REMEDY)
        stop_bad_gradients(self.call.given_logits, kept)
        return masked_losses(losses, kept, kept_fraction)

    def _drop_from_batch(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Run the step up to its loss to score all samples, and leave only the kept ones in the batch."""
        assert self._batch is not None
        with (
            torch.set_grad_enabled(self.needs.gradient_norms),
            paused(trainer),
            self.filter.scoring_pass(trainer, module),
        ):
            call = self.recorded_call(module, batch, batch_idx)
            losses = call.per_sample(call.logits, call.target)
            self._call = call
            scores = self.scores(losses, call.logits, call.target)
            self._call = None
        if self.filter.train_mode:
            no_score = ~scores.isfinite().any()
            self._bad_samples.add(no_score, batch, index=self._batch.index, remedy=SCORING_REMEDY)
        kept = self.filter.keep_indices(scores, self._epoch)
        if isinstance(batch, Batch):
            batch.x, batch.y, batch.index = batch.x[kept], batch.y[kept], batch.index[kept]
        else:
            self._replaced = keep_samples(batch, kept, len(scores))
            if not self._replaced:
                raise TypeError(
                    f"{self._name()} leaves samples out of the batch before the step, but a batch "
                    f"({type(batch).__name__}) has no tensor with one row a sample in a list, tuple or dict; use "
                    "second_forward=False"
                )
            self._batch.index = self._batch.index[kept]
        self._batch.kept = (torch.ones_like(kept, dtype=torch.bool),)
        self._has_acted = True
