"""Transition matrices ``T[i, j] = P(observed = j | true = i)``: make, check, count, estimate, invert, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice, check_range
from noisylabels_pl.functional.precision import at_least_float32

NoiseKind = Literal["none", "sym", "sym_inclusive", "pairflip", "asym", "binary"]
_BINARY_RATE = 0.05  # that class 0 becomes class 1 in "binary"


def transition_matrix(
    kind: NoiseKind, num_classes: int, rate: float, *, mapping: Mapping[int, int] | None = None
) -> Tensor:
    r"""Return the transition matrix of a named kind of noise.

    With the rate :math:`r` and :math:`C` classes, the diagonal and the other entries are

    ====================  ====================  ====================================
    kind                  :math:`T_{ii}`        :math:`T_{ij}, i \neq j`
    ====================  ====================  ====================================
    ``"none"``            1                     0
    ``"sym"``             :math:`1 - r`         :math:`r / (C - 1)`
    ``"sym_inclusive"``   :math:`1 - r + r/C`   :math:`r / C`
    ``"pairflip"``        :math:`1 - r`         :math:`r` for :math:`j = i + 1 \bmod C`
    ``"asym"``            :math:`1 - r`         :math:`r` for ``j = mapping[i]``
    ``"binary"``          0.95, :math:`1 - r`   0.05, :math:`r`
    ====================  ====================  ====================================

    The papers mean different things by "symmetric". ``"sym"`` draws one of the *other* classes (`CRUST
    <https://arxiv.org/abs/2011.07451>`_, `loss correction <https://arxiv.org/abs/1609.03683>`_, `Co-teaching
    <https://arxiv.org/abs/1804.06872>`_, PRL). ``"sym_inclusive"`` draws any class, the true one too (`ELR
    <https://arxiv.org/abs/2007.00151>`_, `DivideMix <https://arxiv.org/abs/2002.07394>`_), so that only
    :math:`r (C - 1) / C` of the labels are wrong. ``"binary"`` is the noise of two classes in the experiments of loss
    correction on IMDB: class 0 becomes class 1 with the fixed probability 0.05, and class 1 becomes class 0 with ``r``.

    Args:
        kind: a kind of the table.
        num_classes: ``C >= 2``.
        rate: probability in ``[0, 1]``.
        mapping: for ``"asym"`` only, ``{true class: observed class}``; classes that it does not name stay clean.

    Returns:
        ``(C, C)`` float64, rows summing to 1.

    Raises:
        ValueError: ``kind`` is unknown, ``rate`` is out of range, there are fewer than 2 classes or, for ``"binary"``,
            more, or ``mapping`` is missing for ``"asym"``, given for another kind, or names a class that does not
            exist.

    Example:
        >>> from noisylabels_pl.functional import transition_matrix
        >>> transition_matrix("sym", 3, rate=0.5)
        tensor([[0.5000, 0.2500, 0.2500],
                [0.2500, 0.5000, 0.2500],
                [0.2500, 0.2500, 0.5000]], dtype=torch.float64)
        >>> transition_matrix("asym", 3, rate=0.5, mapping={0: 2})
        tensor([[0.5000, 0.0000, 0.5000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    check_choice("kind", kind, NoiseKind)
    check_range("num_classes", num_classes, "[2, inf)")
    check_range("rate", rate, "[0, 1]")
    if (mapping is not None) != (kind == "asym"):
        raise ValueError(f"mapping goes with kind='asym' and only with it, got kind={kind!r} and mapping={mapping}")
    identity = torch.eye(num_classes, dtype=torch.float64)
    if kind == "sym":
        return (1 - rate) * identity + rate / (num_classes - 1) * (1 - identity)
    if kind == "sym_inclusive":
        return (1 - rate) * identity + rate / num_classes
    if kind == "pairflip":
        return (1 - rate) * identity + rate * identity.roll(1, dims=1)
    if kind == "binary":
        check_range("num_classes", num_classes, "[2, 2]", hint="kind='binary' is for two classes")
        return torch.tensor([[1 - _BINARY_RATE, _BINARY_RATE], [rate, 1 - rate]], dtype=torch.float64)
    if mapping is not None:
        return _mapped_matrix(identity, rate, mapping)
    return identity


def _mapped_matrix(identity: Tensor, rate: float, mapping: Mapping[int, int]) -> Tensor:
    """Return the matrix of noise that turns each class that a mapping names into another one."""
    T = identity.clone()
    for true_class, observed_class in mapping.items():
        for label in (true_class, observed_class):
            if not 0 <= label < len(identity):
                raise ValueError(f"mapping names class {label}, but the classes are 0..{len(identity) - 1}")
        T[true_class] = (1 - rate) * identity[true_class] + rate * identity[observed_class]
    return T


def check_transition_matrix(T: Tensor, num_classes: int) -> Tensor:
    """Check that a matrix is a transition matrix, and return it in float64.

    Args:
        T: ``(C, C)``, ``T[i, j] = P(observed = j | true = i)``.
        num_classes: ``C``.

    Returns:
        ``(C, C)`` float64.

    Raises:
        ValueError: the shape is not ``(C, C)``, or a row is not finite, has a negative entry, or does not sum to 1.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import check_transition_matrix
        >>> check_transition_matrix(torch.tensor([[1.0, 0.0], [0.3, 0.3]]), 2)
        Traceback (most recent call last):
        ...
        ValueError: T[1] must sum to 1, got 0.6; divide the row by its sum
    """
    T = T.to(torch.float64)
    if T.shape != (num_classes, num_classes):
        raise ValueError(
            f"T must be square with one row per class, ({num_classes}, {num_classes}), got {tuple(T.shape)}"
        )
    for row, values in enumerate(T):
        if not torch.isfinite(values).all() or values.min() < 0:
            raise ValueError(f"T[{row}] must be finite and not negative, got {values.tolist()}")
        total = float(values.sum())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"T[{row}] must sum to 1, got {total:.6g}; divide the row by its sum")
    return T


def empirical_transition_matrix(clean: Tensor, observed: Tensor, num_classes: int) -> Tensor:
    r"""Return the realized transition matrix: the distribution of the observed labels of each true class.

    .. math::
        T_{ij} = \frac{|\{s : y_s = i, \tilde{y}_s = j\}|}{|\{s : y_s = i\}|}

    Args:
        clean: ``(n,)`` int64 true classes.
        observed: ``(n,)`` int64 observed classes.
        num_classes: ``C``.

    Returns:
        ``(C, C)`` float64; the row of a class without samples is that of the identity.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import empirical_transition_matrix
        >>> empirical_transition_matrix(torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1]), 2)
        tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]], dtype=torch.float64)
    """
    pairs = clean * num_classes + observed
    counts = torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes).to(torch.float64)
    class_sizes = counts.sum(1, keepdim=True)
    identity = torch.eye(num_classes, dtype=torch.float64)
    return torch.where(class_sizes > 0, counts / class_sizes.clamp(min=1), identity)


def invert_transition_matrix(T: Tensor, *, mix: float = 0.0) -> Tensor:
    r"""Return the inverse of a transition matrix, with the identity mixed into the matrix first.

    .. math::
        \left((1 - m) T + m I\right)^{-1}

    The mixing is suggested in section 4.1 of `Making Deep Neural Networks Robust to Label Noise: a Loss Correction
    Approach <https://arxiv.org/abs/1609.03683>`_ for matrices that are hard to invert.

    Args:
        T: ``(C, C)`` transition matrix.
        mix: the fraction ``m`` of the identity in ``[0, 1)``.

    Returns:
        ``(C, C)`` float64.

    Raises:
        ValueError: the matrix is singular to working precision, or ``mix`` is out of range.

    Example:
        >>> from noisylabels_pl.functional import invert_transition_matrix, transition_matrix
        >>> invert_transition_matrix(transition_matrix("sym", 2, rate=0.3))
        tensor([[ 1.7500, -0.7500],
                [-0.7500,  1.7500]], dtype=torch.float64)
    """
    check_range("mix", mix, "[0, 1)")
    T = T.double()
    mixed = (1 - mix) * T + mix * torch.eye(len(T), dtype=T.dtype, device=T.device)
    condition = float(torch.linalg.cond(mixed))
    if not condition < 1e12:
        raise ValueError(f"T cannot be inverted (condition number {condition:.1e}); mix the identity in, as by mix=0.1")
    inverse: Tensor = torch.linalg.inv(mixed)
    return inverse


def estimate_transition_matrix(
    probs: Tensor, *, quantile: float | Literal["auto"] = "auto", strictly_below: bool = False
) -> Tensor:
    r"""Return the transition matrix that the predictions of a network trained on noisy labels imply.

    .. math::
        \bar{x}^i = \operatorname{argmax}_x \hat{p}(\tilde{y} = i \mid x), \quad
        \hat{T}_{ij} = \hat{p}(\tilde{y} = j \mid \bar{x}^i)

    These are eqs. 12 and 13 of `Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach
    <https://arxiv.org/abs/1609.03683>`_. The sample :math:`\bar{x}^i` represents the true class :math:`i`. In place of
    the largest probability, which may belong to an outlier, the paper's experiments take a quantile. It is always the
    probability of a sample, never an interpolation between two. Rows are normalized.

    Args:
        probs: ``(n, C)`` predicted probabilities of observed labels; true labels are not needed.
        quantile: in ``(0, 1]``. 1 takes the largest probability, and 0.97 is the paper's choice for up to ten classes.
            ``"auto"`` is ``1 - 0.3 * prior`` for each class, with the mean predicted probability as its prior. For
            ten equal classes this is 0.97. For a hundred it is 0.997, because there the top 3 % of the samples would
            be more than one class has.
        strictly_below: take the largest probability that is smaller than the quantile, as the authors' public code
            does, instead of the quantile itself.

    Returns:
        ``(C, C)``, at least float32.

    Raises:
        ValueError: ``probs`` is not a matrix of probabilities, or ``quantile`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import estimate_transition_matrix
        >>> probs = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
        >>> estimate_transition_matrix(probs, quantile=1.0)
        tensor([[0.8000, 0.2000],
                [0.3000, 0.7000]])
    """
    if probs.ndim != 2 or not len(probs):
        raise ValueError(f"probs must have shape (samples, classes), got {tuple(probs.shape)}")
    probs = at_least_float32(probs)
    if not bool((probs >= 0).all()) or not torch.allclose(probs.sum(1), probs.new_ones(()), atol=1e-2):
        raise ValueError("probs must be probabilities that sum to 1 in each row; take the softmax of logits")
    quantiles = _class_quantiles(probs, quantile)
    # A quantile q is the probability of rank ceil(q (n - 1)), counted from the smallest. Subtracting 1e-9 keeps the
    # rounding error of the product from raising the rank. The sort is stable, so that ties go to the same sample on
    # every device.
    ranks = (quantiles * (len(probs) - 1) - 1e-9).ceil().long().clamp(min=0)
    ascending = probs.argsort(dim=0, stable=True)
    representatives = ascending.gather(0, ranks.unsqueeze(0)).squeeze(0)
    if strictly_below:
        thresholds = probs.gather(0, representatives.unsqueeze(0))
        representatives = torch.where(probs < thresholds, probs, 0).argmax(0)
    estimate = probs[representatives]
    return estimate / estimate.sum(1, keepdim=True)


def _class_quantiles(probs: Tensor, quantile: float | Literal["auto"]) -> Tensor:
    """Return the quantile of each class, ``(C,)`` float64."""
    if isinstance(quantile, str):
        check_choice("quantile", quantile, Literal["auto"])
        return 1 - 0.3 * probs.double().mean(0)
    check_range("quantile", quantile, "(0, 1]", hint="'auto' follows the class sizes")
    return probs.new_full((probs.shape[1],), quantile, dtype=torch.float64)


def transition_error(estimate: Tensor, T: Tensor) -> float:
    r"""Return the total variation between the rows of two transition matrices, averaged over the rows.

    .. math::
        \frac{1}{2C} \sum_{ij} |\hat{T}_{ij} - T_{ij}|

    Args:
        estimate: ``(C, C)``.
        T: ``(C, C)``.

    Returns:
        A number in ``[0, 1]``, 0 for equal matrices.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import transition_error, transition_matrix
        >>> transition_error(torch.eye(2), transition_matrix("pairflip", 2, rate=0.25))
        0.25
    """
    difference = (estimate.double() - T.double()).abs()
    return float(difference.sum(1).mean() / 2)
