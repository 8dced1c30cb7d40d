"""Changing the training loss of any module, without editing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from noisylabels_pl.core.bad_samples import BadSamples
from noisylabels_pl.core.budget import budget_warnings
from noisylabels_pl.core.distributed import check_equal_batches
from noisylabels_pl.core.loader_source import LoaderSource
from noisylabels_pl.core.loss_call import LossCall
from noisylabels_pl.core.loss_interception import LossInterception, find_criteria, find_criterion
from noisylabels_pl.core.loss_recorder import LossRecorder
from noisylabels_pl.core.needs import ROLE_MEANING, ROLE_ORDER, Needs
from noisylabels_pl.core.scoring import positions_of, training_loader
from noisylabels_pl.core.step_losses import StepLosses, reduced_like
from noisylabels_pl.core.tables import SampleTables
from noisylabels_pl.data import Batch, IndexedLoader, Positions, indexed
from noisylabels_pl.data.batch import Replaced, restore


class CriterionCallback(L.Callback, ABC):
    """Changes the loss of a training step, and only there, wherever the step computes it.

    The step may call a criterion, a child module such as ``nn.CrossEntropyLoss()``, or a function such as
    ``F.cross_entropy``, itself or in a model that computes its own loss. From the start of a training batch to its
    backward pass, :class:`~noisylabels_pl.core.loss_interception.LossInterception` sees the call. The callback computes
    the loss of each sample, passes the losses through :meth:`adjust_losses`, and reduces them as the call does. So
    validation uses the module's own loss, and the keys of ``state_dict`` do not change.

    Several such callbacks can share one loss. They act in the order of their roles, not of the Trainer's list.

    Args:
        criterion: name of the criterion in the module, such as ``"loss_fn"`` or ``"head.loss_fn"``; if not given, the
            only child module with a ``reduction``, and torch's loss functions. A checkpoint stores the callback's state
            under this name.

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
        self._criteria: dict[str, nn.Module] = {}  # in which the loss is sought, during a fit
        self._earlier_callbacks: list[CriterionCallback] = []  # callbacks on the same loss that act before this one
        self._interception: LossInterception | None = None  # of the callback that acts last on a loss
        self._loader_source: LoaderSource | None = None  # during a fit
        self._handles: list[RemovableHandle] = []  # of hooks on the optimizers
        self._batch: Batch | Positions | None = None
        self._data: Any = None  # the batch as the training step gets it
        self._bad_samples = BadSamples()
        self._replaced: Replaced = []  # tensors of this batch that have other data
        self._call: LossCall | None = None  # the loss that is being adjusted
        self._losses = StepLosses([self])
        self._num_batches = 0  # of this epoch
        self._num_adjusted = 0  # losses of this epoch
        self._has_acted = False  # in this epoch: changed a loss, or the batch
        self.warnings: list[str] = []  # about the last fit, see check_budget

    @property
    def state_key(self) -> str:
        return f"{self._name()}[criterion={self.criterion}]"  # two callbacks of a class may work on two criteria

    @abstractmethod
    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        """Return the losses to train on in place of the criterion's.

        It is called once a batch, and again with other targets beside a callback that mixes samples.

        Args:
            losses: ``(B,)`` the criterion's loss of each sample.
            logits: ``(B, ...)`` what the criterion was called with.
            target: ``(B, ...)`` what the criterion was called with.
            batch: the positions of the samples, ``batch.index``.

        Returns:
            ``(B,)``.
        """

    def conflict(self, other: CriterionCallback) -> str | None:
        """Return the reason why this callback cannot work beside another one, or ``None``.

        Two callbacks of one role are refused without asking this method.
        """
        if not other.needs.mixes_samples:
            return None
        if self.needs.mixes_samples:
            return f"both {ROLE_MEANING['mixing']}"
        if self.tables:
            return f"{self._name()} keeps a record of each sample, but {other._name()} mixes samples"
        if self.needs.separate_samples:
            return f"{self._name()} judges each sample, but {other._name()} mixes samples"
        return None

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        """Return the parts of the method that do not come about in a fit: a ramp that is longer, for example.

        Args:
            epochs: that the fit will have had at its end; may be infinite.
            steps: optimizer steps until then; may be infinite.

        Raises:
            ValueError: the method would never act.
        """
        return []

    @property
    def call(self) -> LossCall:
        """The loss that :meth:`adjust_losses` is asked to change."""
        if self._call is None:
            raise RuntimeError("the loss is known inside adjust_losses() only")
        return self._call

    def losses_for(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses that :meth:`adjust_losses` would be given for other targets.

        Args:
            logits: ``(B, ...)``.
            target: ``(B, ...)``.

        Returns:
            ``(B,)``.
        """
        if self._batch is None:
            raise RuntimeError("losses_for() works inside adjust_losses() only")
        if not self.needs.mixes_samples:
            raise RuntimeError(f"{self._name()} calls losses_for(); say so: needs = Needs(mixes_samples=True)")
        losses = self.call.per_sample(logits, target)
        for callback in self._earlier_callbacks:
            losses = callback.adjust_losses(losses, logits, target, self._batch)
        return losses

    def recorded_call(self, module: L.LightningModule, batch: Any, batch_idx: int) -> LossCall:
        """Run the training step up to the loss that this callback changes, and return the call of the loss."""
        with self.recorder(module) as recorder:
            return recorder.record(batch, batch_idx)

    def recorder(self, module: L.LightningModule) -> LossRecorder:
        """Return a recorder of the loss that this callback changes, or would change if it needed one."""
        criteria = self._find_criteria(module) if self.criterion is not None else find_criteria(module)
        return LossRecorder(self._name(), module, criteria, self.needs.kinds, functions=self.criterion is None)

    def prepare_loader(self, loader: Any) -> Any:
        """Return the training loader that this callback needs, for one that ``train_dataloader()`` made.

        Loaders that were passed to ``fit()`` do not come here.
        """
        return indexed(loader) if self.needs.positions and isinstance(loader, DataLoader) else loader

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.tables.empty()  # of an earlier fit; a resumed fit loads its own after this
            if self.needs.positions:
                callbacks = _criterion_callbacks(trainer)
                self._loader_source = LoaderSource(trainer, pl_module, partial(_prepared_by, callbacks, trainer))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if isinstance(trainer.train_dataloader, IndexedLoader):
            trainer.train_dataloader.start_fit(trainer)
        if self.needs.positions:
            self.tables.set_num_samples(len(training_loader(trainer).dataset))  # type: ignore[arg-type]
        if self.tables:
            check_equal_batches(trainer.train_dataloader)
        others = [other for other in _criterion_callbacks(trainer) if other is not self]
        for other in others:
            self._refuse_if(other, self.conflict(other))
        # Not in setup(): weight averaging deep-copies the module there, hooks included.
        if self.needs.criterion:
            self._attach(trainer, pl_module, others)
        self.warnings = budget_warnings(trainer, self)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch = positions_of(trainer, batch, batch_idx, required=self.needs.positions)
        self._data = batch
        self._num_batches += 1
        self._start_step()

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        if self._interception is not None and pl_module.automatic_optimization:
            self._interception.stop()
            if self._losses.name is None:
                raise self._no_loss(pl_module)
            if not self._losses.are_trained_by(loss):
                raise ValueError(
                    f"{type(pl_module).__name__} trains another loss than {self._losses.name}, which {self._name()} "
                    "changes and which is only logged; compute a loss for the log under torch.no_grad(), or name the "
                    "criterion that is trained: criterion='...'"
                )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._interception is not None:
            self._interception.stop()
        restore(self._replaced)
        self._batch = None
        self._data = None
        self._losses.results.clear()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batch = None  # also after a batch that another callback skipped
        self._data = None
        self._bad_samples.read()
        restore(self._replaced)
        if self._interception is not None:
            self._interception.stop()
            if self._num_batches and not self._num_adjusted:  # a step without automatic optimization may skip batches
                raise self._no_loss(pl_module)
        changes_losses = self.needs.criterion and self.needs.role != "samples" and not self.tables
        if self._num_batches and changes_losses and not self._has_acted:
            raise RuntimeError(
                f"{self._name()} changed no loss in epoch {trainer.current_epoch}; if that is meant, return "
                "losses.clone() from adjust_losses, and leave the callback out otherwise"
            )
        self._num_batches = 0
        self._num_adjusted = 0
        self._has_acted = False

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._release(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.tables.stop_communicating()  # Lightning calls checkpoint callbacks after this one
        self._release(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"tables": self.tables.state_dict()} if self.tables else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.tables:
            self.tables.load_state_dict(state_dict["tables"])

    def _name(self) -> str:
        return type(self).__name__

    def _attach(self, trainer: L.Trainer, module: L.LightningModule, others: list[CriterionCallback]) -> None:
        """Find the callbacks that share a loss; the last one of them in role order intercepts it."""
        self._criteria = self._find_criteria(module)
        sharing = [
            other for other in others if other.needs.criterion and other._find_criteria(module) == self._criteria
        ]
        for other in sharing:
            if other.needs.role == self.needs.role:
                self._refuse_if(other, f"both {ROLE_MEANING[self.needs.role]}")
        sharing.sort(key=_role_position)
        self._earlier_callbacks = [other for other in sharing if _role_position(other) < _role_position(self)]
        is_last = len(self._earlier_callbacks) == len(sharing)
        if is_last:
            _forget_compiled_step(module)
            functions = all(callback.criterion is None for callback in (*sharing, self))
            self._interception = LossInterception(self._criteria, functions=functions, handler=self._handle)
            self._interception.attach()
            if module.automatic_optimization:
                for optimizer in trainer.optimizers:
                    self._handles.append(optimizer.register_step_pre_hook(self._start_step_in_closure))

    def _release(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._interception is not None:
            self._interception.detach()
            _forget_compiled_step(module)
        for handle in self._handles:
            handle.remove()
        if self._loader_source is not None:
            self._loader_source.restore()
        restore(self._replaced)
        self._loader_source = None
        self._handles = []
        self._interception = None
        self._criteria = {}
        self._batch = None
        self._data = None
        self._bad_samples.forget()
        self._call = None
        self._earlier_callbacks = []
        self.tables.to_cpu()

    def _refuse_if(self, other: CriterionCallback, reason: str | None) -> None:
        if reason is not None:
            raise ValueError(f"{self._name()} and {other._name()} cannot be combined: {reason}; leave one of them out")

    def _find_criteria(self, module: L.LightningModule) -> dict[str, nn.Module]:
        return find_criterion(module, self.criterion, self._name())

    def _start_step(self) -> None:
        """Change the losses that the training step will compute."""
        self._losses = StepLosses([*self._earlier_callbacks, self])
        if self._interception is not None:
            self._interception.start()

    def _start_step_in_closure(
        self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> tuple[Any, dict[str, Any]] | None:
        """Start a step for each time that an optimizer runs it: LBFGS and SAM do so several times."""
        run_step = kwargs.get("closure")
        if run_step is None:
            return None

        def start_and_run_step() -> Any:
            self._start_step()
            return run_step()

        return args, kwargs | {"closure": start_and_run_step}

    def _handle(self, call: LossCall, compute: Callable[[], Tensor]) -> Tensor:
        """Return the adjusted loss of a call, or the call's own loss where it is not the one to change."""
        loss = compute()
        if self._batch is None:  # outside of a training batch
            return loss
        if refusal := self._losses.refusal(call):
            self._losses.leave_alone(loss, refusal)
            return loss
        call.check_rows(len(self._batch.index), self._name())
        self._num_adjusted += 1
        losses = call.per_sample(call.logits, call.target)
        for callback in self._losses.callbacks:
            callback._call = call
        adjusted = self._adjusted(losses, call.logits, call.target)
        for callback in self._losses.callbacks:
            callback._call = None
        self._bad_samples.add(~adjusted.detach().isfinite(), self._data, index=self._batch.index)
        result = loss if adjusted is losses else reduced_like(call, loss, losses, adjusted)
        self._losses.change(call, result)
        return result

    def _no_loss(self, module: L.LightningModule) -> Exception:
        """Return why no loss was changed in a batch."""
        name = type(module).__name__
        if self._losses.refusals:
            return self._losses.refusals[0]
        if self._criteria and self._find_criteria(module) != self._criteria:
            return TypeError(
                f"{name} replaced its {', '.join(self._criteria)} during the fit, whose loss {self._name()} changes; "
                "make all criteria in __init__ and choose among them in training_step"
            )
        if self._criteria:
            criterion = next(iter(self._criteria.values()))
            return TypeError(
                f"training_step of {name} never called its {type(criterion).__name__}, whose loss {self._name()} "
                f"changes; compute the loss by that module{self.needs.alternative}"
            )
        return TypeError(
            f"training_step of {name} computes no loss that {self._name()} could change; compute it by F.cross_entropy "
            "or self.criterion = nn.CrossEntropyLoss(), or name the module that does: criterion='...'"
            f"{self.needs.alternative}"
        )

    def _adjusted(self, losses: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Pass the losses through all callbacks on this criterion, in the order of their roles."""
        assert self._batch is not None
        adjusted = losses
        for callback in self._losses.callbacks:
            given = adjusted
            adjusted = callback.adjust_losses(given, logits, target, self._batch)
            callback._has_acted = callback._has_acted or adjusted is not given
            if not isinstance(adjusted, Tensor) or adjusted.shape != losses.shape:
                returned = tuple(adjusted.shape) if isinstance(adjusted, Tensor) else type(adjusted).__name__
                raise TypeError(
                    f"{callback._name()}.adjust_losses must return one loss a sample, {tuple(losses.shape)}, got "
                    f"{returned}"
                )
        return adjusted


@contextmanager
def paused(trainer: L.Trainer) -> Iterator[None]:
    """Let no callback change losses for a block."""
    running = [
        callback._interception
        for callback in _criterion_callbacks(trainer)
        if callback._interception is not None and callback._interception.is_running
    ]
    for interception in running:
        interception.stop()
    try:
        yield
    finally:
        for interception in running:
            interception.start()


def _forget_compiled_step(module: L.LightningModule) -> None:
    """Let a compiled training step be traced again: it does not see hooks that came or went after its trace."""
    if "training_step" in vars(module):  # as Lightning leaves it for trainer.fit(torch.compile(module))
        torch.compiler.reset()


def _criterion_callbacks(trainer: L.Trainer) -> list[CriterionCallback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, CriterionCallback)]


def _prepared_by(callbacks: list[CriterionCallback], trainer: L.Trainer, loader: Any) -> Any:
    for callback in callbacks:
        loader = callback.prepare_loader(loader)
    if isinstance(loader, IndexedLoader):
        loader.start_fit(trainer)
    return loader


def _role_position(callback: CriterionCallback) -> int:
    return ROLE_ORDER.index(callback.needs.role)
