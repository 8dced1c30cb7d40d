"""A callback that compares training with the true labels or targets, which no method sees."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core import measured_samples, score_batches, training_loader
from noisylabels_pl.data import SelectionSampler
from noisylabels_pl.functional import label_precision_recall
from noisylabels_pl.metrics import Memorization


class LabelQuality(L.Callback):
    """Logs how many selected samples are rightly labeled, and how much of the noise the network has memorized.

    Every epoch it logs

    * ``selection/precision``, the fraction of rightly labeled samples among those that the epoch trains on, and
      ``selection/recall``, the fraction of all rightly labeled samples that the epoch trains on. Both are logged if a
      method selects samples for the epoch or within each batch; for two networks, the selections of both are pooled;
    * for classes, ``train/clean_acc``, ``train/memorized`` and ``train/recovered``, the metrics of
      :class:`~noisylabels_pl.metrics.Memorization` after the epoch, in evaluation mode;
    * for classes, ``train/changed``, the fraction of samples whose predicted class is another one than after the epoch
      before, in evaluation mode. The number ``label_wave`` of :class:`~noisylabels_pl.callbacks.History` follows from
      it. It needs no true labels.

    Args:
        clean_targets: ``(n, ...)`` true labels or targets, in the order of the training set; ``None`` if they are not
            known, and only ``train/changed`` is logged.
        observed_targets: ``(n, ...)`` labels or targets that training sees.
        max_samples: predictions are measured on at most this many training samples, drawn at random once; with 5,000
            of them, the standard errors are about 1 % or less.

    Attributes:
        is_clean: ``(n,)`` bool: which samples are rightly labeled; ``None`` if that is not known.

    Example:
        >>> quality = LabelQuality(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
        >>> quality.is_clean
        tensor([ True,  True, False])
    """

    def __init__(self, clean_targets: Tensor | None, observed_targets: Tensor, *, max_samples: int = 5000) -> None:
        self.clean_targets = clean_targets
        self.observed_targets = observed_targets
        self.is_clean: Tensor | None = None
        if clean_targets is not None:
            self.is_clean = (clean_targets == observed_targets).view(len(clean_targets), -1).all(1)
        self.measured_indices = measured_samples(len(observed_targets), max_samples)
        # Of the measured samples after the latest epoch; None before the first one.
        self._predictions: Tensor | None = None
        # Two numbers: samples kept within this epoch's batches, and rightly labeled ones among them. None outside of an
        # epoch, and in an epoch that was resumed in its middle, because its first batches were not counted.
        self._counts: Tensor | None = None
        self._num_networks = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.is_clean is None:
            return
        sampler = training_loader(trainer).sampler
        if isinstance(sampler, SelectionSampler) and sampler.selection is not None:
            precision, recall = label_precision_recall(sampler.selection.indices, self.is_clean)
            pl_module.log_dict({"selection/precision": precision, "selection/recall": recall}, sync_dist=True)
        self.is_clean = self.is_clean.to(pl_module.device)
        self._counts = torch.zeros(2, device=pl_module.device)
        self._num_networks = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        masks = getattr(batch, "kept", None)  # one for each network
        if masks is None or self._counts is None or self.is_clean is None:
            return
        is_clean = self.is_clean[batch.index]
        for mask in masks:
            self._counts = self._counts + torch.stack([mask.sum(), (mask & is_clean).sum()])
        self._num_networks = len(masks)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._counts is not None and self.is_clean is not None and self._num_networks:
            self._log_kept_samples(trainer, pl_module, self._counts, self.is_clean)
        self._counts = None
        if not self.observed_targets.is_floating_point():
            self._log_predictions(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"predictions": self._predictions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._predictions = state_dict["predictions"]

    def _log_kept_samples(
        self, trainer: L.Trainer, pl_module: L.LightningModule, counts: Tensor, is_clean: Tensor
    ) -> None:
        """Log precision and recall of the samples that were kept within batches."""
        num_kept, num_clean = trainer.strategy.reduce(counts, reduce_op="sum")
        recall = num_clean / (self._num_networks * is_clean.sum())
        pl_module.log_dict({"selection/precision": num_clean / num_kept, "selection/recall": recall}, sync_dist=True)

    def _log_predictions(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log how many predictions changed, and the metrics of ``Memorization`` that are defined."""
        metric = Memorization().to(pl_module.device)  # sums the counts of all ranks
        predictions = torch.zeros(len(self.observed_targets), dtype=torch.int64, device=pl_module.device)

        def count(index: Tensor, logits: Tensor, observed: Tensor) -> None:
            predicted = logits.argmax(1)
            predictions[index] = predicted
            if self.clean_targets is not None:
                metric.update(predicted, observed, self.clean_targets[index.cpu()].to(observed.device))

        score_batches(trainer, pl_module, training_loader(trainer), count, rows=self.measured_indices)
        if self.clean_targets is not None:
            for name, value in metric.compute().items():
                if not value.isnan():
                    pl_module.log(f"train/{name}", value, sync_dist=True)
        # Each rank has predicted for some samples, and holds zeros for the others.
        measured = trainer.strategy.reduce(predictions, reduce_op="sum").cpu()[self.measured_indices]
        if self._predictions is not None:
            changed = (measured != self._predictions).double().mean()
            pl_module.log("train/changed", changed.float(), sync_dist=True)
        self._predictions = measured
