"""Min-SGD: training on the sample with the smallest loss (Shah et al., AISTATS 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisylabels_pl.core import FilterCallback, FilterOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MinSGD(FilterCallback):
    """Min-SGD: trains on the one sample of each batch with the smallest loss.

    Args:
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.
    """

    def __init__(self, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(1.0, criterion=criterion, **options)

    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return losses.detach()
