"""Two networks that choose each other's samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from noisylabels_pl.core.batch_filter import SCORING_REMEDY, BatchFilter, FilterOptions
from noisylabels_pl.core.distributed import check_equal_batches
from noisylabels_pl.core.task import TaskName
from noisylabels_pl.core.twin import TwinModule
from noisylabels_pl.data import Batch

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FilterTwin(TwinModule):
    """Trains each network on the samples of a batch to which its peer gives the smallest scores.

    Unless ``options`` say otherwise, the dropped fraction rises over the first ten epochs (``ramp_epochs=10``), and
    epochs that drop more than a third of the samples take a second forward pass (``second_forward="auto"``).

    Args:
        make_net: see :class:`~noisylabels_pl.core.TwinModule`.
        num_outputs: see :class:`~noisylabels_pl.core.TwinModule`.
        optimizer: see :class:`~noisylabels_pl.core.TwinModule`.
        scheduler: see :class:`~noisylabels_pl.core.TwinModule`.
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        task: ``classification`` or ``regression``.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.
    """

    tasks: ClassVar[tuple[TaskName, ...]] = ("classification", "regression")

    def __init__(
        self,
        make_net: Callable[[], nn.Module],
        num_outputs: int,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        *,
        forget_rate: float,
        task: TaskName = "classification",
        **options: Unpack[FilterOptions],
    ) -> None:
        super().__init__(make_net, num_outputs, optimizer, scheduler, task=task)
        defaults: FilterOptions = {"ramp_epochs": 10, "second_forward": "auto"}
        self.filter = BatchFilter(forget_rate, **(defaults | options))
        self.depends_on_batch = self.filter.scope == "rank"

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        return super().check_budget(epochs, steps) + self.filter.check_budget(epochs)

    @abstractmethod
    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """Return ``(B,)``: the score of each sample by one network's output; the largest are dropped for its peer.

        Args:
            output: ``(B, ...)`` of one network.
            target: ``(B, ...)`` observed targets.
        """

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.filter.scope == "global":
            check_equal_batches(self.trainer.train_dataloader)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.filter.uses_second_forward(self.current_epoch, len(batch.index)):
            return self._losses_of_second_forward(batch)
        first_output, second_output = self.net.first(batch.x), self.net.second(batch.x)
        # Each network trains on the samples that its peer chose.
        first_kept, first_fraction = self.filter.keep(self.scores(second_output.detach(), batch.y), self.current_epoch)
        second_kept, second_fraction = self.filter.keep(self.scores(first_output.detach(), batch.y), self.current_epoch)
        batch.kept = (first_kept, second_kept)
        return (
            self.mean_of_kept(first_output, batch, first_kept, first_fraction),
            self.mean_of_kept(second_output, batch, second_kept, second_fraction),
        )

    def _losses_of_second_forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        first, second = self.net.first, self.net.second
        with torch.no_grad(), self.filter.scoring_pass(self.trainer, self.net):
            first_scores = self.scores(first(batch.x), batch.y)
            second_scores = self.scores(second(batch.x), batch.y)
        if self.filter.train_mode:
            no_score = ~torch.stack([first_scores, second_scores]).isfinite().any()
            self._bad_samples.add(no_score, batch, index=batch.index, remedy=SCORING_REMEDY)
        # Each network trains on the samples that its peer chose.
        first_kept = self.filter.keep_indices(second_scores, self.current_epoch)
        second_kept = self.filter.keep_indices(first_scores, self.current_epoch)
        nothing = torch.zeros_like(batch.index, dtype=torch.bool)
        batch.kept = (nothing.index_fill(0, first_kept, True), nothing.index_fill(0, second_kept, True))
        return (
            self.criterion(first(batch.x[first_kept]), batch.y[first_kept]),
            self.criterion(second(batch.x[second_kept]), batch.y[second_kept]),
        )
