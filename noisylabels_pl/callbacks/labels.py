"""What the true labels say of a run; no method sees this."""

from __future__ import annotations

import lightning as L
from torch import Tensor

from noisylabels_pl.data import SelectionSampler, score, training_loader
from noisylabels_pl.functional import selection_quality
from noisylabels_pl.metrics import Memorisation


class LabelQuality(L.Callback):
    """Logs how clean the selected samples are and how much of the noise the network has memorised.

    Per epoch: ``selection/precision`` and ``selection/recall`` of the samples that the epoch trains on, where samples
    are selected, and ``train/clean_acc``, ``train/memorised`` and ``train/recovered`` of
    :class:`~noisylabels_pl.metrics.Memorisation` after it, in evaluation mode.

    Args:
        clean_targets: ``(n,)`` true labels in the order of the training set.
        observed_targets: ``(n,)`` labels that training sees.
    """

    def __init__(self, clean_targets: Tensor, observed_targets: Tensor) -> None:
        self.clean_targets = clean_targets
        self.is_clean = clean_targets == observed_targets

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        sampler = training_loader(trainer).sampler
        if isinstance(sampler, SelectionSampler) and sampler.selection is not None:
            precision, recall = selection_quality(sampler.selection.indices, self.is_clean)
            pl_module.log_dict({"selection/precision": precision, "selection/recall": recall}, rank_zero_only=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        scores = score(trainer, pl_module, training_loader(trainer))
        metric = Memorisation()
        metric.update(scores.logits.argmax(1).cpu(), scores.targets.cpu(), self.clean_targets)
        shares = {f"train/{name}": value for name, value in metric.compute().items() if not value.isnan()}
        pl_module.log_dict(shares, rank_zero_only=True)
