"""A callback that ends a fit whose loss is not a number."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core.supervised import LOG_EVERY_N_STEPS


class DivergedError(ArithmeticError):
    """A fit whose loss or weights are not finite any more.

    Args:
        problem: names the values that are not finite, such as ``the training loss is nan``.
        epoch: in which it was noticed, counted from 0.
        step: optimizer steps until then.
    """

    def __init__(self, problem: str, epoch: int, step: int) -> None:
        self.epoch = epoch
        self.step = step
        super().__init__(
            f"the run has diverged: {problem} in epoch {epoch}, after {step} optimizer steps; try a smaller optim.lr, "
            "+trainer.gradient_clip_val=1, or trainer.precision=32-true"
        )


class DivergenceCheck(L.Callback):
    """Raises :class:`DivergedError` once a fit has diverged.

    It looks at the loss in every 50th step, and at loss and weights in the last step of an epoch, because each look
    waits for the device. A single loss that is not finite may be an accident: mixed precision skips the step, and a
    method may drop the sample. So either a weight must not be finite, or the loss twice in a row.

    Raises:
        DivergedError: on all ranks in the same step.

    Example:
        >>> trainer = L.Trainer(callbacks=[DivergenceCheck()], logger=False, enable_checkpointing=False)
    """

    def __init__(self) -> None:
        self._was_finite = True  # the loss, at the last look

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._was_finite = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_last = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        if not is_last and batch_idx % LOG_EVERY_N_STEPS != 0:
            return
        loss: Any = outputs.get("loss") if isinstance(outputs, dict) else outputs
        loss_is_finite = not isinstance(loss, Tensor) or bool(loss.isfinite().all())
        has_diverged = not loss_is_finite and not self._was_finite
        if (is_last or not loss_is_finite) and not has_diverged:
            has_diverged = not _weights_are_finite(pl_module)
        self._was_finite = loss_is_finite
        # Each rank has its own loss. All must stop, because a rank that went on would wait for the others forever.
        if trainer.strategy.reduce_boolean_decision(has_diverged, all=False):
            problem = "the weights are not finite" if loss_is_finite else f"the training loss is {float(loss)}"
            raise DivergedError(problem, trainer.current_epoch, trainer.global_step)


@torch.no_grad()
def _weights_are_finite(module: L.LightningModule) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in module.parameters())
