"""Changing the loss of a module that knows nothing of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisylabels_pl.data import Batch


class CriterionCallback(L.Callback, ABC):
    """Replaces what the module's criterion returns in training, and only there.

    A forward hook on the criterion, a child module such as ``nn.CrossEntropyLoss()``, is in place from
    ``on_train_start`` until the fit ends, however it ends. It acts while a training batch is under way, so validation
    sees the module's own loss; ``state_dict`` keys do not change.

    Args:
        criterion: name of the criterion in the module, such as ``"loss_fn"`` or ``"head.loss_fn"``; the only child
            module with a ``reduction`` if not given.
    """

    without_criterion: ClassVar[str] = ""  # end of the error message: options that do without

    def __init__(self, *, criterion: str | None = None) -> None:
        self.criterion = criterion
        self._hooked: nn.Module | None = None
        self._handle: RemovableHandle | None = None
        self._batch: Batch | None = None

    @abstractmethod
    def adjust(self, loss: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """The loss to train on, in place of the ``loss`` that the criterion made of ``logits`` and ``target``."""

    def needs_criterion(self) -> bool:
        """Whether :meth:`adjust` has anything to do; without it no criterion is looked for."""
        return True

    def per_sample_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """``(B,)``: the module's criterion with ``reduction="none"``; more dimensions are averaged."""
        criterion: Any = self._hooked
        if criterion is None:
            raise RuntimeError("per_sample_loss() works inside adjust() only")
        batch, self._batch = self._batch, None  # keeps the hook from acting on this call
        reduction = getattr(criterion, "reduction", None)
        try:
            if reduction is not None:
                criterion.reduction = "none"
            loss: Tensor = criterion(logits, target)
        finally:
            self._batch = batch
            if reduction is not None:
                criterion.reduction = reduction
        if not loss.ndim or len(loss) != len(target):
            raise TypeError(
                f"criterion {type(criterion).__name__} gives no loss per sample: {tuple(loss.shape)} for a batch of "
                f"{len(target)}; let it obey self.reduction = 'none', or return one value per sample"
            )
        return loss.flatten(1).mean(1) if loss.ndim > 1 else loss

    @staticmethod
    def reduce_like(loss: Tensor, own: Tensor, losses: Tensor) -> Tensor:
        """Reduce changed per-sample losses as the criterion reduced its own.

        Criteria take a sum, a mean, a mean over class weights, or leave samples out. All of these are the mean times a
        factor, which is read off ``loss``.

        Args:
            loss: what the criterion returned.
            own: ``(B,)`` :meth:`per_sample_loss` of the same logits and targets.
            losses: ``(B,)`` what to reduce.
        """
        mean = own.detach().mean()
        factor = torch.where(mean != 0, loss.detach() / mean, torch.ones_like(mean))
        return factor * losses.mean()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not in setup(): weight averaging deep-copies the module there, hooks included.
        if self.needs_criterion():
            self._hooked = self._find(pl_module)
            self._handle = self._hooked.register_forward_hook(self._hook, with_kwargs=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(batch, Batch):
            raise TypeError(
                f"a training batch is a {type(batch).__name__} without sample positions; pass "
                "trainer.fit(module, noisylabels_pl.indexed(train_loader)), and let batch transfer hooks set batch.x "
                "in place and return batch"
            )
        self._batch = batch

    def on_train_batch_end(self, *_: Any) -> None:
        self._batch = None

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._release()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._release()

    def _release(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._hooked = self._batch = None

    def _hook(self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Tensor) -> Tensor | None:
        if self._batch is None:
            return None
        names = dict(zip(("input", "target"), args, strict=False)) | kwargs
        target = names.pop("target")
        logits = next(iter(names.values()))
        return self.adjust(loss, logits, target, self._batch)

    def _find(self, module: L.LightningModule) -> nn.Module:
        if self.criterion is not None:
            candidates = {self.criterion: dict(module.named_modules()).get(self.criterion)}
        else:
            candidates = {name: child for name, child in module.named_children() if hasattr(child, "reduction")}
        found = [child for child in candidates.values() if isinstance(child, nn.Module)]
        if len(found) == 1:
            return found[0]
        what = (
            f"no module of that name: {self.criterion}" if self.criterion else f"{len(found)} criteria as child modules"
        )
        raise TypeError(
            f"{type(module).__name__} has {what}, but {type(self).__name__} changes the loss of one; write "
            "self.criterion = nn.CrossEntropyLoss() in __init__ and self.criterion(logits, y) in training_step"
            f"{self.without_criterion}"
        )
