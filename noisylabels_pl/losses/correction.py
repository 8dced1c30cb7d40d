"""Losses corrected by a transition matrix (Patrini et al., CVPR 2017)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noisylabels_pl.functional import (
    check_choice,
    check_transition_matrix,
    forward_correction,
    invert_transition_matrix,
    linear_correction,
    observed_log_probs,
)
from noisylabels_pl.functional.losses.correction import BASES, ClassLosses
from noisylabels_pl.losses.robust import reduce

_log = logging.getLogger(__name__)


class _CorrectedLoss(nn.Module):
    """What both corrections share: ``T``, the base loss, and what the network expects to be observed."""

    tasks = ("classification",)

    def __init__(self, T: Tensor | Sequence[Sequence[float]], *, base: str | ClassLosses, reduction: str) -> None:
        super().__init__()
        if isinstance(base, str):
            check_choice("base", base, BASES)
        check_choice("reduction", reduction, ("none", "mean", "sum"))
        T = torch.as_tensor(T, dtype=torch.float64)
        # No buffer: half precision would round it, and a checkpoint is to fit a module with another criterion.
        self.T = check_transition_matrix(T, len(T)).float()
        self.base = base
        self.reduction = reduction

    def observed(self, logits: Tensor) -> Tensor:
        """``log T^T p`` ``(B, C)``: noisy validation labels are to be compared with these, clean ones with logits."""
        return observed_log_probs(logits, self._matching(logits))

    def _matching(self, logits: Tensor) -> Tensor:
        """``T``, on the device of logits that fit it."""
        if logits.shape[1] != len(self.T):
            raise ValueError(f"T has {len(self.T)} classes, but the network {logits.shape[1]}; give a T of as many")
        self.T = self.T.to(logits.device)
        return self.T

    def extra_repr(self) -> str:
        return f"{len(self.T)} classes, base={self.base!r}"


class ForwardCorrectionLoss(_CorrectedLoss):
    """The loss of noisy labels under ``T^T p``; see :func:`~noisylabels_pl.functional.forward_correction`.

    Args:
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        base: ``ce``, ``square`` or a function, see :func:`~noisylabels_pl.functional.forward_correction`.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: ``T`` is not a transition matrix, or never makes one of the labels.
    """

    def __init__(
        self, T: Tensor | Sequence[Sequence[float]], *, base: str | ClassLosses = "ce", reduction: str = "mean"
    ) -> None:
        super().__init__(T, base=base, reduction=reduction)
        # One label of each class checks T once; forward() then need not.
        forward_correction(torch.zeros_like(self.T), torch.arange(len(self.T)), self.T, base=base)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses = forward_correction(logits, target, self._matching(logits), base=self.base, validate=False)
        return reduce(losses, self.reduction)


class BackwardCorrectionLoss(_CorrectedLoss):
    """The unbiased loss of noisy labels; see :func:`~noisylabels_pl.functional.backward_correction`.

    It may be negative, also for good networks, and an ill-conditioned ``T`` makes it noisy: a condition number above
    100 is logged as a warning. As in the authors' public code, probabilities below 1e-7 count as 1e-7; without that,
    the loss has no lower bound.

    Args:
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        mix: share of the identity that is mixed into ``T`` before inversion, in ``[0, 1)``.
        base: ``ce``, ``square`` or a function, see :func:`~noisylabels_pl.functional.forward_correction`.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: ``T`` is not a transition matrix or cannot be inverted, or ``mix`` is out of range.
    """

    def __init__(
        self,
        T: Tensor | Sequence[Sequence[float]],
        *,
        mix: float = 0.0,
        base: str | ClassLosses = "ce",
        reduction: str = "mean",
    ) -> None:
        super().__init__(T, base=base, reduction=reduction)
        inverse = invert_transition_matrix(torch.as_tensor(T, dtype=torch.float64), mix=mix)
        self.inverse = inverse.float()
        condition = float(torch.linalg.cond(inverse))
        if condition > 100:
            _log.warning(
                "T has condition number %.0f; mix the identity in, as by mix=0.1, for less variance", condition
            )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.inverse = self.inverse.to(self._matching(logits).device)
        return reduce(linear_correction(logits, target, self.inverse, base=self.base, eps=1e-7), self.reduction)
