"""Per-sample gradient norms in any module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from noisylabels_pl.core.criterion_callback import CriterionCallback
from noisylabels_pl.per_sample import GradientNorms, batchnorm_to_groupnorm


class GradientCallback(CriterionCallback):
    """A :class:`CriterionCallback` whose ``adjust_losses`` may ask for :meth:`gradient_norms`.

    Hooks on the module's layers are in place during a fit, see :class:`~noisylabels_pl.per_sample.GradientNorms`.

    Args:
        convert_batchnorm: replace the module's batch normalization, which mixes samples, by group normalization, for
            good: before the fit, or before a checkpoint is loaded for evaluation. A network made in ``configure_model``
            comes too late.
        criterion: see :class:`CriterionCallback`.
    """

    needs = replace(CriterionCallback.needs, gradient_norms=True, separate_samples=True)

    def __init__(self, *, convert_batchnorm: bool = False, criterion: str | None = None) -> None:
        super().__init__(criterion=criterion)
        self.convert_batchnorm = convert_batchnorm
        self._norms: GradientNorms | None = None

    def gradient_norms(self, losses: Tensor) -> Tensor:
        """Return the norm of the gradient of each sample's loss; the losses' graph stays.

        Args:
            losses: ``(B,)``.

        Returns:
            ``(B,)``, at least float32.
        """
        return self._recorded_norms().compute(losses)

    def reweighted(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return ``losses * weights`` with a backward pass that reuses the gradients of :meth:`gradient_norms`.

        Args:
            losses: ``(B,)``, the tensor last given to :meth:`gradient_norms`.
            weights: ``(B,)``.

        Returns:
            ``(B,)``.
        """
        norms = self._recorded_norms()
        if not norms.is_layerwise:  # the backward pass goes through the activations of samples with weight 0
            index = torch.empty(0, dtype=torch.int64) if self._batch is None else self._batch.index
            self._bad_samples.add_dropped(weights == 0, self.call.logits, self._data, index=index, remedy="")
        return norms.reweighted(losses, weights)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self.convert_batchnorm:
            callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
            if any(isinstance(earlier, WeightAveraging) for earlier in callbacks[: callbacks.index(self)]):
                raise ValueError(
                    f"weight averaging has copied the module before {self._name()} could convert its batch "
                    f"normalization; put {self._name()} before it in the Trainer's callbacks"
                )
            batchnorm_to_groupnorm(pl_module)  # before the optimizer is given the parameters

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.needs.gradient_norms:
            self._norms = GradientNorms(pl_module)
            self._norms.register_hooks()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._norms is not None:
            self._norms.clear()

    def _recorded_norms(self) -> GradientNorms:
        if self._norms is None:
            raise RuntimeError("gradient norms are known during a fit only, with needs = Needs(gradient_norms=True)")
        return self._norms

    def _release(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        super()._release(trainer, module)
        if self._norms is not None:
            self._norms.remove_hooks()
        self._norms = None
