"""Losses corrected by a transition matrix ``T``, ``T[i, j] = P(observed = j | true = i)``.

The paper is "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach"
(https://arxiv.org/abs/1609.03683). Both corrections start from a base loss of each label that a sample could have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.functional.transition import check_transition_matrix, invert_transition_matrix

BaseLoss = Literal["ce", "square"]
ClassLosses = Callable[[Tensor], Tensor]


def cross_entropy_of_classes(log_probs: Tensor) -> Tensor:
    r"""Return the cross-entropy of each label that a sample could have.

    .. math::
        \ell_{ik} = -\log p_{ik}

    Args:
        log_probs: ``(B, C)`` log-probabilities.

    Returns:
        ``(B, C)``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.losses.correction import cross_entropy_of_classes
        >>> cross_entropy_of_classes(torch.tensor([[0.9, 0.1]]).log())
        tensor([[0.1054, 2.3026]])
    """
    return -log_probs


def square_loss_of_classes(log_probs: Tensor) -> Tensor:
    r"""Return the square loss of each label that a sample could have.

    .. math::
        \ell_{ik} = \lVert p_i - e_k \rVert^2 = \lVert p_i \rVert^2 - 2 p_{ik} + 1

    Args:
        log_probs: ``(B, C)`` log-probabilities.

    Returns:
        ``(B, C)``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.losses.correction import square_loss_of_classes
        >>> square_loss_of_classes(torch.tensor([[0.9, 0.1]]).log())
        tensor([[0.0200, 1.6200]])
    """
    probs = log_probs.exp()
    return probs.square().sum(1, keepdim=True) - 2 * probs + 1


BASES: dict[BaseLoss, ClassLosses] = {"ce": cross_entropy_of_classes, "square": square_loss_of_classes}


def forward_correction(
    logits: Tensor,
    target: Tensor,
    T: Tensor,
    *,
    base: BaseLoss | ClassLosses = "ce",
    eps: float = 0.0,
    validate: bool = True,
) -> Tensor:
    r"""Return each sample's base loss on its observed label, by the predicted probabilities of observed labels.

    .. math::
        \ell^{\to}_i = \ell(y_i, T^\top p_i)

    On noisy labels, this loss has the same minimizer as the base loss has on clean labels (theorem 2). It is from
    section 4.2, eqs. 3 to 5 of `Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach
    <https://arxiv.org/abs/1609.03683>`_. It is computed in log space, so it stays finite where :math:`p` underflows.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` observed labels.
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        base: ``"ce"`` (cross-entropy), ``"square"`` (square loss), or a function from log-probabilities ``(B, C)`` to
            the loss of each label that a sample could have ``(B, C)``.
        eps: clip the probabilities :math:`p` to ``[eps, 1 - eps]``, where the gradient is then 0; the authors' public
            code has 1e-7.
        validate: whether to check ``T``, which takes longer than the loss.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``base`` is unknown. With ``validate`` also: ``T`` is no transition matrix of ``C`` classes, or some
            label is never observed according to ``T``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import forward_correction, transition_matrix
        >>> T = transition_matrix("pairflip", 2, rate=0.4)
        >>> logits = torch.tensor([[0.9, 0.1]]).log()
        >>> forward_correction(logits, torch.tensor([1]), T)  # -log(0.9 * 0.4 + 0.1 * 0.6)
        tensor([0.8675])
    """
    if validate:
        check_transition_matrix(T, logits.shape[1])
        _check_all_labels_are_observed(T)
    log_p = _clipped(_log_probs(logits), eps)
    if base == "ce":  # needs one column of T for each sample, not all
        log_columns = T.to(log_p).log().T[target]
        return -torch.logsumexp(log_columns + log_p, 1)
    losses = class_losses(base, observed_log_probs(log_p, T))
    return losses.gather(1, target.unsqueeze(1)).squeeze(1)


def observed_log_probs(logits: Tensor, T: Tensor) -> Tensor:
    r"""Return the log-probabilities of observed labels that follow from those of true labels.

    .. math::
        \log T^\top p_i

    Args:
        logits: ``(B, C)`` of true labels.
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.

    Returns:
        ``(B, C)``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import observed_log_probs, transition_matrix
        >>> T = transition_matrix("pairflip", 2, rate=0.4)
        >>> observed_log_probs(torch.tensor([[0.9, 0.1]]).log(), T).exp()
        tensor([[0.5800, 0.4200]])
    """
    log_p = _log_probs(logits)
    return torch.logsumexp(T.to(log_p).log() + log_p.unsqueeze(2), 1)


def backward_correction(
    logits: Tensor, target: Tensor, T: Tensor, *, mix: float = 0.0, base: BaseLoss | ClassLosses = "ce"
) -> Tensor:
    r"""Return the unbiased estimate of each sample's clean loss.

    .. math::
        \ell^{\leftarrow}_i = \left(T^{-1} \ell(p_i)\right)_{y_i}

    where :math:`\ell(p)` holds the base loss of each label that the sample could have. Its mean over the noise is the
    base loss of the true label (theorem 1): section 4.1 of `Making Deep Neural Networks Robust to Label Noise: a Loss
    Correction Approach <https://arxiv.org/abs/1609.03683>`_. A single value may be negative, and has no lower bound.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` observed labels.
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        mix: fraction of the identity that is mixed into ``T`` before the inversion, in ``[0, 1)``. A larger one gives
            less variance and more bias.
        base: as for :func:`forward_correction`.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``T`` is no transition matrix of ``C`` classes or cannot be inverted, or ``mix`` is out of range, or
            ``base`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import backward_correction, transition_matrix
        >>> T = transition_matrix("pairflip", 2, rate=0.4)
        >>> logits = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log()
        >>> losses = backward_correction(logits, torch.tensor([0, 1]), T)
        >>> losses
        tensor([-4.2891,  6.6970])
        >>> 0.6 * losses[0] + 0.4 * losses[1]  # the expected loss of the true label 0 is -log(0.9)
        tensor(0.1054)
    """
    check_transition_matrix(T, logits.shape[1])
    return linear_correction(logits, target, invert_transition_matrix(T, mix=mix), base=base)


def linear_correction(
    logits: Tensor, target: Tensor, weights: Tensor, *, base: BaseLoss | ClassLosses = "ce", eps: float = 0.0
) -> Tensor:
    r"""Return for each sample a weighted sum of the losses of all labels that it could have.

    .. math::
        \ell_i = \sum_k W_{y_i k} \, \ell_{ik}

    where the observed label :math:`y_i` selects the row of weights.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` observed labels.
        weights: ``(C, C)``, a row for each observed label. The inverse of ``T`` gives :func:`backward_correction`.
        base: as for :func:`forward_correction`.
        eps: clip probabilities to ``[eps, 1 - eps]``. Beyond these the loss is constant, because with negative weights
            it would have no lower bound.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``base`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import linear_correction
        >>> logits = torch.tensor([[0.9, 0.1]]).log()
        >>> weights = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
        >>> linear_correction(logits, torch.tensor([1]), weights)  # log(0.9) - 2 log(0.1)
        tensor([4.4998])
    """
    losses = class_losses(base, _clipped(_log_probs(logits), eps))
    return (weights.to(losses)[target] * losses).sum(1)


def class_losses(base: BaseLoss | ClassLosses, log_probs: Tensor) -> Tensor:
    """Return the base loss of each label that a sample could have.

    Args:
        base: as for :func:`forward_correction`.
        log_probs: ``(B, C)`` log-probabilities.

    Returns:
        ``(B, C)``.

    Raises:
        ValueError: ``base`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.losses.correction import class_losses
        >>> class_losses("ce", torch.tensor([[0.9, 0.1]]).log())
        tensor([[0.1054, 2.3026]])
    """
    if isinstance(base, str):
        check_choice("base", base, BaseLoss)
        base = BASES[base]
    return base(log_probs)


def _log_probs(logits: Tensor) -> Tensor:
    return F.log_softmax(at_least_float32(logits), 1)


def _clipped(log_probs: Tensor, eps: float) -> Tensor:
    """Return log-probabilities of probabilities in ``[eps, 1 - eps]``."""
    return log_probs.clamp(math.log(eps), math.log1p(-eps)) if eps else log_probs


def _check_all_labels_are_observed(T: Tensor) -> None:
    """Check that each label can be observed, because the loss of one that cannot is infinite."""
    never_observed = (~(T > 0).any(0)).nonzero().flatten().tolist()
    if never_observed:
        labels = ", ".join(map(str, never_observed))
        raise ValueError(f"T says that label {labels} is never observed, so its loss would be infinite; correct T")
