"""Changing the loss of a module that knows nothing of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisylabels_pl.core.scoring import training_loader
from noisylabels_pl.core.tables import SampleTables
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import check_choice

# What a callback does to the losses of a batch, in the order in which several callbacks do it.
ROLES = {
    "loss": "replace the loss of each sample",
    "mixing": "mix samples",
    "weights": "weight the samples of a batch",
    "samples": "choose the samples of an epoch",
}


REGRESSION_LOSSES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


class CriterionCallback(L.Callback, ABC):
    """Changes what the module's criterion returns in training, and only there.

    A forward hook on the criterion, a child module such as ``nn.CrossEntropyLoss()``, is in place from
    ``on_train_start`` until the fit ends, however it ends. It acts while a training batch is under way, so validation
    sees the module's own loss; ``state_dict`` keys do not change. The hook computes the criterion's loss per sample,
    passes it through :meth:`adjust_losses`, and reduces it as the criterion does.

    Several such callbacks work on one criterion in the order of :data:`ROLES`, whatever their order in the Trainer; two
    of the same role are refused.

    Args:
        criterion: name of the criterion in the module, such as ``"loss_fn"`` or ``"head.loss_fn"``; the only child
            module with a ``reduction`` if not given. A checkpoint keeps the callback's state under this name.

    Attributes:
        tables: state for every training sample; ``self.tables.add(name)`` in ``__init__`` makes a
            :class:`~noisylabels_pl.core.SampleTable` that is emptied before a fit and saved in checkpoints.
    """

    role: ClassVar[str] = "loss"
    tasks: tuple[str, ...] = ("classification",)
    needs_index: bool = True  # whether adjust_losses() reads batch.index, for which the loader must be indexed
    # Whether the parts of a batch that several processes get fare otherwise than the whole in one.
    depends_on_batch: bool = False
    without_criterion: ClassVar[str] = ""  # end of the error message: options that do without

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_choice("role", cls.role, ROLES)

    def __init__(self, *, criterion: str | None = None) -> None:
        self.criterion = criterion
        self.tables = SampleTables()
        self._hooked: nn.Module | None = None
        self._inner: list[CriterionCallback] = []  # callbacks on the same criterion that come before this one
        self._handle: RemovableHandle | None = None
        self._batch: Batch | None = None
        self._calls = 0  # of the criterion, in this batch
        self._was_called = False  # in this fit

    @property
    def state_key(self) -> str:
        return f"{self._name()}[criterion={self.criterion}]"  # two of a class may work on two criteria

    @abstractmethod
    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """``(B,)``: what to train on in place of ``losses``, the criterion's for each sample.

        It is called once a batch, and again with other targets beside a callback that mixes samples.
        """

    def needs_criterion(self) -> bool:
        """Whether :meth:`adjust_losses` has anything to do; without it no criterion is looked for."""
        return True

    def mixes_samples(self) -> bool:
        """Whether it mixes samples and calls :meth:`per_sample_loss` for the other target."""
        return False

    def conflict(self, other: CriterionCallback) -> str | None:
        """Why this callback cannot work beside another one, if it cannot, apart from both having the same role."""
        if self.tables and other.mixes_samples():
            return f"{self._name()} keeps a record of each sample, but {other._name()} mixes samples"
        return f"both {ROLES['mixing']}" if self.mixes_samples() and other.mixes_samples() else None

    @property
    def hooked(self) -> nn.Module:
        """The module's criterion, during a fit."""
        if self._hooked is None:
            raise RuntimeError("the criterion is known during a fit only")
        return self._hooked

    def per_sample_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """``(B,)``: what :meth:`adjust_losses` gets as ``losses``, for other targets."""
        if self._hooked is None or self._batch is None:
            raise RuntimeError("per_sample_loss() works inside adjust_losses() only")
        if not self.mixes_samples():
            raise RuntimeError(f"{self._name()} calls per_sample_loss(); let its mixes_samples() return True")
        losses = per_sample_losses(self._hooked, logits, target)
        for callback in self._inner:
            losses = callback.adjust_losses(losses, logits, target, self._batch)
        return losses

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.tables.clear_rows()  # of an earlier fit; a resume loads its own after this

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.needs_index:
            self.tables.start(len(training_loader(trainer).dataset))  # type: ignore[arg-type]
        others = [other for other in _criterion_callbacks(trainer) if other is not self]
        for other in others:
            self._refuse(other, self.conflict(other))
        # Not in setup(): weight averaging deep-copies the module there, hooks included.
        if not self.needs_criterion():
            return
        self._hooked = self._find(pl_module)
        if isinstance(self._hooked, REGRESSION_LOSSES) and "regression" not in self.tasks:
            raise TypeError(
                f"{self._name()} is for {' and '.join(self.tasks)}, but {type(pl_module).__name__} is trained with "
                f"{type(self._hooked).__name__}; leave it out"
            )
        roles = list(ROLES)
        is_last = True
        for other in others:
            if other.needs_criterion() and other._find(pl_module) is self._hooked:
                if other.role == self.role:
                    self._refuse(other, f"both {ROLES[self.role]}")
                elif roles.index(other.role) < roles.index(self.role):
                    self._inner.append(other)
                else:
                    is_last = False
        self._inner.sort(key=lambda callback: roles.index(callback.role))
        if is_last:
            _forget_compiled_step(pl_module)
            hook = torch.compiler.disable(self._hook)  # type: ignore[no-untyped-call]
            self._handle = self._hooked.register_forward_hook(hook, with_kwargs=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.needs_index and not isinstance(batch, Batch):
            raise TypeError(
                f"a training batch is a {type(batch).__name__} without sample positions; let batch transfer hooks set "
                "batch.x in place and return batch"
            )
        self._batch, self._calls = batch, 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._handle is not None and not self._was_called:
            raise TypeError(
                f"training_step of {type(pl_module).__name__} never called its {type(self._hooked).__name__}, whose "
                f"loss {self._name()} changes; compute the loss by that module{self.without_criterion}"
            )
        self._batch = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batch = None  # also after a batch that another callback skipped

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._release(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._release(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"tables": self.tables.state_dict()} if self.tables else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.tables:
            self.tables.load_state_dict(state_dict["tables"])

    def _release(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._handle is not None:
            self._handle.remove()
            _forget_compiled_step(module)
        self._handle = self._hooked = self._batch = None
        self._was_called = False
        self._inner = []
        self.tables.to_cpu()

    def _refuse(self, other: CriterionCallback, reason: str | None) -> None:
        if reason is not None:
            raise ValueError(f"{self._name()} and {other._name()} cannot be combined: {reason}; leave one of them out")

    def _name(self) -> str:
        return type(self).__name__

    def _hook(self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Tensor) -> Tensor | None:
        if self._batch is None or not torch.is_grad_enabled():  # or computed for the log
            return None
        count = len(args) + len(kwargs)
        if count != 2:
            raise TypeError(
                f"{type(criterion).__name__} is called with {count} arguments, but {self._name()} can change "
                "the loss of (logits, target) only; keep other arguments in the criterion"
            )
        self._was_called, self._calls = True, self._calls + 1
        if self._calls > 1 and any(callback.tables for callback in (*self._inner, self)):
            raise ValueError(
                f"{type(criterion).__name__} is called {self._calls} times in a step, but a record of each sample is "
                "kept of one call; use two criteria, and name the one: criterion='...'"
            )
        given = [*args, *(value for name, value in kwargs.items() if name != "target")]
        logits, target = given[0], kwargs["target"] if "target" in kwargs else given[1]
        if isinstance(criterion, REGRESSION_LOSSES) and logits.shape != target.shape:
            raise TypeError(
                f"{type(criterion).__name__} is called with outputs {tuple(logits.shape)} and targets "
                f"{tuple(target.shape)}, which it would broadcast; reshape one of them, as by y.view_as(output)"
            )
        if isinstance(self._batch, Batch) and len(target) != len(self._batch.index):
            raise TypeError(
                f"{type(criterion).__name__} is called with {len(target)} rows for a batch of {len(self._batch.index)} "
                f"samples, so {self._name()} does not know whose they are; call it with one row a sample"
            )
        own = losses = per_sample_losses(criterion, logits, target)
        for callback in (*self._inner, self):
            losses = callback.adjust_losses(losses, logits, target, self._batch)
            if not isinstance(losses, Tensor) or losses.shape != own.shape:
                what = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
                raise TypeError(
                    f"{callback._name()}.adjust_losses must return one loss a sample, {tuple(own.shape)}, got {what}"
                )
        if losses is own:
            return None
        if loss.ndim:  # the module reduces by itself
            return losses.view(-1, *(1,) * (loss.ndim - 1)).expand_as(loss)
        # Criteria take a sum, a mean, a mean over class weights, or leave samples out. All of these are the mean times
        # a factor, which is read off what the criterion made of its own losses.
        factor = loss.detach() / own.detach().mean()
        usual = len(own) if getattr(criterion, "reduction", None) == "sum" else 1
        return torch.where(factor.isfinite(), factor, usual) * losses.mean()  # 0 / 0 of a batch that fits perfectly

    def _find(self, module: L.LightningModule) -> nn.Module:
        if self.criterion is not None:
            candidates = {self.criterion: dict(module.named_modules()).get(self.criterion)}
        else:
            candidates = {name: child for name, child in module.named_children() if hasattr(child, "reduction")}
        found = [child for child in candidates.values() if isinstance(child, nn.Module)]
        if len(found) == 1:
            return found[0]
        if self.criterion is None and found:
            raise TypeError(
                f"{type(module).__name__} has {len(found)} criteria as child modules: {', '.join(candidates)}; say "
                f"which one {self._name()} changes: criterion={next(iter(candidates))!r}"
            )
        children = ", ".join(name for name, _ in module.named_children())
        what = "child module with a reduction" if self.criterion is None else f"module named {self.criterion!r}"
        raise TypeError(
            f"{type(module).__name__} has no {what} (it has {children}) whose loss {self._name()} could change; "
            "write self.criterion = nn.CrossEntropyLoss() in __init__ and self.criterion(logits, y) in training_step, "
            f"or name another: criterion='...'{self.without_criterion}"
        )


def per_sample_losses(criterion: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """``(B,)``: a criterion with ``reduction="none"``; more dimensions are averaged.

    Raises:
        TypeError: the criterion gives no loss per sample.
    """
    reduction = getattr(criterion, "reduction", None)
    try:
        if reduction is not None:
            criterion.reduction = "none"  # type: ignore[assignment]
        loss: Tensor = criterion.forward(logits, target)  # not a call, which would run the hook again
    finally:
        if reduction is not None:
            criterion.reduction = reduction
    if not loss.ndim or len(loss) != len(target):
        raise TypeError(
            f"criterion {type(criterion).__name__} gives no loss per sample: {tuple(loss.shape)} for a batch of "
            f"{len(target)}; let it obey self.reduction = 'none', or return one value per sample"
        )
    return loss.flatten(1).mean(1) if loss.ndim > 1 else loss


def _forget_compiled_step(module: L.LightningModule) -> None:
    """A compiled step does not see hooks that come or go after it was traced; let it be traced again."""
    if "training_step" in vars(module):  # as Lightning leaves it for trainer.fit(torch.compile(module))
        torch.compiler.reset()


def _criterion_callbacks(trainer: L.Trainer) -> list[CriterionCallback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, CriterionCallback)]
