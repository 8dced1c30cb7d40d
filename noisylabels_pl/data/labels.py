"""Labels as people write them, as the numbers of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array

_MISSING = "is missing; fill it in, or remove the row"


def class_names_of(name: str, labels: Array, class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of all classes, in the order of their numbers.

    Args:
        name: what the labels are called, for the messages.
        labels: all labels, see :func:`as_label_vector`.
        class_names: the names in the order that the user wants; ``None`` for the sorted labels, numbers by their value.

    Raises:
        ValueError: there are fewer than two classes.

    Example:
        >>> class_names_of("label", np.array(["fox", "cat", "fox"]))
        ('cat', 'fox')
        >>> class_names_of("label", np.array([10, 2]))
        ('2', '10')
    """
    if class_names is None:
        class_names = [str(label) for label in np.unique(labels)]
    if len(class_names) < 2:
        raise ValueError(f"{name} has {len(class_names)} class ({', '.join(class_names)}); training needs at least 2")
    return tuple(class_names)


def encode_labels(name: str, labels: Array, class_names: Sequence[str], ids: Sequence[str] | None = None) -> Tensor:
    """Return labels as the numbers of their classes.

    Args:
        name: what the labels are called, for the messages.
        labels: ``(n,)`` text or whole numbers, see :func:`as_label_vector`.
        class_names: the name of each class.
        ids: what each sample is called, for the messages.

    Returns:
        ``(n,)`` int64.

    Raises:
        ValueError: a label is no class; the message names the sample.

    Example:
        >>> encode_labels("label", np.array(["fox", "cat"]), ["cat", "fox"])
        tensor([1, 0])
    """
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    values, inverse = np.unique(labels, return_inverse=True)
    codes = np.array([numbers.get(str(value), -1) for value in values], dtype=np.int64)[inverse]
    wrong = np.flatnonzero(codes < 0)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{name} of {_sample(row, ids)} is {labels[row]}, but the classes are {some_names(class_names)}"
        )
    return torch.from_numpy(codes)


def as_label_vector(name: str, labels: Array, ids: Sequence[str] | None = None) -> tuple[Array, str | None]:
    """Return labels of any common layout as a vector of text or whole numbers.

    Args:
        name: what the labels are called, for the messages.
        labels: ``(n,)`` or ``(n, 1)`` text, bytes of text in UTF-8, whole numbers, or floating-point
            numbers that are whole; or ``(n, C)`` one-hot rows.
        ids: what each sample is called, for the messages.

    Returns:
        ``(n,)`` text or int64, and what the user should know of the conversion, if anything.

    Raises:
        ValueError: a label is missing or no class, or rows are not one-hot; the message names the sample.

    Example:
        >>> as_label_vector("y", np.array([[1.0], [0.0]]))
        (array([1, 0]), None)
        >>> as_label_vector("y", np.array([[0, 1], [1, 0]]))
        (array([1, 0]), 'y has one-hot rows of 2 classes; the column of the 1 is the class')
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "buif":
        is_one_hot = ((labels == 0) | (labels == 1)).all(1) & (labels.sum(1) == 1)
        if not is_one_hot.all():
            row = int(np.flatnonzero(~is_one_hot)[0])
            raise ValueError(
                f"{name} of {_sample(row, ids)} is {labels[row][:5].tolist()}, which is not one-hot; give each sample "
                "one class"
            )
        note = f"{name} has one-hot rows of {labels.shape[1]} classes; the column of the 1 is the class"
        return labels.argmax(1), note
    if labels.ndim != 1:
        raise ValueError(f"{name} has shape {labels.shape}; it must hold one label for each sample: (n,)")
    if labels.dtype.kind in "OSU":
        missing = np.array([_is_missing(label) for label in labels], dtype=bool)
        _refuse(name, missing, labels, ids, _MISSING)
        return np.array([label.decode() if isinstance(label, bytes) else str(label) for label in labels]), None
    if labels.dtype.kind == "f":
        _refuse(name, np.isnan(labels), labels, ids, _MISSING)
        is_whole = np.isfinite(labels) & (labels == np.floor(labels))
        _refuse(
            name, ~is_whole, labels, ids, "is no class; real numbers are targets of regression: data=npz_regression"
        )
    return labels.astype(np.int64), None


def _is_missing(label: Any) -> bool:
    return label is None or label != label or (isinstance(label, (str, bytes)) and not label.strip())


def check_one_type(name: str, all_labels: Sequence[Array]) -> None:
    """Refuse text beside integers: compared as text, 01 is another class than 1.

    Args:
        name: what the labels are called, for the message.
        all_labels: those of the training and the test set, and the true ones, see :func:`as_label_vector`.

    Raises:
        ValueError: some are text, and some are integers.

    Example:
        >>> check_one_type("label", [np.array([0, 1]), np.array(["cat", "dog"])])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: label is an integer (0) in one place and text ('cat') in another, ...
    """
    texts = [labels for labels in all_labels if labels.dtype.kind == "U"]
    if 0 < len(texts) < len(all_labels):
        number = next(labels for labels in all_labels if labels.dtype.kind != "U")[0]
        raise ValueError(
            f"{name} is an integer ({number}) in one place and text ({str(texts[0][0])!r}) in another, of the training "
            "and the test set and their true labels; use one type"
        )


def check_test_classes(
    name: str, test_labels: Array, train_labels: Sequence[Array], ids: Sequence[str] | None = None
) -> None:
    """Refuse a class that no training sample has.

    Args:
        name: what the labels are called, for the message.
        test_labels: of the test set.
        train_labels: all labels of the training set, such as the given ones and the true ones.
        ids: what each test sample is called, for the message.

    Raises:
        ValueError: there is such a class; the message names the sample.

    Example:
        >>> check_test_classes("label", np.array(["cat"]), [np.array(["cat", "dog"])])
    """
    unknown = np.flatnonzero(~np.isin(test_labels, np.concatenate(train_labels)))
    if len(unknown):
        row = int(unknown[0])
        raise ValueError(
            f"{name} of test sample {_sample(row, ids)} is {test_labels[row]}, which no training sample has; name all "
            "classes in class_names, if training lacks some"
        )


def _refuse(name: str, wrong: Array, labels: Array, ids: Sequence[str] | None, message: str) -> None:
    """Raise a ``ValueError`` that names the first wrong label, if there is one."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = "" if message == _MISSING else f" ({labels[row]})"
        raise ValueError(f"{name} of {_sample(row, ids)}{value} {message}")


def _sample(row: int, ids: Sequence[str] | None) -> str:
    return f"row {row}" if ids is None else ids[row]


def some_names(names: Sequence[str]) -> str:
    """Return names in one line, of many only the first ones.

    Example:
        >>> some_names([str(number) for number in range(12)])
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    listed = ", ".join(names[:10])
    return listed if len(names) <= 10 else f"{listed} and {len(names) - 10} more"
