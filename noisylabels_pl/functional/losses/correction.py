"""Losses corrected by a transition matrix, and its estimation from a network (Patrini et al., CVPR 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.functional.transition import check_transition_matrix, invert_transition_matrix

ClassLosses = Callable[[Tensor], Tensor]


def cross_entropy_of_classes(log_probs: Tensor) -> Tensor:
    """Cross-entropy for each label that a sample could have, ``-log p_k``: ``(B, C)`` of ``(B, C)``."""
    return -log_probs


def square_loss_of_classes(log_probs: Tensor) -> Tensor:
    """Square loss for each label that a sample could have, ``|p - e_k|^2``: ``(B, C)`` of ``(B, C)``."""
    probs = log_probs.exp()
    return probs.square().sum(1, keepdim=True) - 2 * probs + 1


BASES: dict[str, ClassLosses] = {"ce": cross_entropy_of_classes, "square": square_loss_of_classes}


def forward_correction(
    logits: Tensor, target: Tensor, T: Tensor, *, base: str | ClassLosses = "ce", validate: bool = True
) -> Tensor:
    """The base loss of the noisy label under ``T^T p``, what is expected to be observed (section 4.2, eqs. 3-5).

    It has the minimizer of the base loss on clean labels (theorem 2). Computed in log space, so that it stays finite
    where ``p`` underflows.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` observed labels.
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        base: ``ce``, ``square``, or a function from log-probabilities ``(B, C)`` to the loss of each label ``(B, C)``.
        validate: whether to check ``T``, which costs more than the loss.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``T`` is no transition matrix of ``C`` classes, or no true class can be observed as some label.
    """
    if validate:
        check_transition_matrix(T, logits.shape[1])
        if not (T > 0).any(0).all():
            empty = ", ".join(map(str, (~(T > 0).any(0)).nonzero().flatten().tolist()))
            raise ValueError(f"T says that label {empty} is never observed, so its loss would be infinite; correct T")
    log_p = _log_probs(logits)
    if base == "ce":  # needs one column of T only
        return -torch.logsumexp(T.to(log_p).log().T[target] + log_p, 1)
    return class_losses(base, observed_log_probs(log_p, T)).gather(1, target.unsqueeze(1)).squeeze(1)


def observed_log_probs(logits: Tensor, T: Tensor) -> Tensor:
    """``log T^T p``: what a network that predicts true labels expects to be observed.

    Args:
        logits: ``(B, C)``, of true labels.
        T: ``(C, C)``.

    Returns:
        ``(B, C)``, at least float32.
    """
    log_p = _log_probs(logits)
    return torch.logsumexp(T.to(log_p).log() + log_p.unsqueeze(2), 1)


def backward_correction(
    logits: Tensor, target: Tensor, T: Tensor, *, mix: float = 0.0, base: str | ClassLosses = "ce"
) -> Tensor:
    """Component ``target`` of ``T^-1 l(p)``, the unbiased estimate of the clean loss (section 4.1, theorem 1).

    Its mean over the noise is the base loss of the true label; by itself it may be negative, and has no lower bound.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` observed labels.
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        mix: share of the identity that is mixed into ``T`` before inversion, in ``[0, 1)``: less variance for bias.
        base: see :func:`forward_correction`.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``T`` is no transition matrix of ``C`` classes or cannot be inverted, or ``mix`` is out of range.
    """
    check_transition_matrix(T, logits.shape[1])
    return linear_correction(logits, target, invert_transition_matrix(T, mix=mix), base=base)


def linear_correction(
    logits: Tensor, target: Tensor, weights: Tensor, *, base: str | ClassLosses = "ce", eps: float = 0.0
) -> Tensor:
    """Component ``target`` of ``weights l(p)``: the losses of all labels that a sample could have, weighted.

    Args:
        logits: ``(B, C)``.
        target: ``(B,)`` observed labels.
        weights: ``(C, C)``, a row for each observed label.
        base: see :func:`forward_correction`.
        eps: least probability; below it the loss is constant, so that negative weights cannot pull without end.

    Returns:
        ``(B,)``, at least float32.
    """
    log_p = _log_probs(logits)
    losses = class_losses(base, log_p.clamp(min=math.log(eps)) if eps else log_p)
    return (weights.to(losses)[target] * losses).sum(1)


def class_losses(base: str | ClassLosses, log_probs: Tensor) -> Tensor:
    """The base loss for each label that a sample could have, ``(B, C)``; see :func:`forward_correction`."""
    if isinstance(base, str):
        check_choice("base", base, BASES)
        base = BASES[base]
    return base(log_probs)


def _log_probs(logits: Tensor) -> Tensor:
    return F.log_softmax(at_least_float32(logits), 1)
