"""Changing the training loss of any module, without editing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisylabels_pl.core.scoring import training_loader
from noisylabels_pl.core.tables import SampleTables
from noisylabels_pl.core.task import TaskName
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import check_choice

REGRESSION_LOSSES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)

Role = Literal["loss", "mixing", "weights", "samples"]
ROLE_ORDER: tuple[Role, ...] = get_args(Role)
ROLE_MEANING: dict[Role, str] = {
    "loss": "replace the loss of each sample",
    "mixing": "mix samples",
    "weights": "weight the samples of a batch",
    "samples": "choose the samples of an epoch",
}


@dataclass(frozen=True)
class Needs:
    """What a :class:`CriterionCallback` does to the losses, and what it needs for that.

    Attributes:
        role: ``loss`` replaces the loss of each sample, ``mixing`` mixes samples, ``weights`` weights the samples of a
            batch, ``samples`` chooses the samples of an epoch. Callbacks on one criterion act in this order, and no two
            may have the same role.
        tasks: the tasks that it is for.
        criterion: whether it changes losses at all; if not, no criterion is looked for.
        positions: whether it reads ``batch.index``, for which the training loader must be ``indexed``.
        gradient_norms: whether it asks for per-sample gradient norms
            (:class:`~noisylabels_pl.core.GradientCallback`).
        separate_samples: whether it judges each sample, and so cannot work beside a callback that mixes samples.
        mixes_samples: whether it mixes samples, and asks for the losses of other targets
            (:meth:`CriterionCallback.losses_for`).
        depends_on_batch: whether splitting a batch across ranks changes the result, as a top-k per rank does.
        alternative: options that do without a criterion, for the message that there is none.
    """

    role: Role = "loss"
    tasks: tuple[TaskName, ...] = ("classification",)
    criterion: bool = True
    positions: bool = True
    gradient_norms: bool = False
    separate_samples: bool = False
    mixes_samples: bool = False
    depends_on_batch: bool = False
    alternative: str = ""

    def __post_init__(self) -> None:
        check_choice("role", self.role, Role)


class CriterionCallback(L.Callback, ABC):
    """Changes the loss that the module's criterion returns in training, and only there.

    A forward hook on the criterion, a child module such as ``nn.CrossEntropyLoss()``, is in place from
    ``on_train_start`` until the fit ends, however it ends. It acts while a training batch is under way, so validation
    uses the module's own loss, and the keys of ``state_dict`` do not change. The hook computes the criterion's loss of
    each sample, passes the losses through :meth:`adjust_losses`, and reduces them as the criterion does.

    Several such callbacks can share one criterion. They act in the order of their roles, not of the Trainer's list.

    Args:
        criterion: name of the criterion in the module, such as ``"loss_fn"`` or ``"head.loss_fn"``; the only child
            module with a ``reduction`` if not given. A checkpoint stores the callback's state under this name.

    Attributes:
        needs: what the callback does and needs. A subclass sets it for the class; where it depends on an option, its
            constructor replaces it for the instance.
        tables: state for every training sample. ``self.tables.add(name)`` in a constructor makes a
            :class:`~noisylabels_pl.core.SampleTable` that is emptied before a fit and saved in checkpoints.

    Example:
        >>> class Halve(CriterionCallback):
        ...     needs = Needs(role="weights", positions=False)
        ...
        ...     def adjust_losses(self, losses, logits, target, batch):
        ...         return losses / 2
        >>> trainer = L.Trainer(callbacks=[Halve()], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    needs: Needs = Needs()

    def __init__(self, *, criterion: str | None = None) -> None:
        self.criterion = criterion
        self.tables = SampleTables()
        self._criterion_module: nn.Module | None = None
        self._inner: list[CriterionCallback] = []  # callbacks on the same criterion that act before this one
        self._handle: RemovableHandle | None = None
        self._batch: Batch | None = None
        self._num_calls = 0  # of the criterion, in this batch
        self._was_called = False  # in this fit

    @property
    def state_key(self) -> str:
        return f"{self._name()}[criterion={self.criterion}]"  # two callbacks of a class may work on two criteria

    @abstractmethod
    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """Return the losses to train on in place of the criterion's.

        It is called once a batch, and again with other targets beside a callback that mixes samples.

        Args:
            losses: ``(B,)`` the criterion's loss of each sample.
            logits: ``(B, ...)`` what the criterion was called with.
            target: ``(B, ...)`` what the criterion was called with.
            batch: the training batch.

        Returns:
            ``(B,)``.
        """

    def conflict(self, other: CriterionCallback) -> str | None:
        """Return why this callback cannot work beside another one, or ``None``; two of one role are refused anyway."""
        if not other.needs.mixes_samples:
            return None
        if self.needs.mixes_samples:
            return f"both {ROLE_MEANING['mixing']}"
        if self.tables:
            return f"{self._name()} keeps a record of each sample, but {other._name()} mixes samples"
        if self.needs.separate_samples:
            return f"{self._name()} judges each sample, but {other._name()} mixes samples"
        return None

    @property
    def criterion_module(self) -> nn.Module:
        """The module's criterion, during a fit."""
        if self._criterion_module is None:
            raise RuntimeError("the criterion is known during a fit only")
        return self._criterion_module

    def losses_for(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses that :meth:`adjust_losses` would be given for other targets.

        Args:
            logits: ``(B, ...)``.
            target: ``(B, ...)``.

        Returns:
            ``(B,)``.
        """
        if self._criterion_module is None or self._batch is None:
            raise RuntimeError("losses_for() works inside adjust_losses() only")
        if not self.needs.mixes_samples:
            raise RuntimeError(f"{self._name()} calls losses_for(); say so: needs = Needs(mixes_samples=True)")
        losses = per_sample_losses(self._criterion_module, logits, target)
        for callback in self._inner:
            losses = callback.adjust_losses(losses, logits, target, self._batch)
        return losses

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.tables.empty()  # of an earlier fit; a resumed fit loads its own after this

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.needs.positions:
            self.tables.set_num_samples(len(training_loader(trainer).dataset))  # type: ignore[arg-type]
        others = [other for other in _criterion_callbacks(trainer) if other is not self]
        for other in others:
            self._refuse(other, self.conflict(other))
        # Not in setup(): weight averaging deep-copies the module there, hooks included.
        if self.needs.criterion:
            self._attach(pl_module, others)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.needs.positions and not isinstance(batch, Batch):
            raise TypeError(
                f"a training batch is a {type(batch).__name__} without sample positions; let batch transfer hooks set "
                "batch.x in place and return batch"
            )
        self._batch = batch
        self._num_calls = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._handle is not None and not self._was_called:
            raise TypeError(
                f"training_step of {type(pl_module).__name__} never called its "
                f"{type(self._criterion_module).__name__}, whose loss {self._name()} changes; compute the loss by that "
                f"module{self.needs.alternative}"
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

    def _name(self) -> str:
        return type(self).__name__

    def _attach(self, module: L.LightningModule, others: list[CriterionCallback]) -> None:
        """Find the criterion and the callbacks that share it; the last one of them in role order hooks it."""
        self._criterion_module = self._find_criterion(module)
        if isinstance(self._criterion_module, REGRESSION_LOSSES) and "regression" not in self.needs.tasks:
            raise TypeError(
                f"{self._name()} is for {' and '.join(self.needs.tasks)}, but {type(module).__name__} is trained with "
                f"{type(self._criterion_module).__name__}; leave it out"
            )
        sharing = [
            other
            for other in others
            if other.needs.criterion and other._find_criterion(module) is self._criterion_module
        ]
        for other in sharing:
            if other.needs.role == self.needs.role:
                self._refuse(other, f"both {ROLE_MEANING[self.needs.role]}")
        sharing.sort(key=_role_position)
        self._inner = [other for other in sharing if _role_position(other) < _role_position(self)]
        if len(self._inner) == len(sharing):
            _forget_compiled_step(module)
            hook = torch.compiler.disable(self._hook)  # type: ignore[no-untyped-call]
            self._handle = self._criterion_module.register_forward_hook(hook, with_kwargs=True)

    def _release(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._handle is not None:
            self._handle.remove()
            _forget_compiled_step(module)
        self._handle = None
        self._criterion_module = None
        self._batch = None
        self._was_called = False
        self._inner = []
        self.tables.to_cpu()

    def _refuse(self, other: CriterionCallback, reason: str | None) -> None:
        if reason is not None:
            raise ValueError(f"{self._name()} and {other._name()} cannot be combined: {reason}; leave one of them out")

    def _find_criterion(self, module: L.LightningModule) -> nn.Module:
        if self.criterion is not None:
            named: nn.Module | None = dict(module.named_modules()).get(self.criterion)
            if named is not None:
                return named
            missing = f"module named {self.criterion!r}"
        else:
            criteria = {name: child for name, child in module.named_children() if hasattr(child, "reduction")}
            if len(criteria) == 1:
                criterion: nn.Module = next(iter(criteria.values()))
                return criterion
            if criteria:
                raise TypeError(
                    f"{type(module).__name__} has {len(criteria)} criteria as child modules: {', '.join(criteria)}; "
                    f"name the one that {self._name()} changes: criterion={next(iter(criteria))!r}"
                )
            missing = "child module with a reduction"
        children = ", ".join(name for name, _ in module.named_children())
        raise TypeError(
            f"{type(module).__name__} has no {missing} (it has {children}) whose loss {self._name()} could change; "
            "write self.criterion = nn.CrossEntropyLoss() in __init__ and self.criterion(logits, y) in training_step, "
            f"or name another: criterion='...'{self.needs.alternative}"
        )

    def _hook(self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Tensor) -> Tensor | None:
        # Outside of a training batch, or computed for a log.
        if self._batch is None or not torch.is_grad_enabled():
            return None
        logits, target = self._checked_call(criterion, args, kwargs)
        losses = per_sample_losses(criterion, logits, target)
        adjusted = self._adjusted(losses, logits, target)
        return None if adjusted is losses else _reduced_like(criterion, loss, losses, adjusted)

    def _checked_call(
        self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Return the criterion's ``(logits, target)``, or raise where their losses could not be told apart."""
        name = type(criterion).__name__
        num_arguments = len(args) + len(kwargs)
        if num_arguments != 2:
            raise TypeError(
                f"{name} is called with {num_arguments} arguments, but {self._name()} can change the loss of (logits, "
                "target) only; keep other arguments in the criterion"
            )
        self._was_called = True
        self._num_calls += 1
        if self._num_calls > 1 and any(callback.tables for callback in (*self._inner, self)):
            raise ValueError(
                f"{name} is called {self._num_calls} times in a step, but a record of each sample is kept of one call; "
                "use two criteria, and name the one: criterion='...'"
            )
        positional = [*args, *(value for key, value in kwargs.items() if key != "target")]
        logits = positional[0]
        target = kwargs["target"] if "target" in kwargs else positional[1]
        if isinstance(criterion, REGRESSION_LOSSES) and logits.shape != target.shape:
            raise TypeError(
                f"{name} is called with outputs {tuple(logits.shape)} and targets {tuple(target.shape)}, which it "
                "would broadcast; reshape one of them, as by y.view_as(output)"
            )
        if isinstance(self._batch, Batch) and len(target) != len(self._batch.index):
            raise TypeError(
                f"{name} is called with {len(target)} rows for a batch of {len(self._batch.index)} samples, so "
                f"{self._name()} does not know which sample a row belongs to; call it with one row a sample"
            )
        return logits, target

    def _adjusted(self, losses: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Pass the losses through all callbacks on this criterion, in the order of their roles."""
        assert self._batch is not None
        adjusted = losses
        for callback in (*self._inner, self):
            adjusted = callback.adjust_losses(adjusted, logits, target, self._batch)
            if not isinstance(adjusted, Tensor) or adjusted.shape != losses.shape:
                returned = tuple(adjusted.shape) if isinstance(adjusted, Tensor) else type(adjusted).__name__
                raise TypeError(
                    f"{callback._name()}.adjust_losses must return one loss a sample, {tuple(losses.shape)}, got "
                    f"{returned}"
                )
        return adjusted


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
    reduction = getattr(criterion, "reduction", None)
    try:
        if reduction is not None:
            criterion.reduction = "none"  # type: ignore[assignment]
        losses: Tensor = criterion.forward(logits, target)  # a call would run the hook again
    finally:
        if reduction is not None:
            criterion.reduction = reduction
    if not losses.ndim or len(losses) != len(target):
        raise TypeError(
            f"criterion {type(criterion).__name__} gives no loss per sample: {tuple(losses.shape)} for a batch of "
            f"{len(target)}; let it obey self.reduction = 'none', or return one value per sample"
        )
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _reduced_like(criterion: nn.Module, loss: Tensor, losses: Tensor, adjusted: Tensor) -> Tensor:
    """Reduce the adjusted losses as the criterion reduced its own ``losses`` to ``loss``.

    A criterion may take a sum, a mean, a mean over class weights, or leave samples out. Each of these is the mean times
    a factor, which follows from the criterion's own losses.
    """
    if loss.ndim:  # the module reduces by itself
        return adjusted.view(-1, *(1,) * (loss.ndim - 1)).expand_as(loss)
    factor = loss.detach() / losses.detach().mean()
    usual_factor = len(losses) if getattr(criterion, "reduction", None) == "sum" else 1
    factor = torch.where(factor.isfinite(), factor, usual_factor)  # 0 / 0 in a batch that fits perfectly
    return factor * adjusted.mean()


def _forget_compiled_step(module: L.LightningModule) -> None:
    """Let a compiled training step be traced again: it does not see hooks that came or went after its trace."""
    if "training_step" in vars(module):  # as Lightning leaves it for trainer.fit(torch.compile(module))
        torch.compiler.reset()


def _criterion_callbacks(trainer: L.Trainer) -> list[CriterionCallback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, CriterionCallback)]


def _role_position(callback: CriterionCallback) -> int:
    return ROLE_ORDER.index(callback.needs.role)
