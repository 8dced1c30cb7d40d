"""Label Wave: early stopping without validation data (Yuan, Feng and Liu, ICLR 2024)."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core import (
    CriterionCallback,
    Needs,
    Supervised,
    measured_samples,
    score_batches,
    training_loader,
)
from noisylabels_pl.core.criterion_callback import paused
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.functional import check_range, first_local_minimum


class LabelWave(CriterionCallback):
    r"""Stops a fit when more predictions begin to change again, and brings back the weights from before.

    `Early Stopping Against Label Noise Without Validation Data <https://arxiv.org/abs/2502.07551>`_. While a network
    learns what is common to many samples, its predictions for the training set settle. When it begins to memorize wrong
    labels, they change more again. Let :math:`c_t` be the fraction of training samples whose predicted class after
    epoch :math:`t` is another one than after epoch :math:`t - 1`. Training stops at the first local minimum of the
    moving average

    .. math::
        \bar c_t = \frac{1}{k} \sum_{j=0}^{k-1} c_{t-j}

    A minimum is noticed one epoch later, so the weights of the epoch with the lowest average are kept and loaded again.
    This happens after the last batch of an epoch, before its validation, whose metrics are then those of the weights
    that were brought back.

    It changes no loss, and works beside every other callback and in twin networks. Predictions are made in evaluation
    mode, which, unlike those of the training steps, do not change by augmentation, mixing or dropout, and exist for
    samples that a method leaves out. That takes a forward pass of ``max_samples`` samples an epoch.

    Args:
        window: epochs in the moving average, :math:`k`.
        patience: epochs with a higher average that stop the fit. 1 is the first local minimum; more is safer where few
            samples make the average noisy.
        max_samples: predictions are made for at most this many training samples, drawn at random once.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Attributes:
        changes: the fraction of changed predictions after each epoch but the first one.
        best_epoch: whose weights are kept, counted from 0; ``None`` before there is an average.

    Raises:
        ValueError: a number is not a positive integer.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import LabelWave
        >>> trainer = L.Trainer(max_epochs=200, callbacks=[LabelWave()], logger=False, enable_checkpointing=False)
    """

    needs = Needs(criterion=False)

    def __init__(
        self, window: int = 3, *, patience: int = 1, max_samples: int = 5000, criterion: str | None = None
    ) -> None:
        super().__init__(criterion=criterion)
        check_range("max_samples", max_samples, "[1, inf)", integer=True)
        first_local_minimum([], window=window, patience=patience)  # checks these two
        self.window = window
        self.patience = patience
        self.max_samples = max_samples
        self.changes: list[float] = []
        self.best_epoch: int | None = None
        self._predictions: Tensor | None = None  # (m,) of the measured samples, after the latest epoch
        self._best_weights: dict[str, Any] = {}
        self._has_stopped = False

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        return losses

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        first_epoch_to_stop = self.window + self.patience + 1
        if epochs >= first_epoch_to_stop:
            return []
        return [
            f"window={self.window} and patience={self.patience} cannot stop a fit of {epochs} epochs: the first epoch "
            f"that they may stop is number {first_epoch_to_stop}"
        ]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._forget()  # an earlier fit; a resumed fit loads its state after this

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not trainer.is_last_batch or self._has_stopped:
            return
        predictions = self._predict(trainer, pl_module)
        if self._predictions is not None:
            self.changes.append(float((predictions != self._predictions).double().mean()))
        self._predictions = predictions
        minimum = first_local_minimum(self.changes, window=self.window, patience=self.patience)
        if minimum.is_confirmed:
            pl_module.load_state_dict(self._best_weights)
            self._has_stopped = True
            trainer.should_stop = True
        elif minimum.position is not None and minimum.position == len(self.changes) - 1:
            self.best_epoch = trainer.current_epoch
            self._best_weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "changes": self.changes,
            "predictions": self._predictions,
            "best_epoch": self.best_epoch,
            "best_weights": self._best_weights,
            "has_stopped": self._has_stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.changes = state_dict["changes"]
        self._predictions = state_dict["predictions"]
        self.best_epoch = state_dict["best_epoch"]
        self._best_weights = state_dict["best_weights"]
        self._has_stopped = state_dict["has_stopped"]

    def _forget(self) -> None:
        self.changes = []
        self.best_epoch = None
        self._predictions = None
        self._best_weights = {}
        self._has_stopped = False

    def _predict(self, trainer: L.Trainer, module: L.LightningModule) -> Tensor:
        """Return the predicted classes ``(m,)`` of the measured samples, on every rank and on the CPU."""
        loader = training_loader(trainer)
        num_samples = len(loader.dataset)  # type: ignore[arg-type]
        measured = measured_samples(num_samples, self.max_samples)
        predictions = torch.zeros(num_samples, dtype=torch.int64, device=trainer.strategy.root_device)

        def remember(index: Tensor, logits: Tensor, target: Tensor) -> None:
            predictions[index] = logits.argmax(1)

        # The modules of this library return logits, of two networks their mean. Of another one, the loss knows them.
        recorder = None if isinstance(module, Supervised) else self.recorder(module)
        with paused(trainer):
            score_batches(trainer, module, loader, remember, rows=measured, recorder=recorder)
        # Each rank has predicted for some samples, and holds zeros for the others.
        reduced: Tensor = trainer.strategy.reduce(predictions, reduce_op="sum")
        return reduced.cpu()[measured]
