"""Any robust loss as a callback."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor, nn

from noisylabels_pl.core.criterion_callback import CriterionCallback, per_sample_losses
from noisylabels_pl.data import Batch


class RobustLoss(CriterionCallback):
    """Trains with another loss than the module's own: ``Trainer(callbacks=[RobustLoss(GCELoss(q=0.7))])``.

    The module's criterion goes on deciding between mean and sum, and validation goes on using it; one with class
    weights or an ``ignore_index``, of which ``loss`` would know nothing, is refused. Unlike other methods this one
    needs no positions of samples, so any loader will do.

    Args:
        loss: ``(logits, target)`` to a loss; without trainable parameters.
        criterion: see :class:`CriterionCallback`.

    Raises:
        ValueError: ``loss`` has trainable parameters.
    """

    needs_index = False

    def __init__(self, loss: nn.Module, *, criterion: str | None = None) -> None:
        super().__init__(criterion=criterion)
        if not isinstance(loss, nn.Module):
            raise TypeError(f"RobustLoss takes a loss module, such as RobustLoss(GCELoss()), got {loss!r}")
        if any(parameter.requires_grad for parameter in loss.parameters()):
            raise ValueError(
                f"loss {type(loss).__name__} has trainable parameters, which no optimizer would know; make it the "
                "module's own: self.criterion = loss"
            )
        self.loss = loss
        self.tasks = getattr(loss, "tasks", ("classification", "regression"))

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        return per_sample_losses(self.loss.to(logits.device), logits, target)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        own = self._hooked
        if getattr(own, "weight", None) is not None or getattr(own, "ignore_index", -100) != -100:
            raise ValueError(
                f"{type(own).__name__} has class weights or an ignore_index, of which {type(self.loss).__name__} would "
                "know nothing; make the loss the module's own, self.criterion = loss, or leave them out"
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self.loss.cpu()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"loss": self.loss.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.loss.load_state_dict(state_dict["loss"])

    def _name(self) -> str:
        return f"RobustLoss({type(self.loss).__name__})"
