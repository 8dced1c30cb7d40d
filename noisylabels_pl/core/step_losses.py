"""The losses that one run of a training step computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisylabels_pl.core.loss_call import LossCall, wrong_kind
from noisylabels_pl.core.loss_interception import depends_on

if TYPE_CHECKING:
    from noisylabels_pl.core.criterion_callback import CriterionCallback


class StepLosses:
    """The losses of one run of a training step: those that callbacks changed, and why they left others alone.

    Args:
        callbacks: those that change a loss together.

    Attributes:
        callbacks: see above.
        name: of the loss that they changed, if any.
        results: the values that the step got for it, one a call.
        refusals: why other losses were left alone.
    """

    def __init__(self, callbacks: Sequence[CriterionCallback]) -> None:
        self.callbacks = callbacks
        self.name: str | None = None
        self.results: list[Tensor] = []
        self.refusals: list[Exception] = []
        self._target: Tensor | None = None

    def refusal(self, call: LossCall) -> Exception | None:
        """Return why the callbacks cannot change a loss, or ``None`` if they can."""
        if self.name not in (None, call.name):
            return ValueError(
                f"a step is trained with {self.name} and {call.name}, but {self._names()} changes one loss; compute "
                "one of them by a module of yours, and name it: criterion='...'"
            )
        if call.is_unreduced_function:
            return ValueError(
                f"{call.name} is called with reduction='none', and what the step makes of it may be another loss, such "
                "as the focal loss; let it reduce, or compute it by a module of yours and name that: criterion='...'"
            )
        for callback in self.callbacks:
            if call.kind not in callback.needs.kinds:
                return TypeError(wrong_kind(call, type(callback).__name__, callback.needs.kinds))
        return None if self._target is None else self._refusal_of_another_call(call, self._target)

    def _refusal_of_another_call(self, call: LossCall, earlier_target: Tensor) -> Exception | None:
        """Return why the callbacks cannot change a second call of the loss that they have changed already."""
        if any(callback.tables for callback in self.callbacks):
            return ValueError(
                f"{call.name} is called several times in a step, but a record of each sample is kept of one call; use "
                "two criteria, and name the one: criterion='...'"
            )
        for callback in self.callbacks:
            judges = callback.needs.separate_samples or callback.needs.mixes_samples
            if judges and not torch.equal(call.target, earlier_target):
                return ValueError(
                    f"{call.name} is called several times in a step with different targets, as a mixup of your own "
                    f"does, so {type(callback).__name__} does not know which is the sample's; leave one of the two out"
                )
        return None

    def leave_alone(self, loss: Tensor, refusal: Exception) -> None:
        """Leave a loss as it is, which is right for a log and wrong for training: there, its gradient raises."""
        self.refusals.append(refusal)
        if loss.requires_grad:

            def refuse(gradient: Tensor) -> None:
                raise refusal

            loss.register_hook(refuse)  # type: ignore[no-untyped-call]

    def change(self, call: LossCall, result: Tensor) -> None:
        """Note that the step got ``result`` for a call of the loss."""
        self.name = call.name
        self._target = call.target
        self.results.append(result)

    def are_trained_by(self, loss: Tensor) -> bool:
        """Return whether a loss that is about to be differentiated contains one that was changed."""
        return any(depends_on(loss, result) for result in self.results)

    def _names(self) -> str:
        return " and ".join(type(callback).__name__ for callback in self.callbacks)


def reduced_like(call: LossCall, loss: Tensor, losses: Tensor, adjusted: Tensor) -> Tensor:
    """Reduce the adjusted losses as a call reduced its own ``losses`` to ``loss``.

    A criterion may take a sum, a mean, a mean over class weights, or leave samples out. Each of these is the mean times
    a factor, which follows from the criterion's own losses.
    """
    if loss.ndim:  # the module reduces by itself
        return adjusted.view(-1, *(1,) * (loss.ndim - 1)).expand_as(loss)
    factor = loss.detach() / losses.detach().mean()
    usual_factor = len(losses) if call.is_sum else 1
    # Rounding must not scale the gradients of a plain mean or sum; 0 / 0 is a batch that fits perfectly.
    rounding = 4 * usual_factor * torch.finfo(factor.dtype).eps
    is_usual = (factor - usual_factor).abs() <= rounding
    factor = torch.where(is_usual | ~factor.isfinite(), usual_factor, factor)
    return factor * adjusted.mean()
