"""Running a training step up to its loss."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning as L
from torch import Tensor, nn
from torchmetrics import Metric

from noisylabels_pl.core.loss_call import LossCall, LossKind, wrong_kind
from noisylabels_pl.core.loss_interception import LossInterception


class LossRecorder:
    """Runs a module's training step up to its loss, and returns the call of the loss.

    In a ``with`` block of the recorder the module's logging is switched off, and its metrics are replaced by copies: a
    step that logs or counts before its loss leaves no trace.

    Args:
        owner: the callback that wants the loss, for messages.
        module: the LightningModule.
        criteria: see :class:`~noisylabels_pl.core.loss_interception.LossInterception`.
        kinds: the kinds of losses to look for.
        functions: see :class:`~noisylabels_pl.core.loss_interception.LossInterception`.
    """

    def __init__(
        self,
        owner: str,
        module: L.LightningModule,
        criteria: dict[str, nn.Module],
        kinds: tuple[LossKind, ...],
        *,
        functions: bool,
    ) -> None:
        self.owner = owner
        self.module = module
        self.kinds = kinds
        self._interception = LossInterception(criteria, functions=functions, handler=self._handle, needs_grad=False)
        self._step = type(module).training_step.__get__(module)  # not a compiled one, which would be traced again
        self._num_arguments = len(inspect.signature(self._step).parameters)
        self._block = ExitStack()
        self._other_call: LossCall | None = None

    def __enter__(self) -> LossRecorder:
        self._block.enter_context(_silenced(self.module))
        self._interception.attach()
        self._block.callback(self._interception.detach)
        return self

    def __exit__(self, *exception: object) -> None:
        self._block.close()

    def record(self, batch: Any, batch_idx: int) -> LossCall:
        """Return the call of the loss for a batch, as the training step gets it.

        Raises:
            TypeError: the step computes no loss of these kinds.
        """
        self._other_call = None
        self._interception.start()
        try:
            self._step(*(batch, batch_idx)[: self._num_arguments])
        except _LossRecorded as recorded:
            return recorded.call
        finally:
            self._interception.stop()
        if self._other_call is not None:
            raise TypeError(wrong_kind(self._other_call, self.owner, self.kinds))
        raise TypeError(
            f"training_step of {type(self.module).__name__} computes no loss that {self.owner} could score; compute it "
            "by F.cross_entropy or self.criterion = nn.CrossEntropyLoss()"
        )

    def _handle(self, call: LossCall, compute: Callable[[], Tensor]) -> Tensor:
        if call.kind not in self.kinds:
            self._other_call = self._other_call or call
            return compute()
        raise _LossRecorded(call)


class _LossRecorded(BaseException):  # not an Exception, which a training step might catch
    def __init__(self, call: LossCall) -> None:
        super().__init__()
        self.call = call


@contextmanager
def _silenced(module: L.LightningModule) -> Iterator[None]:
    """Switch off the module's logging for a block, and replace its metrics by copies."""
    originals = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, Metric)
    ]
    for parent, name, metric in originals:
        setattr(parent, name, copy.deepcopy(metric))
    module.log = lambda *args, **options: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.log  # of the instance; the class's is visible again
        for parent, name, metric in originals:
            setattr(parent, name, metric)
