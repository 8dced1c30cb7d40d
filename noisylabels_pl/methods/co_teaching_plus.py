"""Co-teaching+ (Yu et al., ICML 2019)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.core import FilterTwin, per_sample_losses
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import check_choice, check_range

MeanOver = Literal["batch", "kept"]


class CoTeachingPlus(FilterTwin):
    r"""Trains as Co-teaching does, after some epochs only on samples for which the two networks predict other classes.

    `How does Disagreement Help Generalization against Label Corruption? <https://arxiv.org/abs/1901.04215>`_. The two
    networks of Co-teaching become alike, and then choose for each other what each would choose for itself. So after
    ``init_epochs`` of Co-teaching, each network trains on the :math:`\max(1, \lfloor R(t) |D| \rfloor)` samples with
    the smallest losses of its peer among the set :math:`D` of samples on which their predicted classes differ.
    :math:`R(t) = 1 - \tau \min(t / T_k, 1)` is that of :class:`~noisylabels_pl.CoTeaching`. A batch without
    disagreement has gradients of 0, as in :class:`~noisylabels_pl.Decoupling`; the paper does not say what to do. The
    losses of these epochs are divided by the size of the whole batch, as there, or by the number of kept samples.

    The first epochs may take a second forward pass of the kept samples (``second_forward``). The later ones mask the
    losses of one forward pass, because the number of kept samples is known to the device alone.

    Args:
        *args: see :class:`~noisylabels_pl.core.FilterTwin`.
        init_epochs: epochs of Co-teaching; the paper has 20 for CIFAR-10, 5 for CIFAR-100 and 0 for MNIST.
        mean_over: the divisor of the losses after the first epochs: ``"batch"``, with which the steps become smaller as
            the networks come to agree, or ``"kept"`` as in the authors' public code, with which a few wrong labels may
            move the networks as far as a whole batch. Adam hardly sees the difference, and plain SGD may diverge.
        double_softmax: train on the cross-entropy of the softmax of probabilities, as the authors' public code does.
            The probabilities are between 0 and 1, so the loss cannot fall below :math:`\log(1 + (C - 1) / e)`.
        **options: see :class:`~noisylabels_pl.core.FilterTwin`.

    Raises:
        ValueError: ``forget_rate`` or ``init_epochs`` is out of range, or an option is wrong.

    Example:
        >>> import torch
        >>> from noisylabels_pl import CoTeachingPlus
        >>> pair = CoTeachingPlus(lambda: torch.nn.Linear(64, 10), 10, torch.optim.Adam, forget_rate=0.2)
        >>> pair(torch.zeros(5, 64)).shape  # the mean of two networks
        torch.Size([5, 10])
    """

    tasks = ("classification",)

    def __init__(
        self,
        *args: Any,
        init_epochs: int = 20,
        mean_over: MeanOver = "batch",
        double_softmax: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        check_range("init_epochs", init_epochs, "[0, inf)", integer=True)
        check_choice("mean_over", mean_over, MeanOver)
        self.init_epochs = init_epochs
        self.mean_over = mean_over
        if double_softmax:
            self.criterion = DoubleSoftmax()

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        return per_sample_losses(self.criterion, output, target)

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        warnings = super().check_budget(epochs, steps)
        if epochs <= self.init_epochs:
            warnings.append(
                f"init_epochs={self.init_epochs} is not shorter than the fit of {epochs} epochs: all of it is plain "
                "Co-teaching"
            )
        return warnings

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.current_epoch < self.init_epochs:
            return super().losses(batch)
        first_output, second_output = self.net.first(batch.x), self.net.second(batch.x)
        disagrees = first_output.argmax(1) != second_output.argmax(1)
        # Each network trains on the samples that its peer chose.
        first_scores = self.scores(second_output.detach(), batch.y)
        second_scores = self.scores(first_output.detach(), batch.y)
        first_kept, first_fraction = self.filter.keep(first_scores, self.current_epoch, disagrees)
        second_kept, second_fraction = self.filter.keep(second_scores, self.current_epoch, disagrees)
        if self.mean_over == "batch":
            first_fraction = second_fraction = torch.ones_like(first_fraction)
        batch.kept = (first_kept, second_kept)
        return (
            self.mean_of_kept(first_output, batch, first_kept, first_fraction),
            self.mean_of_kept(second_output, batch, second_kept, second_fraction),
        )


class DoubleSoftmax(nn.Module):
    """The cross-entropy of probabilities that are taken for logits.

    Example:
        >>> import torch
        >>> DoubleSoftmax()(torch.tensor([[99.0, 0.0]]), torch.tensor([0]))
        tensor(0.3133)
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduction = "mean"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.softmax(1), target, reduction=self.reduction)
