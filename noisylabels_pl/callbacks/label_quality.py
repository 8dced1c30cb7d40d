"""What the true labels, or regression targets, say of a run; no method sees this."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core import score, training_loader
from noisylabels_pl.data import SelectionSampler
from noisylabels_pl.functional import label_precision_recall
from noisylabels_pl.metrics import Memorization


class LabelQuality(L.Callback):
    """Logs how clean the selected samples are and how much of the noise the network has memorized.

    Per epoch: ``selection/precision`` and ``selection/recall`` of the samples that the epoch trains on, where samples
    are selected for the epoch or within each batch (of two networks, both), and for classes ``train/clean_acc``,
    ``train/memorized`` and ``train/recovered`` of :class:`~noisylabels_pl.metrics.Memorization` after it, in evaluation
    mode.

    Args:
        clean_targets: ``(n, ...)`` true labels in the order of the training set.
        observed_targets: ``(n, ...)`` labels that training sees.
        max_samples: the shares of :class:`~noisylabels_pl.metrics.Memorization` are measured on so many training
            samples at most, always the same ones, drawn at random; their standard error is about 1 % or less.
    """

    def __init__(self, clean_targets: Tensor, observed_targets: Tensor, *, max_samples: int = 5000) -> None:
        self.clean_targets = clean_targets
        self.is_clean = (clean_targets == observed_targets).view(len(clean_targets), -1).all(1)
        shuffled = torch.randperm(len(clean_targets), generator=torch.Generator().manual_seed(0))
        self.rows = shuffled[:max_samples].sort().values
        # Samples kept within batches in this epoch, and clean ones among them; none of an epoch resumed in its middle.
        self._counts: Tensor | None = None
        self._networks = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        sampler = training_loader(trainer).sampler
        if isinstance(sampler, SelectionSampler) and sampler.selection is not None:
            precision, recall = label_precision_recall(sampler.selection.indices, self.is_clean)
            pl_module.log_dict({"selection/precision": precision, "selection/recall": recall}, sync_dist=True)
        self.is_clean = self.is_clean.to(pl_module.device)
        self._counts = torch.zeros(2, device=pl_module.device)
        self._networks = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        kept = getattr(batch, "kept", None)
        if kept is not None and self._counts is not None:
            is_clean = self.is_clean[batch.index]
            self._counts = self._counts + sum(torch.stack([mask.sum(), (mask & is_clean).sum()]) for mask in kept)
            self._networks = len(kept)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._networks and self._counts is not None:
            kept, clean = trainer.strategy.reduce(self._counts, reduce_op="sum")
            recall = clean / (self._networks * self.is_clean.sum())
            pl_module.log_dict({"selection/precision": clean / kept, "selection/recall": recall}, sync_dist=True)
        self._counts = None
        if self.clean_targets.is_floating_point():
            return
        scores = score(trainer, pl_module, training_loader(trainer), rows=self.rows)
        predictions, observed = scores.logits.argmax(1).cpu(), scores.targets.cpu()
        metric = Memorization(sync_on_compute=False)  # every rank has all scores
        metric.update(predictions[self.rows], observed[self.rows], self.clean_targets[self.rows])
        shares = {f"train/{name}": value for name, value in metric.compute().items() if not value.isnan()}
        pl_module.log_dict(shares, sync_dist=True)
