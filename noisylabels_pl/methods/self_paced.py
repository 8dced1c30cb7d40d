"""Self-paced learning (Kumar et al., NeurIPS 2010)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisylabels_pl.core import FilterCallback, FilterOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SPL(FilterCallback):
    """Self-paced learning: drops the samples of each batch with the largest losses.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.
    """

    def __init__(self, forget_rate: float, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(forget_rate, criterion=criterion, **options)

    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return losses.detach()
