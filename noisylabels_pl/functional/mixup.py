"""Convex combinations of samples."""

from __future__ import annotations

from torch import Tensor


def mix(a: Tensor, b: Tensor, lam: Tensor) -> Tensor:
    """``lam * a + (1 - lam) * b``, one coefficient a sample (CRUST, eq. 11).

    Mixed targets need no soft labels: cross-entropy is linear in the target, so the loss of a mixed target is
    ``mix(criterion(z, y_a), criterion(z, y_b), lam)``.

    Args:
        a: ``(B, ...)``.
        b: like ``a``.
        lam: ``(B,)`` in ``[0, 1]``.

    Raises:
        TypeError: ``a`` is not floating point.
    """
    if not a.is_floating_point():
        raise TypeError(f"only floating point can be mixed, got {a.dtype}; convert with .float() in the dataset")
    lam = lam.to(a.dtype).view(-1, *(1,) * (a.ndim - 1))
    return lam * a + (1 - lam) * b
