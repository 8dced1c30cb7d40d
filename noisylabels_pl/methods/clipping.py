"""Clipping gradients, of the batch or of every sample: baselines that bound what a wrong label can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from noisylabels_pl.core import GradientCallback


class NormClip(L.Callback):
    """Clips the gradient of each step to a length, as the Trainer's ``gradient_clip_val`` does, as a method.

    Args:
        max_norm: the length.

    Raises:
        ValueError: ``max_norm`` is not positive.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        trainer.precision_plugin.clip_gradients(optimizer, self.max_norm)


class IndividualClip(GradientCallback):
    """Clips the gradient of each sample to a length before they are averaged.

    Every layer must treat the samples of a batch by themselves. PRL's paper gives no length; 1 is usual in private
    training, which clips likewise.

    Args:
        max_norm: the length.
        convert_batchnorm: see :class:`~noisylabels_pl.core.GradientCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Raises:
        ValueError: ``max_norm`` is not positive.
    """

    needs = replace(GradientCallback.needs, role="weights", tasks=("classification", "regression"), positions=False)

    def __init__(self, max_norm: float = 1.0, *, convert_batchnorm: bool = False, criterion: str | None = None) -> None:
        super().__init__(convert_batchnorm=convert_batchnorm, criterion=criterion)
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        factors = (self.max_norm / self.gradient_norms(losses)).clamp(max=1)
        return self.reweighted(losses, factors.nan_to_num(0))
