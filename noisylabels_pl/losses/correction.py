"""Losses corrected by a transition matrix, as criteria (Patrini et al., CVPR 2017)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noisylabels_pl.functional import (
    check_choice,
    check_range,
    check_transition_matrix,
    forward_correction,
    invert_transition_matrix,
    linear_correction,
    observed_log_probs,
)
from noisylabels_pl.functional.losses.correction import BaseLoss, ClassLosses
from noisylabels_pl.losses.base import Reduction, reduce

_log = logging.getLogger(__name__)


class _CorrectedLoss(nn.Module):
    """Holds the options that both corrections share: ``T``, the base loss, the clip and the reduction."""

    tasks = ("classification",)

    def __init__(
        self,
        T: Tensor | Sequence[Sequence[float]],
        *,
        base: BaseLoss | ClassLosses,
        eps: float,
        reduction: Reduction,
    ) -> None:
        super().__init__()
        if isinstance(base, str):
            check_choice("base", base, BaseLoss)
        check_range("eps", eps, "[0, 0.5)")
        check_choice("reduction", reduction, Reduction)
        T = torch.as_tensor(T, dtype=torch.float64)
        # Not a buffer, because half precision would round a buffer, and because a checkpoint must not depend on the
        # criterion: the module may be loaded with another one.
        self.T = check_transition_matrix(T, len(T)).float()
        self.base = base
        self.eps = eps
        self.reduction = reduction

    def observed(self, logits: Tensor) -> Tensor:
        """Return ``log T^T p``, the predicted log-probabilities of the observed labels.

        Compare noisy validation labels with these, and clean labels with the logits.

        Args:
            logits: ``(B, C)``.

        Returns:
            ``(B, C)``, at least float32.
        """
        return observed_log_probs(logits, self._matrix_for(logits))

    def _matrix_for(self, logits: Tensor) -> Tensor:
        """Move ``T`` to the device of the logits and return it, after checking that it has as many classes as they."""
        if logits.shape[1] != len(self.T):
            raise ValueError(f"T has {len(self.T)} classes, but the network {logits.shape[1]}; give a T of as many")
        self.T = self.T.to(logits.device)
        return self.T

    def extra_repr(self) -> str:
        return f"{len(self.T)} classes, base={self.base!r}"


class ForwardCorrectionLoss(_CorrectedLoss):
    r"""Computes the loss of the observed labels under the predicted noisy distribution.

    `Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach <https://arxiv.org/abs/1609.03683>`_,
    section 4.2. With the network's probabilities :math:`p` of the true classes:

    .. math::
        \ell^{\to}(p, y) = \ell(T^\top p, y)

    The kernel is :func:`~noisylabels_pl.functional.forward_correction`.

    Args:
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        base: the loss :math:`\ell` to correct: ``"ce"``, ``"square"`` or a function, see
            :func:`~noisylabels_pl.functional.forward_correction`.
        eps: clip probabilities to ``[eps, 1 - eps]``, as the authors' public code does with 1e-7; 0 for no clip.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``T`` is not a transition matrix, or some label is never observed according to it, or ``eps`` is out
            of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl import ForwardCorrectionLoss
        >>> loss = ForwardCorrectionLoss([[0.8, 0.2], [0.2, 0.8]], reduction="none")
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.6931, 0.6931])
    """

    def __init__(
        self,
        T: Tensor | Sequence[Sequence[float]],
        *,
        base: BaseLoss | ClassLosses = "ce",
        eps: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(T, base=base, eps=eps, reduction=reduction)
        # The kernel checks T here, once, so that forward() can skip that.
        logits = torch.zeros_like(self.T)
        every_label = torch.arange(len(self.T))
        forward_correction(logits, every_label, self.T, base=base)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and observed labels ``(B,)``, reduced."""
        T = self._matrix_for(logits)
        losses = forward_correction(logits, target, T, base=self.base, eps=self.eps, validate=False)
        return reduce(losses, self.reduction)


class BackwardCorrectionLoss(_CorrectedLoss):
    r"""Computes an unbiased estimate of the loss of the true labels.

    `Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach <https://arxiv.org/abs/1609.03683>`_,
    section 4.1. With the losses :math:`\ell(p)` of all labels that a sample could have:

    .. math::
        \ell^{\gets}(p, y) = \left( T^{-1} \ell(p) \right)_y

    The loss may be negative, even for good networks, and an ill-conditioned ``T`` makes it noisy: a condition number
    above 100 is logged as a warning. As in the authors' public code, probabilities are clipped to [1e-7, 1 - 1e-7];
    otherwise the loss has no lower bound. The kernel is :func:`~noisylabels_pl.functional.backward_correction`.

    Args:
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        mix: weight of the identity that is mixed into ``T`` before it is inverted, in ``[0, 1)``.
        base: the loss :math:`\ell` to correct: ``"ce"``, ``"square"`` or a function, see
            :func:`~noisylabels_pl.functional.forward_correction`.
        eps: clip probabilities to ``[eps, 1 - eps]``; 0 for no clip.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``T`` is not a transition matrix or cannot be inverted, or ``mix`` or ``eps`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl import BackwardCorrectionLoss
        >>> loss = BackwardCorrectionLoss([[0.8, 0.2], [0.2, 0.8]], reduction="none")
        >>> loss(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
        tensor([-0.5397,  2.7936])
    """

    def __init__(
        self,
        T: Tensor | Sequence[Sequence[float]],
        *,
        mix: float = 0.0,
        base: BaseLoss | ClassLosses = "ce",
        eps: float = 1e-7,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(T, base=base, eps=eps, reduction=reduction)
        inverse = invert_transition_matrix(torch.as_tensor(T, dtype=torch.float64), mix=mix)
        self.inverse = inverse.float()
        condition = float(torch.linalg.cond(inverse))
        if condition > 100:
            _log.warning(
                "T has condition number %.0f; mix the identity in, as by mix=0.1, for less variance", condition
            )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and observed labels ``(B,)``, reduced."""
        self.inverse = self.inverse.to(self._matrix_for(logits).device)
        losses = linear_correction(logits, target, self.inverse, base=self.base, eps=self.eps)
        return reduce(losses, self.reduction)
