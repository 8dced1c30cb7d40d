"""Early-learning regularization: targets that follow a network's past predictions, and penalties for leaving them.

The paper is "Early-Learning Regularization Prevents Memorization of Noisy Labels" (ELR,
https://arxiv.org/abs/2007.00151).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.checks import check_range
from noisylabels_pl.functional.precision import at_least_float32

CLAMP = 1e-4  # the authors' public code clamps probabilities to [CLAMP, 1 - CLAMP]


def ema_targets(targets: Tensor, probs: Tensor, beta: float) -> Tensor:
    r"""Return the new targets of a batch: exponential moving averages of the predictions, without gradient.

    .. math::
        t \leftarrow \beta t + (1 - \beta) p

    This is eq. 9 of `Early-Learning Regularization Prevents Memorization of Noisy Labels
    <https://arxiv.org/abs/2007.00151>`_. The entries of a target that starts at 0 sum to :math:`1 - \beta^k` after
    :math:`k` visits. So the penalty ramps up by itself, and this bias towards 0 needs no correction.

    Args:
        targets: ``(B, C)`` old targets, not changed.
        probs: ``(B, C)`` predicted probabilities.
        beta: momentum in ``[0, 1]``; 0 takes the predictions themselves.

    Returns:
        ``(B, C)``.

    Raises:
        ValueError: ``beta`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import ema_targets
        >>> ema_targets(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]), beta=0.7)
        tensor([[0.2700, 0.0300]])
    """
    check_range("beta", beta, "[0, 1]")
    return beta * targets + (1 - beta) * probs.detach()


def elr_penalty(probs: Tensor, targets: Tensor, *, eps: float = 0.0) -> Tensor:
    r"""Return the early-learning penalty of each sample; the more predictions and targets agree, the lower it is.

    .. math::
        \ell_i = \log(1 - \langle p_i, t_i \rangle)

    This is eq. 6 of `Early-Learning Regularization Prevents Memorization of Noisy Labels
    <https://arxiv.org/abs/2007.00151>`_ without :math:`\lambda / n`. Its gradient with respect to the logits (Lemma 2)
    keeps up the gradients of rightly labeled samples and cancels those of wrongly labeled ones. Without ``eps`` it has
    no lower bound.

    Args:
        probs: ``(B, C)`` predicted probabilities.
        targets: ``(B, C)``; no gradient flows into them.
        eps: clamp probabilities to ``[eps, 1 - eps]`` first; the authors' public code takes :data:`CLAMP`. The gradient
            is 0 where the clamp acts. With targets that are clamped alike, the minimum for ten classes is
            ``log(1e-3)``.

    Returns:
        ``(B,)``, at least float32: in half types ``1 - 1e-4`` is 1.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import elr_penalty
        >>> probs = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
        >>> targets = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
        >>> elr_penalty(probs, targets)
        tensor([-1.3471, -0.3011])
    """
    probs = at_least_float32(probs)
    if eps:
        probs = probs.clamp(eps, 1 - eps)
    agreement = (probs * targets.detach()).sum(1)
    return torch.log1p(-agreement)


def kl_penalty(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Return the Kullback-Leibler divergence of each sample's prediction from its normalized targets.

    .. math::
        \ell_i = \sum_c \bar{t}_{ic} \log\frac{\bar{t}_{ic}}{p_{ic}}, \quad
        \bar{t}_{ic} = \frac{t_{ic}}{\sum_k t_{ik}}

    This is an alternative to :func:`elr_penalty`. A network trained with it overfits the targets: section 4.2 of
    `Early-Learning Regularization Prevents Memorization of Noisy Labels <https://arxiv.org/abs/2007.00151>`_.

    Args:
        logits: ``(B, C)``.
        targets: ``(B, C)``, not negative; no gradient flows into them. A row of zeros has the penalty 0.

    Returns:
        ``(B,)``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import kl_penalty
        >>> logits = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
        >>> kl_penalty(logits, torch.tensor([[0.25, 0.25], [0.45, 0.05]]))
        tensor([0.5108, 1.7578])
    """
    log_probs = F.log_softmax(at_least_float32(logits), 1)
    targets = targets.detach().to(log_probs.dtype)
    totals = targets.sum(1, keepdim=True)
    normalized = targets / torch.where(totals > 0, totals, 1)
    return (torch.xlogy(normalized, normalized) - normalized * log_probs).sum(1)
