"""Two networks that learn from each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from noisylabels_pl.core.batch_filter import MASKING_REMEDY, masked_losses, stop_bad_gradients
from noisylabels_pl.core.budget import budget_warnings
from noisylabels_pl.core.distributed import check_equal_batches
from noisylabels_pl.core.loss_call import per_sample_losses
from noisylabels_pl.core.scoring import positions_of, training_loader
from noisylabels_pl.core.supervised import Supervised
from noisylabels_pl.core.tables import SampleTables
from noisylabels_pl.core.task import TASKS, TaskName, check_task
from noisylabels_pl.data import Batch


class Twins(nn.Module):
    """Two networks of one kind; together they predict the mean of their outputs.

    Args:
        first: the first network.
        second: the second network.

    Example:
        >>> Twins(nn.Identity(), nn.Flatten())(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = (self.first(x) + self.second(x)) / 2
        return output


class TwinModule(Supervised, ABC):
    """Trains two networks on the same batches, each with a loss that may depend on both.

    One optimizer holds the parameters of both networks and minimizes the sum of the losses. As long as no loss sends
    gradients into the other network, this equals one optimizer for each, bit for bit; and precision plugins, gradient
    accumulation and schedulers work as for one network. Gradients are clipped for each network separately, and so are
    the gradients of anything else that a subclass trains. Validation and test report the mean of the outputs.

    A network whose loss is ``None`` rests for the step: its parameters get no gradient and do not change (DDP then
    needs ``strategy="ddp_find_unused_parameters_true"``). A step that selects no sample must return
    :func:`~noisylabels_pl.functional.selected_mean` instead, a 0 with gradients of 0: the other ranks would wait
    forever for a rank that returned ``None``.

    Args:
        make_net: makes a network; called twice, so that the two start from different weights.
        num_outputs: classes; in regression, the real numbers to predict for a sample.
        optimizer: called with the parameters of both networks.
        scheduler: called with the optimizer; steps once an epoch.
        task: ``classification``, or ``regression`` if the subclass's ``tasks`` contain it.

    Attributes:
        tables: state for every training sample, as in :class:`~noisylabels_pl.core.CriterionCallback`.
        depends_on_batch: whether splitting a batch across ranks changes the result, as a top-k per rank does.
    """

    net: Twins
    tasks: ClassVar[tuple[TaskName, ...]] = ("classification",)
    depends_on_batch: bool = False

    def __init__(
        self,
        make_net: Callable[[], nn.Module],
        num_outputs: int,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        *,
        task: TaskName = "classification",
    ) -> None:
        check_task(type(self).__name__, self.tasks, task)
        super().__init__(Twins(make_net(), make_net()), TASKS[task](num_outputs), optimizer, scheduler)
        self.tables = SampleTables()
        self.warnings: list[str] = []  # about the last fit, see check_budget

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Return the scalar loss of each network, or ``None`` for a network that rests."""

    def networks(self) -> list[nn.Module]:
        return [self.net.first, self.net.second]

    def mean_of_kept(self, output: Tensor, batch: Batch, kept: Tensor, kept_fraction: Tensor) -> Tensor:
        """Return the mean loss of a network over the kept samples of a batch; the others get no gradient.

        Args:
            output: ``(B, ...)`` of the network for the whole batch.
            batch: of ``B`` samples.
            kept: ``(B,)`` bool.
            kept_fraction: a scalar, see :meth:`~noisylabels_pl.core.BatchFilter.keep`; 0 if no sample is kept. With 1,
                the sum of the losses is divided by the size of the whole batch.
        """
        self._bad_samples.add_dropped(~kept, output, batch, index=batch.index, remedy=MASKING_REMEDY)
        stop_bad_gradients(output, kept)
        losses = per_sample_losses(self.criterion, output, batch.y)
        return masked_losses(losses, kept, kept_fraction).mean()

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        """See :meth:`~noisylabels_pl.core.CriterionCallback.check_budget`."""
        return []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not isinstance(batch, Batch):
            positions = positions_of(self.trainer, batch, batch_idx, required=True)
            x, y = batch
            batch = Batch(x, y, positions.index)
        first, second = self._checked_pair(self.losses(batch))
        losses = {name: loss for name, loss in (("first", first), ("second", second)) if loss is not None}
        if not losses:
            raise ValueError(f"both losses of {type(self).__name__} are None; return selected_mean() of no samples")
        total = torch.stack([*losses.values()]).sum()
        self.name_bad_samples(total, batch, batch_idx)
        means = {f"train/loss_{name}": loss for name, loss in losses.items()}
        means["train/loss"] = total / len(losses)
        self.log_means(means, len(batch.index), batch_idx)
        return total

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if not gradient_clip_val:
            return
        if self.trainer.precision == "16-mixed" and any(group.get("fused") for group in optimizer.param_groups):
            raise ValueError("a fused optimizer unscales float16 gradients after they are clipped; set fused=False")
        clip: Callable[..., Any] = clip_grad_value_ if gradient_clip_algorithm == "value" else clip_grad_norm_
        first = [*self.net.first.parameters()]
        second = [*self.net.second.parameters()]
        of_networks = {*first, *second}
        others = [parameter for parameter in self.parameters() if parameter not in of_networks]
        for parameters in (first, second, others):
            if parameters:
                clip(parameters, gradient_clip_val)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.tables.empty()  # of an earlier fit; a resumed fit loads its own after this

    def on_train_start(self) -> None:
        super().on_train_start()
        self.warnings = budget_warnings(self.trainer, self)
        self.tables.set_num_samples(len(training_loader(self.trainer).dataset))  # type: ignore[arg-type]
        if self.tables:
            check_equal_batches(self.trainer.train_dataloader)

    def teardown(self, stage: str) -> None:
        self.tables.to_cpu()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sample_tables"] = self.tables.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.tables.load_state_dict(checkpoint["sample_tables"])

    def _checked_pair(self, losses: Any) -> tuple[Tensor | None, Tensor | None]:
        is_pair = isinstance(losses, (tuple, list)) and len(losses) == 2
        if not is_pair or any(loss is not None and loss.ndim for loss in losses):
            raise TypeError(f"{type(self).__name__}.losses must return two scalars, one for each network")
        first, second = losses
        return first, second
