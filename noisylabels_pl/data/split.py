"""Random splits that keep the fractions of the classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.functional import check_range


def stratified_split(indices: Tensor, labels: Tensor, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Split indices at random into two parts with the same fractions of labels, up to rounding.

    Args:
        indices: ``(n,)`` int64.
        labels: ``(n,)`` the label of each index.
        size: the size of the first part, in ``0..n``.
        rng: the source of randomness.

    Returns:
        The first part, ``(size,)``, and the others, ``(n - size,)``, each in ascending order.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> first, others = stratified_split(torch.arange(6), labels, 3, np.random.default_rng(0))
        >>> labels[first], labels[others]
        (tensor([0, 0, 1]), tensor([0, 0, 1]))
    """
    shuffled = torch.from_numpy(rng.permutation(len(indices)))
    # Sort by label, in random order within each label (a stable sort keeps the shuffle), and take every (n / size)-th.
    by_label = shuffled[labels[shuffled].sort(stable=True).indices]
    taken = torch.zeros(len(indices), dtype=torch.bool)
    taken[by_label[torch.arange(size) * len(indices) // max(size, 1)]] = True
    return indices[taken], indices[~taken]


def split_off_validation(
    labels: Tensor, val_fraction: float, *, train_size: int | None, given: Tensor | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the rows of the training and of the validation split, stratified.

    Args:
        labels: ``(n,)`` the label of each sample.
        val_fraction: the fraction of the samples for validation.
        train_size: the number of samples to keep, for both splits; ``None`` for all.
        given: rows that the user has chosen for validation; ``None`` to draw them.
        seed: of the split.

    Returns:
        Rows of the training and of the validation split, each ascending.

    Example:
        >>> rows = split_off_validation(torch.zeros(10), 0.25, train_size=8, given=None, seed=0)
        >>> [len(split) for split in rows]
        [6, 2]
    """
    rng = np.random.default_rng([seed, 0])
    rows = torch.arange(len(labels))
    if given is not None:
        rows = rows[~torch.isin(rows, given)]
    if train_size is not None and train_size < len(rows):
        rows, _ = stratified_split(rows, labels[rows], train_size, rng)
    if given is not None:
        return rows, given
    val_rows, train_rows = stratified_split(rows, labels[rows], round(val_fraction * len(rows)), rng)
    return train_rows, val_rows


def split_off_test(labels: Tensor, test_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the rows of a training and a test set, stratified.

    Args:
        labels: ``(n,)`` the label of each sample.
        test_fraction: the fraction of the samples in the test set.
        seed: of the split.

    Returns:
        Rows of the training set and of the test set, each ascending.

    Raises:
        ValueError: a set would be empty.

    Example:
        >>> [len(rows) for rows in split_off_test(torch.zeros(10), 0.3, seed=0)]
        [7, 3]
    """
    check_range("test_fraction", test_fraction, "(0, 1)")
    size = round(test_fraction * len(labels))
    if not 0 < size < len(labels):
        raise ValueError(
            f"test_fraction={test_fraction} of {len(labels)} samples is {size} for the test and {len(labels) - size} "
            "for training; set another fraction"
        )
    everything = torch.arange(len(labels))
    test_rows, train_rows = stratified_split(everything, labels, size, np.random.default_rng([seed, 5]))
    return train_rows, test_rows
