"""Losses of a margin as criteria; their formulas are in :mod:`noisylabels_pl.functional.losses.margin`."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.functional import ramp_loss, savage_loss, sigmoid_loss, unhinged_loss
from noisylabels_pl.losses.base import Reduction, RobustCriterion


class _NormalizedLogits(RobustCriterion):
    """A loss that needs batch normalization behind the network's last layer.

    The norm is a part of the network, not of the loss, because predictions need it, too. The command line puts it there
    if the loss says so.
    """

    def __init__(self, *, batch_norm: bool = True, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.batch_norm = batch_norm
        self.depends_on_batch = batch_norm  # each rank normalizes its part of a batch


class UnhingedLoss(_NormalizedLogits):
    r"""Computes the unhinged loss, which is linear in the logits.

    `Learning with Symmetric Label Noise: The Importance of Being Unhinged <https://arxiv.org/abs/1505.07634>`_ (van
    Rooyen, Menon and Williamson, NeurIPS 2015). With the logits :math:`z` of :math:`C` classes and the observed label
    :math:`y`:

    .. math::
        \ell = 1 - \Bigl( z_y - \frac{1}{C} \sum_k z_k \Bigr)

    The loss has no lower bound, so the logits must have bounds. Patrini et al. put batch normalization behind the last
    layer, and so does the command line, without a learned scale, which would grow without end. In a module of your own,
    take the network ``nn.Sequential(net, nn.BatchNorm1d(C, affine=False))``. The kernel is
    :func:`~noisylabels_pl.functional.unhinged_loss`.

    Args:
        batch_norm: whether the command line adds the batch normalization; the loss itself does not.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``reduction`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import UnhingedLoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> UnhingedLoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0., 2.])
    """

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return unhinged_loss(logits, target)


class SigmoidLoss(_NormalizedLogits):
    r"""Computes the sigmoid loss, a smooth step from 0 to 1.

    `Making Risk Minimization Tolerant to Label Noise <https://arxiv.org/abs/1403.3610>`_ (Ghosh, Manwani and Sastry,
    Neurocomputing 2015). With the logits :math:`z` of :math:`C` classes and the observed label :math:`y`:

    .. math::
        \ell = \frac{1}{1 + e^{m}}, \qquad m = z_y - \frac{1}{C} \sum_k z_k

    The gradient vanishes for large margins of either sign, so a network stops to learn too early. Patrini et al. put
    batch normalization behind the last layer, and so does the command line; see :class:`UnhingedLoss`. The kernel is
    :func:`~noisylabels_pl.functional.sigmoid_loss`.

    Args:
        batch_norm: whether the command line adds the batch normalization; the loss itself does not.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``reduction`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import SigmoidLoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> SigmoidLoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.2689, 0.7311])
    """

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return sigmoid_loss(logits, target)


class RampLoss(_NormalizedLogits):
    r"""Computes the ramp loss, a straight step from 0 to 1.

    `Making Risk Minimization Tolerant to Label Noise <https://arxiv.org/abs/1403.3610>`_ (Ghosh, Manwani and Sastry,
    Neurocomputing 2015). With the logits :math:`z` of :math:`C` classes and the observed label :math:`y`:

    .. math::
        \ell = \tfrac12 \max(0, \min(2, 1 - m)), \qquad m = z_y - \frac{1}{C} \sum_k z_k

    Samples with a margin outside of ``(-1, 1)`` have no gradient, so the logits must stay near 0. The command line puts
    batch normalization behind the last layer; see :class:`UnhingedLoss`. The kernel is
    :func:`~noisylabels_pl.functional.ramp_loss`.

    Args:
        batch_norm: whether the command line adds the batch normalization; the loss itself does not.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``reduction`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import RampLoss
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> RampLoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.2500, 0.7500])
    """

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return ramp_loss(logits, target)


class SavageLoss(RobustCriterion):
    r"""Computes the Savage loss of the predicted probability of the label.

    `On the Design of Loss Functions for Classification: theory, robustness to outliers, and SavageBoost
    <https://papers.nips.cc/paper_files/paper/2008/hash/f5deaeeae1538fb6c45901d524ee2f98-Abstract.html>`_
    (Masnadi-Shirazi and Vasconcelos, NeurIPS 2008). With the predicted probability :math:`p_y` of the observed label as
    the margin, as Patrini et al. have it:

    .. math::
        \ell = \frac{1}{(1 + e^{2 p_y})^2}

    Its gradients are at most a quarter of those of :class:`MAELoss`, so it needs a larger learning rate. The kernel is
    :func:`~noisylabels_pl.functional.savage_loss`.

    Args:
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``reduction`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import SavageLoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> SavageLoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.0215, 0.1942])
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return savage_loss(logits, target)
