"""A call of a loss in a training step: its logits and targets, what they mean, and its loss of each sample."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.data.batch import is_one_hot

REGRESSION_LOSSES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
_REGRESSION = {F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss}
_CLASSES = {F.cross_entropy, F.nll_loss, F.multi_margin_loss}
_BINARY = {F.binary_cross_entropy_with_logits}
_TORCH_CRITERIA = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, nn.BCEWithLogitsLoss)
LOSS_FUNCTIONS: set[Any] = _REGRESSION | _CLASSES | _BINARY
_PARAMETERS: dict[Any, tuple[str, ...]] = {f: tuple(inspect.signature(f).parameters) for f in LOSS_FUNCTIONS}

LossKind = Literal["classes", "binary", "soft", "multilabel", "dense", "regression", "other"]
ALL_KINDS: tuple[LossKind, ...] = get_args(LossKind)
KIND_MEANING: dict[LossKind, str] = {
    "classes": "one class per sample",
    "binary": "one logit per sample",
    "soft": "class probabilities as targets",
    "multilabel": "several labels per sample",
    "dense": "a class for every pixel",
    "regression": "real-valued targets",
    "other": "targets whose meaning is not known",
}


@dataclass
class LossCall:
    """One call of a loss in a training step.

    Attributes:
        name: of the loss, for messages.
        kind: the meaning of its targets.
        logits: ``(B, ...)`` its first argument; for ``binary``, the two logits ``(0, z)`` of each sample, ``(B, 2)``.
        target: ``(B, ...)`` its second argument; for ``binary`` and ``classes``, ``(B,)`` int64, whatever their
            type was; one-hot rows are classes, too.
        unreduced: the loss function with ``reduction="none"`` and all other arguments bound.
        is_plain: whether the loss has no class weights and no ignored labels.
        is_sum: whether the loss is a sum over the batch.
        is_unreduced_function: whether it is a loss function that leaves the reduction to the step.
    """

    name: str
    kind: LossKind
    logits: Tensor
    target: Tensor
    unreduced: Callable[[Tensor, Tensor], Tensor]
    is_plain: bool = True
    is_sum: bool = False
    is_unreduced_function: bool = False

    def __post_init__(self) -> None:
        self._given_logits = self.logits
        self._given_target = self.target
        if self.kind == "binary":
            scores = self.logits.reshape(-1)
            self.logits = torch.stack([torch.zeros_like(scores), scores], 1)
            self.target = (self.target.reshape(-1) > 0.5).long()
        elif self.kind == "classes" and self.target.is_floating_point():
            self.target = self.target.argmax(1)
        elif self.kind == "classes" and self.target.dtype != torch.int64:
            self.target = self.target.long()  # torch takes uint8, too

    @property
    def given_logits(self) -> Tensor:
        """The first argument as the step gave it."""
        return self._given_logits

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, ``(B,)``, for logits and targets in the form of this call's."""
        # What the step gave keeps its memory layout, which decides on rounding, and its smoothed labels.
        if logits is self.logits:
            logits = self._given_logits
        elif self.kind == "binary":
            logits = (logits[:, 1] - logits[:, 0]).view_as(self._given_logits)
        if target is self.target:
            target = self._given_target
        elif self.kind == "binary":
            target = target.to(self._given_target.dtype).view_as(self._given_target)
        return _one_per_sample(self.unreduced(logits, target), self.name, len(target))

    def check_rows(self, num_samples: int, owner: str) -> None:
        """Check that the loss is called with one row a sample.

        Args:
            num_samples: of the batch; 0 if it is not known.
            owner: name of the callback that changes the loss, for the message.

        Raises:
            TypeError: outputs and targets would be broadcast, or there are more or fewer rows than samples.
        """
        if self.kind == "regression" and self.logits.shape != self.target.shape:
            raise TypeError(
                f"{self.name} is called with outputs {tuple(self.logits.shape)} and targets {tuple(self.target.shape)}"
                ", which it would broadcast; reshape one of them, as by y.view_as(output)"
            )
        if num_samples and len(self.target) != num_samples:
            raise TypeError(
                f"{self.name} is called with {len(self.target)} rows for a batch of {num_samples} samples, so "
                f"{owner} does not know which sample a row belongs to; call it with one row a sample"
            )

    def check_is_plain(self, loss: str) -> None:
        """Check that the loss has no class weights and no ignored labels.

        Args:
            loss: name of the loss that takes its place, for the message.

        Raises:
            ValueError: it has; the other loss would ignore them.
        """
        if not self.is_plain:
            raise ValueError(
                f"{self.name} has class weights or an ignore_index, which {loss} would ignore; make the loss the "
                "module's own, self.criterion = loss, or leave them out"
            )


