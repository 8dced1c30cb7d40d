"""Samples and labels of a ``torch.utils.data.Dataset``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.samples import StoredSamples

Key = int | str


class DatasetSamples(StoredSamples):
    """The samples of a dataset, read through its own transforms whenever a batch needs them.

    Args:
        dataset: with a length, whose items hold a sample and its label.
        name: what the user calls the dataset, for the messages.
        x_key: the position or key of the sample in an item.

    Raises:
        ValueError: a sample is no tensor of features, of an image or of words, or has another shape than the first.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> samples = DatasetSamples(TensorDataset(torch.zeros(9, 3), torch.zeros(9)), "train", x_key=0)
        >>> samples.shape, samples[torch.tensor([2, 5])].shape
        (torch.Size([9, 3]), torch.Size([2, 3]))
    """

    is_fixed = False  # transforms may be random

    def __init__(self, dataset: Dataset[Any], name: str, x_key: Key) -> None:
        self.dataset = dataset
        self.name = name
        self.x_key = x_key
        num_samples = num_samples_of(dataset, name)
        first = self._read(0)
        if first.ndim not in (1, 3):
            raise ValueError(
                f"{name}[0] has shape {tuple(first.shape)}; a sample is a vector (d,) or an image (C, H, W); for gray "
                "images, add a channel in the transform"
            )
        super().__init__((num_samples, *first.shape), first.dtype)

    def __getitem__(self, indices: Tensor) -> Tensor:
        samples = torch.empty((len(indices), *self.shape[1:]), dtype=self.dtype)
        for row, position in enumerate(indices.tolist()):
            sample = self._read(position)
            if sample.shape != self.shape[1:]:
                raise ValueError(
                    f"{self.name}[{position}] has shape {tuple(sample.shape)}, {self.name}[0] {tuple(self.shape[1:])}; "
                    "all samples need one shape; add torchvision.transforms.Resize([HEIGHT, WIDTH]) to the transform"
                )
            samples[row] = sample
        return samples

    def update_digest(self, hasher: Any) -> None:
        hasher.update(f"{type(self.dataset).__qualname__} {tuple(self.shape)}".encode())

    def _read(self, position: int) -> Tensor:
        """Return a sample; whole numbers other than bytes are words of texts, int64."""
        sample = pick(self.dataset[position], self.x_key, f"{self.name}[{position}]")
        if isinstance(sample, np.ndarray):
            sample = torch.from_numpy(sample)
        if not isinstance(sample, Tensor):
            remedy = "give the dataset a transform that makes one"
            if hasattr(sample, "convert"):  # an image of Pillow
                remedy = "give the dataset transform: {_target_: torchvision.transforms.ToTensor}"
            raise ValueError(f"{self.name}[{position}] is a {type(sample).__name__}, not a tensor; {remedy}")
        if sample.is_floating_point() or sample.dtype == torch.uint8:
            return sample
        return sample.long()


def num_samples_of(dataset: Dataset[Any], name: str) -> int:
    """Return the number of samples of a dataset that has some and knows how many.

    Example:
        >>> num_samples_of(torch.utils.data.TensorDataset(torch.zeros(9, 3)), "train")
        9
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"{name} must be a dataset with a length and items, got {type(dataset).__name__}; methods that choose "
            "samples need to know all of them, which a stream does not tell"
        )
    if not len(dataset):
        raise ValueError(f"{name} is empty")
    return len(dataset)


def pick(item: Any, key: Key, name: str) -> Any:
    """Return a part of an item of a dataset.

    Args:
        item: a tuple such as ``(x, y)``, or a dictionary.
        key: the position or the key of the part.
        name: of the item, for the message.

    Raises:
        ValueError: the item has no such part.

    Example:
        >>> pick({"image": 3, "label": 1}, "label", "train[0]")
        1
    """
    try:
        return item[key]
    except (KeyError, IndexError, TypeError) as error:
        has = f"keys {', '.join(map(str, item))}" if isinstance(item, dict) else f"type {type(item).__name__}"
        raise ValueError(f"{name} has no part {key!r}, it has {has}; set x_key and y_key") from error


