"""Convex combinations of samples."""

from __future__ import annotations

from torch import Tensor


def mix(a: Tensor, b: Tensor, lam: Tensor) -> Tensor:
    r"""Return convex combinations of two batches, with one coefficient for each sample.

    .. math::
        \tilde{x}_i = \lambda_i a_i + (1 - \lambda_i) b_i

    This is eq. 11 of "Coresets for Robust Training of Neural Networks against Noisy Labels" (CRUST,
    https://arxiv.org/abs/2011.07451), and mixup (https://arxiv.org/abs/1710.09412). Mixed targets need no soft labels:
    cross-entropy is linear in the target, so the loss of a mixed target is
    ``mix(criterion(z, y_a), criterion(z, y_b), lam)``.

    Args:
        a: ``(B, ...)`` floating point.
        b: like ``a``.
        lam: ``(B,)`` in ``[0, 1]``.

    Returns:
        ``(B, ...)``, a tensor of the type of ``a``.

    Raises:
        TypeError: ``a`` is not floating point.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import mix
        >>> a, b = torch.zeros(2, 3), torch.ones(2, 3)
        >>> mix(a, b, torch.tensor([0.25, 1.0]))
        tensor([[0.7500, 0.7500, 0.7500],
                [0.0000, 0.0000, 0.0000]])
    """
    if not a.is_floating_point():
        raise TypeError(f"only floating point can be mixed, got {a.dtype}; convert with .float() in the dataset")
    singletons = (1,) * (a.ndim - 1)
    lam = lam.to(a.dtype).view(-1, *singletons)
    return lam * a + (1 - lam) * b
