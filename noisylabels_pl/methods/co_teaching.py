"""Co-teaching (Han et al., NeurIPS 2018)."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.core import FilterTwin, per_sample_losses


class CoTeaching(FilterTwin):
    r"""Trains two networks, each on the samples of a batch for which its peer has the smallest losses.

    `Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels
    <https://arxiv.org/abs/1804.06872>`_. In epoch :math:`t`, counted from 1, a batch of :math:`B` samples keeps
    :math:`\lfloor R(t) B \rfloor` of them, where :math:`R(t) = 1 - \tau \min(t / T_k, 1)` with :math:`\tau` the
    ``forget_rate`` and :math:`T_k` the ``ramp_epochs``.

    Args:
        make_net: see :class:`~noisylabels_pl.core.TwinModule`.
        num_outputs: see :class:`~noisylabels_pl.core.TwinModule`.
        optimizer: see :class:`~noisylabels_pl.core.TwinModule`.
        scheduler: see :class:`~noisylabels_pl.core.TwinModule`.
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        task: ``"classification"`` or ``"regression"``.
        **options: see :class:`~noisylabels_pl.core.FilterTwin`.

    Raises:
        ValueError: ``forget_rate`` is out of range, or an option is wrong.

    Example:
        >>> import torch
        >>> from noisylabels_pl import CoTeaching
        >>> pair = CoTeaching(lambda: torch.nn.Linear(64, 10), 10, torch.optim.Adam, forget_rate=0.2)
        >>> pair(torch.zeros(5, 64)).shape  # the mean of two networks
        torch.Size([5, 10])
    """

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        return per_sample_losses(self.criterion, output, target)
