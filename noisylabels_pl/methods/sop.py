"""SOP: sparse over-parameterization (Liu, Zhu, Qu and You, ICML 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.core import CriterionCallback, SampleTable
from noisylabels_pl.core.distributed import rank_and_world_size
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.functional import at_least_float32, check_range, sop_gradients, sop_losses

INITIAL_STD = 1e-8


class SOP(CriterionCallback):
    r"""Gives each sample variables of its own, which absorb its label where that is wrong.

    `Robust Training under Label Noise by Over-parameterization <https://arxiv.org/abs/2202.14026>`_. Wrong labels are
    few, so their noise is a sparse vector. It is written as :math:`s_i - t_i` with :math:`s_i = u_i^2 y_i` and
    :math:`t_i = v_i^2 (1 - y_i)`, where :math:`y_i` is the one-hot label. Gradient descent that starts near 0 keeps
    such squares sparse without a penalty. With :math:`p_i` the predicted probabilities, :math:`h_i` the one-hot
    predicted class, and :math:`s_i` and :math:`t_i` clamped to [0, 1], the network minimizes

    .. math::
        q_i = \frac{\max(p_i + s_i - t_i, \epsilon)}{\lVert \max(p_i + s_i - t_i, \epsilon) \rVert_1}, \qquad
        \ell_i = -\log q_{i, y_i} + \lVert h_i + s_i - t_i - y_i \rVert^2

    The variables take plain gradient steps on the mean loss of each batch, with learning rates of their own; :math:`v`
    learns by the second term alone. Their gradients are formulas of the prediction, so the optimizer of the network
    does not hold them. :math:`\epsilon` is 1e-4, which bounds the loss as in ELR; the paper gives no value. Learning
    rates of 0 leave cross-entropy, with gradients of 0 for labels whose probability is below :math:`\epsilon`.

    The paper has ``lr_u=10`` and ``lr_v=10`` for symmetric noise on CIFAR-10, and asymmetric noise on CIFAR-100 takes
    0.1 and 100 in the authors' public code, for batches of 128.

    Args:
        lr_u: learning rate of :math:`u`, not negative. The batch's mean divides the step, so it should grow with the
            batch size.
        lr_v: learning rate of :math:`v`, not negative.
        seed: of the first values of :math:`u` and :math:`v`, which are normal with a standard deviation of 1e-8.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Attributes:
        u: a table with the variable ``(1,)`` of each training sample.
        v: a table with the variables ``(C,)`` of each training sample.

    Raises:
        ValueError: a number is negative.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import SOP
        >>> sop = SOP(lr_u=10.0, lr_v=10.0)
        >>> trainer = L.Trainer(max_epochs=120, callbacks=[sop], logger=False, enable_checkpointing=False)
    """

    def __init__(self, lr_u: float = 10.0, lr_v: float = 10.0, *, seed: int = 0, criterion: str | None = None) -> None:
        super().__init__(criterion=criterion)
        check_range("lr_u", lr_u, "[0, inf)")
        check_range("lr_v", lr_v, "[0, inf)")
        check_range("seed", seed, "[0, inf)", integer=True)
        self.lr_u = lr_u
        self.lr_v = lr_v
        self.seed = seed
        self.u = self.tables.add("u")
        self.v = self.tables.add("v")

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        probs = at_least_float32(logits).softmax(1)
        if self.u.rows is None:
            self._initialize(self.u, probs[:, :1])
            self._initialize(self.v, probs)
        u = self.u.read(batch.index, probs[:, :1])
        v = self.v.read(batch.index, probs)
        gradient_of_u, gradient_of_v = sop_gradients(probs, target, u, v)
        _, world_size = rank_and_world_size()
        batch_size = len(target) * world_size  # the loss is the mean over the batches of all ranks
        self.u.write(batch.index, u - self.lr_u / batch_size * gradient_of_u)
        self.v.write(batch.index, v - self.lr_v / batch_size * gradient_of_v)
        return sop_losses(probs, target, u, v)

    def _initialize(self, table: SampleTable, like: Tensor) -> None:
        """Fill a table at its first use: a square has the gradient 0 at 0, so its root must start elsewhere."""
        assert table.num_samples is not None
        generator = torch.Generator().manual_seed(self.seed)
        shape = (table.num_samples, like.shape[1])
        table.load(INITIAL_STD * torch.randn(shape, generator=generator, dtype=like.dtype), num_writes=0)
