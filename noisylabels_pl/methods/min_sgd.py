"""Min-SGD (Shah, Wu and Sanghavi, AISTATS 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisylabels_pl.core import FilterCallback, FilterOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MinSGD(FilterCallback):
    r"""Trains on the one sample of each batch with the smallest loss.

    `Choosing the Sample with Lowest Loss makes SGD Robust <https://arxiv.org/abs/2001.03316>`_. The loss of a
    step is :math:`\min_i \ell_i` over the samples :math:`i` of the batch.

    Args:
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`. The forget rate is 1, by which one sample is kept.

    Raises:
        ValueError: an option is wrong.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import MinSGD
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[MinSGD()], logger=False, enable_checkpointing=False)
    """

    def __init__(self, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(1.0, convert_batchnorm=False, criterion=criterion, **options)

    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return losses.detach()
