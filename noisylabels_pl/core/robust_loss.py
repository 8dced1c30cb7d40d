"""Any robust loss as a callback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
from torch import Tensor, nn

from noisylabels_pl.core.criterion_callback import CriterionCallback
from noisylabels_pl.core.loss_call import LossKind, per_sample_losses
from noisylabels_pl.core.task import TaskName
from noisylabels_pl.data import Batch, Positions


class RobustLoss(CriterionCallback):
    """Trains with another loss than the module's own, and validates with the module's.

    The module's criterion still decides between mean and sum. A criterion with class weights or an ``ignore_index`` is
    refused, because ``loss`` would ignore them. This callback reads no positions of samples, so it works with every
    loader.

    Args:
        loss: ``(logits, target)`` to a loss; without trainable parameters.
        criterion: see :class:`CriterionCallback`.

    Raises:
        TypeError: ``loss`` is not a module.
        ValueError: ``loss`` has trainable parameters.

    Example:
        >>> from noisylabels_pl import GCELoss
        >>> callback = RobustLoss(GCELoss(q=0.7))
        >>> trainer = L.Trainer(callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    needs = replace(CriterionCallback.needs, positions=False)

    def __init__(self, loss: nn.Module, *, criterion: str | None = None) -> None:
        super().__init__(criterion=criterion)
        if not isinstance(loss, nn.Module):
            raise TypeError(f"loss must be a module, such as RobustLoss(GCELoss()), got {loss!r}")
        if any(parameter.requires_grad for parameter in loss.parameters()):
            raise ValueError(
                f"loss {type(loss).__name__} has trainable parameters, which no optimizer would know; make it the "
                "module's own: self.criterion = loss"
            )
        self.loss = loss
        tasks: tuple[TaskName, ...] = getattr(loss, "tasks", ("classification", "regression"))
        kinds: tuple[LossKind, ...] = ("classes", "binary") if "classification" in tasks else ()
        if "regression" in tasks:
            kinds = (*kinds, "regression", "other")
        depends_on_batch = getattr(loss, "depends_on_batch", False)
        self.needs = replace(self.needs, tasks=tasks, kinds=kinds, depends_on_batch=depends_on_batch)

    def conflict(self, other: CriterionCallback) -> str | None:
        has_value_per_batch = getattr(self.loss, "has_value_per_batch", False)
        if has_value_per_batch and other.needs.criterion and other.needs.role != "loss":
            return f"{type(self.loss).__name__} has one value for a whole batch, not one for each sample"
        return super().conflict(other)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        self.call.check_is_plain(type(self.loss).__name__)
        return per_sample_losses(self.loss.to(logits.device), logits, target)

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
