"""The length of a fit, and the parts of a method that do not come about in it."""

from __future__ import annotations

import math
from typing import Protocol

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn


class HasBudget(Protocol):
    """A method that checks whether a fit is long enough for it."""

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        """See :meth:`noisylabels_pl.core.CriterionCallback.check_budget`."""


def budget_warnings(trainer: L.Trainer, method: HasBudget) -> list[str]:
    """Warn of the parts of a method that do not come about in a fit.

    Args:
        trainer: in ``on_train_start``.
        method: that is fitted.

    Returns:
        The warnings.

    Raises:
        ValueError: the method would never act.
    """
    length = planned_length(trainer)
    if length is None:
        return []
    warnings = method.check_budget(*length)
    for warning in warnings:
        rank_zero_warn(warning)
    return warnings


def planned_length(trainer: L.Trainer) -> tuple[float, float] | None:
    """Return the epochs and the optimizer steps that a fit will have had at its end.

    Args:
        trainer: in ``on_train_start`` or later.

    Returns:
        Two numbers, infinite if nothing limits them; ``None`` for ``fast_dev_run``, which tries the code in one step.

    Example:
        >>> planned_length(L.Trainer(fast_dev_run=True, logger=False)) is None
        True
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    steps_per_epoch = math.inf
    if math.isfinite(trainer.num_training_batches):  # infinite for a stream
        steps_per_epoch = max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
    epochs = math.inf if trainer.max_epochs is None or trainer.max_epochs < 0 else trainer.max_epochs
    steps = epochs * steps_per_epoch
    if 0 <= trainer.max_steps < steps:
        steps = trainer.max_steps
        epochs = math.ceil(steps / steps_per_epoch)
    return epochs, steps
