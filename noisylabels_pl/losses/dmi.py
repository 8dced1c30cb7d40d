"""Determinant-based mutual information as a criterion."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.functional import check_range, dmi_loss
from noisylabels_pl.losses.base import Reduction, RobustCriterion


class LDMILoss(RobustCriterion):
    r"""Computes minus the logarithm of the mutual information of labels and predictions in a batch.

    `L_DMI: A Novel Information-theoretic Loss Function for Training Deep Nets Robust to Label Noise
    <https://arxiv.org/abs/1909.03388>`_ (Xu, Cao, Kong and Wang, NeurIPS 2019). With the predicted probabilities
    :math:`p_i` and the observed labels :math:`y_i`:

    .. math::
        \ell = -\log(|\det U| + \epsilon), \qquad U_{jk} = \sum_i [y_i = j] \, p_{ik}

    The loss belongs to the whole batch, so every sample has it as its loss, and ``"none"`` and ``"mean"`` agree but for
    the shape. It does not know which output stands for which class, so train with another loss first; :class:`LDMI`
    does. A batch without a sample of some class has no gradient. The kernel is
    :func:`~noisylabels_pl.functional.dmi_loss`.

    Args:
        eps: positive; bounds the loss.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``eps`` is not positive, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import LDMILoss
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> LDMILoss()(logits, torch.tensor([0, 1]))
        tensor(0.2710)
    """

    depends_on_batch = True  # splitting a batch across ranks changes the result
    has_value_per_batch = True  # not one for each sample, which could be weighted

    def __init__(self, eps: float = 1e-3, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_range("eps", eps, "(0, inf)")
        self.eps = eps

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return dmi_loss(logits, target, self.eps).expand(len(target))

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
