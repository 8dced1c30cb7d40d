"""A classification dataset from samples and labels as a user has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array, Arrays, mean_and_std
from noisylabels_pl.data.labels import (
    as_label_vector,
    check_one_type,
    check_test_classes,
    class_names_of,
    encode_labels,
)
from noisylabels_pl.data.samples import Samples, take
from noisylabels_pl.data.split import split_off_test


@dataclass(frozen=True)
class OwnSamples:
    """Samples with their labels and names, as they are read from a user's files.

    Attributes:
        x: ``(n, ...)`` samples.
        labels: labels of any layout that :func:`~noisylabels_pl.data.labels.as_label_vector` takes.
        ids: what each sample is called, such as a path or a row.
        clean_labels: the true labels, in the same layout; ``None`` if they are unknown.
        is_val: ``(n,)`` whether a sample is held out for validation; ``None`` if the user does not say.
    """

    x: Samples
    labels: Array
    ids: Sequence[str]
    clean_labels: Array | None = None
    is_val: Array | None = None

    def rows(self, indices: Tensor) -> OwnSamples:
        """Return some of the samples."""
        chosen = indices.numpy()
        clean = None if self.clean_labels is None else self.clean_labels[chosen]
        is_val = None if self.is_val is None else self.is_val[chosen]
        ids = [self.ids[row] for row in chosen]
        return OwnSamples(take(self.x, indices), self.labels[chosen], ids, clean, is_val)


def classification_arrays(
    train: OwnSamples,
    test: OwnSamples | None,
    *,
    origin: str,
    label_name: str = "label",
    test_fraction: float = 0.2,
    split_seed: int = 0,
    class_names: Sequence[str] | None = None,
    asymmetric_map: dict[str, str] | None = None,
    standardize: bool = True,
    warnings: Sequence[str] = (),
) -> Arrays:
    """Return a classification dataset of a user's samples.

    Args:
        train: the training samples, with the labels that training sees.
        test: the test samples. Where true labels are known, the test uses these. ``None`` to split some off ``train``.
        origin: see :class:`~noisylabels_pl.data.arrays.Arrays`.
        label_name: what the user calls the labels, for the messages.
        test_fraction: the fraction of ``train`` to split off, stratified by label; not used with ``test``.
        split_seed: of this split. Runs with other seeds share the test set.
        class_names: the classes in the order of their numbers; ``None`` for the sorted labels of the training set;
            only named classes may be absent from it.
        asymmetric_map: see :class:`~noisylabels_pl.data.arrays.Arrays`.
        standardize: False for samples that are normalized already, so that none is read to measure their mean.
        warnings: what the user should know already.

    Raises:
        ValueError: a label is wrong, or a set is empty, or the sets have labels of different types; the message names
            the sample.

    Example:
        >>> samples = OwnSamples(torch.rand(4, 2), np.array(["cat", "dog", "cat", "dog"]), ["a", "b", "c", "d"])
        >>> arrays = classification_arrays(samples, None, origin="example", test_fraction=0.5)
        >>> arrays.class_names, len(arrays.x_train), len(arrays.x_test)
        (('cat', 'dog'), 2, 2)
    """
    notes = list(warnings)
    train = _with_label_vectors(train, label_name, notes)
    if test is not None:
        test = _with_label_vectors(test, label_name, notes)
    for name, samples in (("training", train), ("test", test)):
        if samples is not None and not len(samples.labels):
            raise ValueError(f"{origin} has no {name} sample")
    class_names = _class_names(train, test, label_name, class_names)
    if test is None:
        codes = encode_labels(label_name, train.labels, class_names, train.ids)
        train_rows, test_rows = split_off_test(codes, test_fraction, split_seed)
        train, test = train.rows(train_rows), train.rows(test_rows)
    y_train_clean = None
    if train.clean_labels is not None:
        y_train_clean = encode_labels(f"clean {label_name}", train.clean_labels, class_names, train.ids)
    val_indices = None
    if train.is_val is not None and train.is_val.any():
        val_indices = torch.from_numpy(np.flatnonzero(train.is_val))
    true_labels = test.labels if test.clean_labels is None else test.clean_labels
    mean, std = torch.zeros(()), torch.ones(())
    if standardize and train.x.dtype != torch.int64:  # words of texts have no mean
        mean, std = mean_and_std(train.x)
    return Arrays(
        x_train=train.x,
        y_train=encode_labels(label_name, train.labels, class_names, train.ids),
        x_test=test.x,
        y_test=encode_labels(label_name, true_labels, class_names, test.ids),
        class_names=class_names,
        mean=mean,
        std=std,
        origin=origin,
        asymmetric_map=dict(asymmetric_map or {}),
        y_train_clean=y_train_clean,
        train_ids=train.ids,
        test_ids=test.ids,
        val_indices=val_indices,
        warnings=tuple(notes),
    )


def _class_names(
    train: OwnSamples, test: OwnSamples | None, label_name: str, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of all classes, once the labels of both sets are checked to go together."""
    train_labels = _all_labels(train)
    test_labels = [] if test is None else _all_labels(test)
    check_one_type(label_name, [*train_labels, *test_labels])
    if test is not None and class_names is None:
        for labels in test_labels:
            check_test_classes(label_name, labels, train_labels, test.ids)
    return class_names_of(label_name, np.concatenate([*train_labels, *test_labels]), class_names)


def _with_label_vectors(samples: OwnSamples, label_name: str, notes: list[str]) -> OwnSamples:
    """Return the samples with vectors of labels; append what the user should know to ``notes``."""
    labels, note = as_label_vector(label_name, samples.labels, samples.ids)
    if note is not None and note not in notes:
        notes.append(note)
    clean = samples.clean_labels
    if clean is not None:
        clean, _ = as_label_vector(f"clean {label_name}", clean, samples.ids)
    return replace(samples, labels=labels, clean_labels=clean)


def _all_labels(samples: OwnSamples) -> list[Array]:
    return [labels for labels in (samples.labels, samples.clean_labels) if labels is not None]
