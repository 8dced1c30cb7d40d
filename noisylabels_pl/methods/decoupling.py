"""Decoupling (Malach and Shalev-Shwartz, NeurIPS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.core import TwinModule
from noisylabels_pl.data import Batch


class Decoupling(TwinModule):
    r"""Trains two networks on the samples of a batch for which they predict different classes.

    `Decoupling "when to update" from "how to update" <https://arxiv.org/abs/1706.02613>`_. Late in training, a batch
    has many wrong labels among the samples that still cost something. The networks decide by their disagreement, which
    does not look at the label, when to train, and by the labels how. With :math:`B` samples in a batch, each minimizes

    .. math::
        \frac{1}{B} \sum_{i \in D} \ell_i, \qquad
        D = \{i : \arg\max_c f_1(x_i)_c \ne \arg\max_c f_2(x_i)_c\}

    The paper leaves the divisor open. With :math:`B` the steps become smaller as the networks come to agree; with
    :math:`|D|` the few samples on which they still disagree, most of them labeled wrongly, would move the networks as
    far as a whole batch, and plain SGD diverges. There is no rate to set.

    A batch without disagreement has gradients of 0: two networks with equal weights never change. The paper leaves out
    such a step. Here momentum and weight decay go on in it, because finding out would let each step wait for the
    device.

    Args:
        make_net: see :class:`~noisylabels_pl.core.TwinModule`.
        num_outputs: see :class:`~noisylabels_pl.core.TwinModule`.
        optimizer: see :class:`~noisylabels_pl.core.TwinModule`.
        scheduler: see :class:`~noisylabels_pl.core.TwinModule`.

    Example:
        >>> import torch
        >>> from noisylabels_pl import Decoupling
        >>> pair = Decoupling(lambda: torch.nn.Linear(64, 10), 10, torch.optim.Adam)
        >>> pair(torch.zeros(5, 64)).shape  # the mean of two networks
        torch.Size([5, 10])
    """

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        first_output, second_output = self.net.first(batch.x), self.net.second(batch.x)
        disagrees = first_output.argmax(1) != second_output.argmax(1)
        batch.kept = (disagrees, disagrees)
        divisor = torch.ones((), device=disagrees.device)  # the whole batch
        return (
            self.mean_of_kept(first_output, batch, disagrees, divisor),
            self.mean_of_kept(second_output, batch, disagrees, divisor),
        )