def wrong_kind(call: LossCall, owner: str, kinds: tuple[LossKind, ...]) -> str:
    """Return the message that a callback is not made for a kind of loss."""
    wanted = " or ".join(KIND_MEANING[kind] for kind in kinds)
    return f"{call.name} is called with {KIND_MEANING[call.kind]}, but {owner} is for {wanted}; leave it out"


def call_of_function(function: Any, args: Any, kwargs: Any) -> LossCall:
    """Return the call of one of :data:`LOSS_FUNCTIONS` with these arguments."""
    names = _PARAMETERS[function]
    arguments = dict(zip(names, args, strict=False)) | kwargs
    logits, target = arguments.pop(names[0]), arguments.pop(names[1])
    options = {name: value for name, value in arguments.items() if name not in ("size_average", "reduce")}
    reduction = options.get("reduction", "mean")
    options["reduction"] = "none"
    kind: LossKind = "regression" if function in _REGRESSION else _kind(logits, target, function in _BINARY)
    is_plain = options.get("weight") is None and options.get("pos_weight") is None
    is_plain = is_plain and options.get("ignore_index", -100) == -100
    return LossCall(
        f"F.{function.__name__}",
        kind,
        logits,
        target,
        partial(function, **options),
        is_plain=is_plain,
        is_sum=reduction == "sum",
        is_unreduced_function=reduction == "none",
    )


def call_of_criterion(criterion: nn.Module, args: Any, kwargs: Any) -> LossCall:
    """Return the call of a criterion with these arguments.

    Raises:
        TypeError: it is called with other arguments than ``(logits, target)``.
    """
    logits, target = _two_arguments(criterion, args, kwargs)
    name = type(criterion).__name__
    kind: LossKind
    if isinstance(criterion, REGRESSION_LOSSES):
        kind = "regression"
    elif target.is_floating_point() and not isinstance(criterion, _TORCH_CRITERIA):
        kind = "other"
    else:
        kind = _kind(logits, target, isinstance(criterion, nn.BCEWithLogitsLoss))
    is_plain = getattr(criterion, "weight", None) is None and getattr(criterion, "pos_weight", None) is None
    is_plain = is_plain and getattr(criterion, "ignore_index", -100) == -100
    is_sum = getattr(criterion, "reduction", None) == "sum"
    return LossCall(name, kind, logits, target, partial(_unreduced, criterion), is_plain, is_sum)


def _kind(logits: Tensor, target: Tensor, is_binary_loss: bool) -> LossKind:
    if is_binary_loss:
        return "binary" if logits.numel() == len(logits) else "multilabel"
    if logits.ndim > 2:
        return "dense"
    if not target.is_floating_point() or is_one_hot(target):
        return "classes"
    return "soft"


def _two_arguments(criterion: nn.Module, args: Any, kwargs: Any) -> tuple[Tensor, Tensor]:
    num_arguments = len(args) + len(kwargs)
    if num_arguments != 2:
        raise TypeError(
            f"{type(criterion).__name__} is called with {num_arguments} arguments, but only the loss of (logits, "
            "target) can be changed; keep other arguments in the criterion"
        )
    positional = [*args, *(value for key, value in kwargs.items() if key != "target")]
    target = kwargs["target"] if "target" in kwargs else positional[1]
    return positional[0], target


def per_sample_losses(criterion: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """Return a criterion's loss of each sample.

    The criterion is called with ``reduction="none"``; losses with more dimensions are averaged over these.

    Args:
        criterion: ``(logits, target)`` to a loss.
        logits: ``(B, ...)``.
        target: ``(B, ...)``.

    Returns:
        ``(B,)``.

    Raises:
        TypeError: the criterion gives no loss per sample.

    Example:
        >>> per_sample_losses(nn.MSELoss(), torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
        tensor([1., 2.])
    """
    return _one_per_sample(_unreduced(criterion, logits, target), type(criterion).__name__, len(target))


def _one_per_sample(losses: Tensor, name: str, batch_size: int) -> Tensor:
    """Return unreduced losses as ``(B,)``, averaged over all other dimensions."""
    if not losses.ndim or len(losses) != batch_size:
        raise TypeError(
            f"criterion {name} gives no loss per sample: {tuple(losses.shape)} for a batch of {batch_size}; let it "
            "obey self.reduction = 'none', or return one value per sample"
        )
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _unreduced(criterion: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    reduction = getattr(criterion, "reduction", None)
    try:
        if reduction is not None:
            criterion.reduction = "none"  # type: ignore[assignment]
        losses: Tensor = criterion.forward(logits, target)  # a call would run the hooks again
    finally:
        if reduction is not None:
            criterion.reduction = reduction
    return losses