def read_labels(dataset: Dataset[Any], name: str, y_key: Key) -> tuple[Array, str | None]:
    """Return the labels that the items of a dataset have.

    Datasets of torchvision and a ``TensorDataset``, also within ``Subset`` and ``ConcatDataset``, have them apart. Of
    all others, each sample is read once.

    Args:
        dataset: see :class:`DatasetSamples`.
        name: what the user calls the dataset, for the messages.
        y_key: the position or key of the label in an item.

    Returns:
        The labels, and what the user should know of them, if anything.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> read_labels(TensorDataset(torch.zeros(2, 3), torch.tensor([1, 0])), "train", 1)
        (array([1, 0]), None)
    """
    num_samples = num_samples_of(dataset, name)

    def label_at(position: int) -> Any:
        return _plain(pick(dataset[position], y_key, f"{name}[{position}]"))

    stored = _stored_labels(dataset, y_key)
    if stored is not None:
        # Some datasets of torchvision call something else targets, or have transforms of samples and labels together.
        probes = sorted({0, num_samples // 2, num_samples - 1})
        if all(np.array_equal(_plain(stored[position]), label_at(position)) for position in probes):
            return stored, None
    labels = np.array([label_at(position) for position in range(num_samples)])
    return labels, f"all {num_samples} samples of {name} were read once for their labels"


def check_disjoint(train: Any, test: Any) -> None:
    """Raise a ``ValueError`` if the training and the test set are parts of one dataset and share samples.

    Example:
        >>> whole = list(range(9))
        >>> check_disjoint(Subset(whole, [0, 1, 2]), Subset(whole, [2, 3]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: test has 1 sample that train has, too (number 2 of its list); split the dataset only once, ...
    """
    train_parts = _parts_of(train, np.arange(len(train)))
    for base, positions in _parts_of(test, np.arange(len(test))):
        for train_base, train_positions in train_parts:
            if base is not train_base:
                continue
            common = np.intersect1d(positions, train_positions)
            if len(common):
                samples = "1 sample" if len(common) == 1 else f"{len(common)} samples"
                raise ValueError(
                    f"test has {samples} that train has, too (number {common[0]} of its {type(base).__name__}); split "
                    "the dataset only once, or with a generator of a fixed seed"
                )


def _parts_of(dataset: Any, positions: Array) -> list[tuple[Any, Array]]:
    """Return the datasets that samples of a ``Subset`` or ``ConcatDataset`` come from, and their positions there."""
    if isinstance(dataset, Subset):
        return _parts_of(dataset.dataset, np.asarray(dataset.indices)[positions])
    if isinstance(dataset, ConcatDataset):
        parts = []
        start = 0
        for part, end in zip(dataset.datasets, dataset.cumulative_sizes, strict=True):
            parts += _parts_of(part, positions[(positions >= start) & (positions < end)] - start)
            start = end
        return parts
    return [(dataset, positions)]


def _stored_labels(dataset: Any, y_key: Key) -> Array | None:
    """Return the labels that a dataset keeps apart, if its type is known to return the same in its items.

    A class of the user's may keep clean labels in ``targets`` and return noisy ones.
    """
    if type(dataset) is Subset:
        labels = _stored_labels(dataset.dataset, y_key)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    if type(dataset) is ConcatDataset:
        parts = [_stored_labels(part, y_key) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None
    if type(dataset) is TensorDataset and y_key in range(len(dataset.tensors)):
        return dataset.tensors[int(y_key)].numpy()
    is_torchvisions = type(dataset).__module__.startswith("torchvision.datasets.")
    if not is_torchvisions or y_key != 1 or getattr(dataset, "target_transform", None) is not None:
        return None
    for attribute in ("targets", "labels"):
        stored = getattr(dataset, attribute, None)
        if stored is not None and len(stored) == len(dataset):
            return np.asarray(stored)
    return None


def _plain(value: Any) -> Any:
    """Return a label as a number, text, or a list of numbers."""
    return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value
