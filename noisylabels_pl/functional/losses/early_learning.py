"""Early-learning regularization (Liu et al., NeurIPS 2020): targets from a network's own past, and their penalty."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.precision import at_least_float32

CLAMP = 1e-4  # of probabilities, in the authors' public code


def ema_targets(targets: Tensor, probs: Tensor, beta: float) -> Tensor:
    """``beta t + (1 - beta) p``, the new targets of a batch (eq. 9); without gradient.

    From targets of 0, ``k`` visits leave a sum of ``1 - beta^k``: the penalty ramps up by itself, without correction.

    Args:
        targets: ``(B, C)`` old targets, not changed.
        probs: ``(B, C)`` what the network says now.
        beta: in ``[0, 1]``; 0 takes what it says now.

    Raises:
        ValueError: ``beta`` is out of range.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie in [0, 1], got {beta}")
    return beta * targets + (1 - beta) * probs.detach()


def elr_penalty(probs: Tensor, targets: Tensor, *, eps: float = 0.0) -> Tensor:
    """``log(1 - <p, t>)``, the penalty of a sample (eq. 6 without ``lambda / n``); the more they agree, the lower.

    Its gradient in the logits is Lemma 2: it keeps rightly labeled samples pulling, and holds wrongly labeled ones
    back. Without ``eps`` it has no lower bound.

    Args:
        probs: ``(B, C)``.
        targets: ``(B, C)``, no gradient flows into them.
        eps: clamp probabilities to ``[eps, 1 - eps]`` first, by :data:`CLAMP` in the public code. The gradient is 0
            where the clamp acts, and with targets clamped alike the floor for ten classes is ``log(1e-3)``.

    Returns:
        ``(B,)``, at least float32: in half types ``1 - 1e-4`` is 1.
    """
    probs = at_least_float32(probs)
    if eps:
        probs = probs.clamp(eps, 1 - eps)
    return torch.log1p(-(probs * targets.detach()).sum(1))


def kl_penalty(logits: Tensor, targets: Tensor) -> Tensor:
    """``KL(t || p)`` with targets normalized: the alternative that overfits its targets (section 4.2 of the paper).

    Args:
        logits: ``(B, C)``.
        targets: ``(B, C)`` not negative; a row of zeros has the penalty 0.

    Returns:
        ``(B,)``, at least float32.
    """
    log_probs = F.log_softmax(at_least_float32(logits), 1)
    targets = targets.detach().to(log_probs.dtype)
    total = targets.sum(1, keepdim=True)
    shares = targets / torch.where(total > 0, total, 1)
    return (torch.xlogy(shares, shares) - shares * log_probs).sum(1)
