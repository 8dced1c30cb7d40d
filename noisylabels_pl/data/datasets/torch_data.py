"""Any dataset of torch, or any data module of Lightning, with its own transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.dataset_samples import DatasetSamples, Key, check_disjoint, num_samples_of, read_labels
from noisylabels_pl.data.own_data import OwnSamples, classification_arrays
from noisylabels_pl.functional import check_range


class TorchData(NoisyDataModule):
    """Serve a ``torch.utils.data.Dataset``, or the datasets of a ``LightningDataModule``.

    Samples are read through the dataset's own transforms, by the loaders of this class: ``batch_size`` and
    ``num_workers`` are those given here, and samplers and collate functions of a data module are not used. What a
    transform returns as real numbers is not normalized again; bytes are, see ``normalization``.

    Random transforms stay random. Then validation and the scoring passes of methods see augmented samples, too, because
    the validation split has the transforms of the training set. The crops and flips of this library
    (``crop_padding``, ``flip``) leave such passes alone.

    Args:
        train: the training set. An item is ``(x, y)``, or see ``x_key``; a stream without length is refused.
        test: the test set; ``None`` to split off a part of ``train``.
        datamodule: in place of both: its training set, and its test set, or its validation set if it has no test set.
            With a test set, its validation set is the validation split, whose labels count as noisy.
        x_key: the position or the key of the sample in an item.
        y_key: the same of the label.
        test_fraction: the fraction of ``train`` to split off, if there is no test set.
        split_seed: of that split; runs with other seeds share the test set.
        class_names: the classes in the order of their numbers; ``None`` for the attribute ``classes`` of ``train``, or
            the sorted labels.
        asymmetric_map: ``{class: class it is mistaken for}`` by name, for asymmetric noise.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        ValueError: in ``setup``, if a sample is no tensor, samples have different shapes, or the training and the test
            set are subsets of one dataset and share samples.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> data = TorchData(TensorDataset(torch.rand(100, 5), torch.arange(100) % 4), batch_size=20)
        >>> data.setup()
        >>> data.input_shape, data.arrays.num_outputs
        ((5,), 4)
    """

    def __init__(
        self,
        train: Dataset[Any] | None = None,
        test: Dataset[Any] | None = None,
        *,
        datamodule: L.LightningDataModule | None = None,
        x_key: Key = 0,
        y_key: Key = 1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        class_names: Sequence[str] | None = None,
        asymmetric_map: dict[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if (train is None) == (datamodule is None):
            raise ValueError("set either train, a dataset, or datamodule, a LightningDataModule")
        if datamodule is not None and test is not None:
            raise ValueError("test is set beside datamodule, which has a test set of its own; leave test out")
        check_range("test_fraction", test_fraction, "(0, 1)")
        check_range("split_seed", split_seed, "[0, inf)", integer=True)
        self.train_dataset = train
        self.test_dataset = test
        self.datamodule = datamodule
        self.x_key = x_key
        self.y_key = y_key
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.class_names = class_names
        self.asymmetric_map = asymmetric_map

    def load(self) -> Arrays:
        train, test, num_val = self.train_dataset, self.test_dataset, 0
        if self.datamodule is not None:
            train, test, num_val = _datasets_of(self.datamodule)
        notes: list[str] = []
        names = self._class_names(train)
        train_samples = self._samples(train, "train", names, notes)
        if num_val:
            is_val = np.arange(len(train_samples.ids)) >= len(train_samples.ids) - num_val
            train_samples = replace(train_samples, is_val=is_val)
        test_samples = None if test is None else self._samples(test, "test", names, notes)
        if test is not None:
            check_disjoint(train, test)
        if test_samples is not None and test_samples.x.shape[1:] != train_samples.x.shape[1:]:
            shapes = [tuple(samples.x.shape[1:]) for samples in (test_samples, train_samples)]
            raise ValueError(f"test has samples of shape {shapes[0]}, train of {shapes[1]}; they must be equal")
        source = train if self.datamodule is None else self.datamodule
        return classification_arrays(
            train_samples,
            test_samples,
            origin=f"dataset {type(source).__module__}.{type(source).__qualname__}",
            label_name="the label",
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            class_names=names,
            asymmetric_map=self.asymmetric_map,
            warnings=notes,
            standardize=train_samples.x.dtype == torch.uint8,  # real numbers are as the user's transforms leave them
        )

    def _class_names(self, train: Any) -> Sequence[str] | None:
        if self.class_names is not None:
            return self.class_names
        names = getattr(train, "classes", ())
        # ImageNet's classes are tuples of synonyms, and in some datasets two classes share a name.
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            return None
        return names if len(set(names)) == len(names) > 1 else None

    def _samples(self, dataset: Any, name: str, class_names: Sequence[str] | None, notes: list[str]) -> OwnSamples:
        samples = DatasetSamples(dataset, name, self.x_key)
        labels, note = read_labels(dataset, name, self.y_key)
        if note is not None:
            notes.append(note)
        if class_names is not None and labels.ndim == 1 and labels.dtype.kind in "ui":
            if labels.min() < 0 or labels.max() >= len(class_names):
                raise ValueError(
                    f"{name} has labels from {labels.min()} to {labels.max()}, but there are {len(class_names)} "
                    "class_names"
                )
            labels = np.asarray(class_names)[labels]
        return OwnSamples(samples, labels, [f"{name}[{position}]" for position in range(len(samples))])


def _datasets_of(datamodule: L.LightningDataModule) -> tuple[Dataset[Any], Dataset[Any], int]:
    """Return the training and the test set of a data module, and how many of the training set's end are validation."""
    datamodule.prepare_data()
    datamodule.setup("fit")
    train = _dataset_of(datamodule, "train_dataloader")
    val = _dataset_of(datamodule, "val_dataloader")
    test = _test_set_of(datamodule)
    name = type(datamodule).__name__
    if train is None:
        raise ValueError(f"datamodule: {name} has no train_dataloader")
    if test is not None and val is not None:
        return ConcatDataset([train, val]), test, num_samples_of(val, "val")
    evaluated = val if test is None else test
    if evaluated is None:
        raise ValueError(f"datamodule: {name} has neither test_dataloader nor val_dataloader; set train in its place")
    return train, evaluated, 0


def _test_set_of(datamodule: L.LightningDataModule) -> Dataset[Any] | None:
    """Return the test set that belongs to the training set, if ``setup("fit")`` has made it.

    A second ``setup`` may split at random once more, so that training samples would be test samples.
    """
    try:
        test = _dataset_of(datamodule, "test_dataloader")
    except Exception:  # whatever a user's loader raises while its dataset is missing
        test = None
    if test is not None:
        return test
    datamodule.setup("test")
    return _dataset_of(datamodule, "test_dataloader")


def _dataset_of(datamodule: L.LightningDataModule, hook: str) -> Dataset[Any] | None:
    """Return the dataset of a loader of a data module, or ``None`` if it does not make this loader."""
    method = getattr(datamodule, hook)
    if getattr(method, "__func__", None) is getattr(L.LightningDataModule, hook):
        return None
    loader = method()
    if not hasattr(loader, "dataset"):
        raise ValueError(
            f"datamodule: {hook} of {type(datamodule).__name__} returns a {type(loader).__name__}, not one DataLoader; "
            "set train and test in its place"
        )
    dataset: Dataset[Any] = loader.dataset
    return dataset
