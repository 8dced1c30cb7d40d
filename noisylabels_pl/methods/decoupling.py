"""Decoupling (Malach and Shalev-Shwartz, NeurIPS 2017)."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.core import TwinModule
from noisylabels_pl.core.distributed import all_gather, check_equal_batches
from noisylabels_pl.data import Batch


class Decoupling(TwinModule):
    r"""Trains two networks on the samples of a batch for which they predict different classes.

    `Decoupling "when to update" from "how to update" <https://arxiv.org/abs/1706.02613>`_. Late in training, a batch
    has many wrong labels among the samples that still cost something. The networks decide by their disagreement, which
    does not look at the label, when to train, and by the labels how: both minimize the mean loss of

    .. math::
        D = \{i : \arg\max_c f_1(x_i)_c \ne \arg\max_c f_2(x_i)_c\}

    There is no rate to set. The networks come to agree, and then stop learning. A batch without disagreement has
    gradients of 0: two networks with equal weights never change. (The paper leaves out such a step. Here momentum and
    weight decay go on in it, because finding out would let each step wait for the device.)

    Under DDP the mean is over the disagreeing samples of all processes.

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

    def on_train_start(self) -> None:
        super().on_train_start()
        check_equal_batches(self.trainer.train_dataloader)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        first_output, second_output = self.net.first(batch.x), self.net.second(batch.x)
        disagrees = first_output.argmax(1) != second_output.argmax(1)
        fraction = all_gather(disagrees).float().mean()
        batch.kept = (disagrees, disagrees)
        return (
            self.mean_of_kept(first_output, batch, disagrees, fraction),
            self.mean_of_kept(second_output, batch, disagrees, fraction),
        )
