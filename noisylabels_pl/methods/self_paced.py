"""Self-paced learning (Kumar, Packer and Koller, NeurIPS 2010)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisylabels_pl.core import FilterCallback, FilterOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SPL(FilterCallback):
    r"""Drops the samples of each batch with the largest losses: self-paced learning.

    `Self-Paced Learning for Latent Variable Models
    <https://papers.nips.cc/paper/3923-self-paced-learning-for-latent-variable-models>`_, in the form that the paper of
    PRL compares with: a batch of :math:`B` samples keeps the :math:`\lfloor (1 - \tau) B \rfloor` smallest losses, with
    the ``forget_rate`` :math:`\tau`. The original keeps the losses below a threshold that rises during training.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.

    Raises:
        ValueError: ``forget_rate`` is out of range, or an option is wrong.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import SPL
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[SPL(0.2)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, forget_rate: float, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(forget_rate, convert_batchnorm=False, criterion=criterion, **options)

    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return losses.detach()
