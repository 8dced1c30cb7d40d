"""A loss of bounded logits."""

from __future__ import annotations

from torch import Tensor, nn

from noisylabels_pl.functional import check_range, clip_logits
from noisylabels_pl.losses.base import Reduction


class LogitClip(nn.Module):
    r"""Computes any loss of logits whose norm is bounded.

    `Mitigating Memorization of Noisy Labels by Clipping the Model Prediction <https://arxiv.org/abs/2212.04055>`_ (Wei
    et al., ICML 2023). With the logits :math:`z` of a sample:

    .. math::
        \bar\ell(z, y) = \ell(\bar z, y), \qquad \bar z = z \cdot \min(1, \tau / \lVert z \rVert_2)

    No sample can then have a large loss, and the network gains nothing by ever larger logits. Predictions stay as they
    are, because clipping does not change the order of a sample's logits. The kernel is
    :func:`~noisylabels_pl.functional.clip_logits`.

    Args:
        loss: ``(logits, target)`` to a loss; cross-entropy if not given.
        tau: largest norm; positive, infinite for no clipping.
        clipped_norm: norm that longer logits get; ``tau`` if not given, as in the paper. The authors' public code has
            ``1 / tau``.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``; that of ``loss`` if not given.

    Raises:
        ValueError: ``tau`` or ``clipped_norm`` is not positive.
        TypeError: ``loss`` is not a module with a ``reduction``.

    Example:
        >>> import torch
        >>> from noisylabels_pl import GCELoss, LogitClip
        >>> logits = torch.tensor([[20.0, 0.0], [20.0, 0.0]])
        >>> LogitClip(GCELoss(), tau=2.0, reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.1215, 1.1062])
    """

    tasks = ("classification",)

    def __init__(
        self,
        loss: nn.Module | None = None,
        tau: float = 1.5,
        clipped_norm: float | None = None,
        *,
        reduction: Reduction | None = None,
    ) -> None:
        super().__init__()
        check_range("tau", tau, "(0, inf]")
        if clipped_norm is not None:
            check_range("clipped_norm", clipped_norm, "(0, inf)")
        if loss is None:
            loss = nn.CrossEntropyLoss()
        if not hasattr(loss, "reduction"):
            raise TypeError(f"loss must be a module with a reduction, such as LogitClip(GCELoss()), got {loss!r}")
        self.loss = loss
        self.tau = tau
        self.clipped_norm = clipped_norm
        if reduction is not None:
            self.reduction = reduction

    @property
    def reduction(self) -> Reduction:
        """The reduction of the loss inside."""
        reduction: Reduction = self.loss.reduction  # type: ignore[assignment]
        return reduction

    @reduction.setter
    def reduction(self, reduction: Reduction) -> None:
        self.loss.reduction = reduction  # type: ignore[assignment]

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and observed labels ``(B,)``, reduced."""
        loss: Tensor = self.loss(clip_logits(logits, self.tau, self.clipped_norm), target)
        return loss

    def extra_repr(self) -> str:
        return f"tau={self.tau}"
