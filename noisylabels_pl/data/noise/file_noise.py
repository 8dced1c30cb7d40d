"""Labels that a file has: of an earlier run, or published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.noise.base import Noise
from noisylabels_pl.data.noise.label_files import read_label_file
from noisylabels_pl.data.noisy_labels import NoisyLabels, check_same_dataset, check_stored
from noisylabels_pl.data.samples import Samples

_OBSERVED = "observed"  # in noise.npz


class FileNoise(Noise):
    """Read the observed labels from a file.

    Args:
        path: the ``noise.npz`` of an earlier run; or a ``.npz``, ``.npy``, ``.csv`` or ``.pt`` file of labels in the
            order of the training set (see :func:`~noisylabels_pl.data.noise.label_files.read_label_file`), such as
            ``CIFAR-10_human.pt`` and ``CIFAR-100_human.pt`` of `CIFAR-10N and CIFAR-100N
            <https://arxiv.org/abs/2110.12088>`_. Labels are numbers from 0, or names of classes.
        key: the name of the labels in the file: the key of an array, or the column of a CSV file. It may be left out
            where there is no choice.

    An array of the file whose name contains ``clean`` holds true labels. They must be those of the dataset. (For a
    ``key`` that contains ``coarse``, the name of the true labels contains it, too.)

    Raises:
        ValueError: ``path`` is empty.

    Example:
        >>> noise = FileNoise("CIFAR-10_human.pt", key="worse_label")
        >>> noise.apply(labels, class_names)  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, key: str | None = None) -> None:
        if not str(path):
            raise ValueError("path must be the path of a file of labels, such as the noise.npz of an earlier run")
        self.path = Path(path).expanduser()
        self.key = None if key is None else str(key)  # a column may be named by a number

    def apply(
        self,
        labels: Tensor,
        class_names: Sequence[str],
        *,
        clean: Tensor | None = None,
        asymmetric_map: Mapping[str, str] | None = None,
        superclasses: Sequence[int | str] | None = None,
        features: Samples | None = None,
        mean: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> NoisyLabels:
        reference = labels if clean is None else clean
        num_classes = None if labels.is_floating_point() else len(class_names)
        stored = read_label_file(self.path, "path")
        if self.key is None and _OBSERVED in stored and self.path.suffix == ".npz":
            noisy = NoisyLabels.load(self.path, reference=reference, num_classes=num_classes, features=features)
        else:
            noisy = self._published(stored, reference, class_names, num_classes)
        if noisy.clean is None:
            noisy = replace(noisy, clean=clean)
        return noisy

    def _published(
        self, stored: Mapping[str, Array], reference: Tensor, class_names: Sequence[str], num_classes: int | None
    ) -> NoisyLabels:
        """Return the labels of a file that is no ``noise.npz``."""
        key = choose_key(self.path, stored, self.key)
        observed = self._checked(key, stored, reference, class_names, num_classes)
        clean = None
        clean_key = choose_clean_key(stored, key)
        if clean_key is not None:
            clean = self._checked(clean_key, stored, reference, class_names, num_classes)
            check_same_dataset(self.path, clean, reference)
        return NoisyLabels(observed, clean, None, num_classes)

    def _checked(
        self,
        key: str,
        stored: Mapping[str, Array],
        reference: Tensor,
        class_names: Sequence[str],
        num_classes: int | None,
    ) -> Tensor:
        array = stored[key]
        if num_classes is not None:
            array = as_class_numbers(array, class_names, f"path: {self.path}: {key}")
        elif array.ndim == 1:
            array = array[:, None]  # targets of one number
        return check_stored(self.path, key, array, reference, num_classes)


def choose_key(path: Path, stored: Mapping[str, Array], key: str | None) -> str:
    """Return the name of the labels in a file.

    Args:
        path: the file, for the message.
        stored: its arrays.
        key: the name, if the user gave one.

    Raises:
        ValueError: there is no such array, or several could be meant; the message lists them.

    Example:
        >>> choose_key(Path("labels.csv"), {"clean": np.arange(3), "label": np.arange(3)}, None)
        'label'
    """
    if key is not None:
        if key not in stored:
            raise ValueError(f"key: {path} has no {key!r}; it has {', '.join(stored) or 'no labels'}")
        return key
    if _OBSERVED in stored:
        return _OBSERVED
    candidates = [name for name in stored if "clean" not in name]
    if len(candidates) != 1:
        raise ValueError(
            f"path: {path} has the arrays {', '.join(stored) or '(none)'}; name the labels among them by key"
        )
    return candidates[0]


def choose_clean_key(stored: Mapping[str, Array], key: str) -> str | None:
    """Return the name of the true labels that belong to other labels of a file, if there are any.

    Example:
        >>> choose_clean_key({"clean_coarse_label": 0, "clean_label": 0, "noisy_label": 0}, "noisy_label")
        'clean_label'
    """
    for name in stored:
        if "clean" in name and name != key and ("coarse" in name) == ("coarse" in key):
            return name
    return None


def as_class_numbers(array: Array, class_names: Sequence[str], name: str) -> Array:
    """Return labels as integers if they are names of classes, or whole numbers of a floating-point type.

    Where the names of the classes are numbers, but not 0, 1, ..., a number means the class of this name.

    Args:
        array: labels.
        class_names: of all classes.
        name: what holds the labels, for the message.

    Raises:
        ValueError: a label is no class, or missing; the message names its row.

    Example:
        >>> as_class_numbers(np.array(["dog", "cat"]), ("cat", "dog"), "label")
        array([1, 0])
    """
    are_numbers = list(class_names) == [str(number) for number in range(len(class_names))]
    if array.dtype.kind in "ui" and all(name.isdigit() for name in class_names) and not are_numbers:
        array = array.astype(str)  # the dataset numbers its classes otherwise, such as from 1
    if array.dtype.kind == "U":
        numbers = {class_name: number for number, class_name in enumerate(class_names)}
        for row, label in enumerate(array.tolist()):
            if label not in numbers:
                raise ValueError(f"{name}[{row}] is {label!r}, but the classes are {', '.join(class_names)}")
        return np.array([numbers[label] for label in array.tolist()], dtype=np.int64)
    if array.dtype.kind != "f":
        return array
    missing = np.argwhere(~np.isfinite(array))
    if len(missing):
        row = int(missing[0][0])
        raise ValueError(f"{name}[{row}] is {array[row]}; every sample needs a label")
    is_whole = bool((array == np.floor(array)).all())
    return array.astype(np.int64) if is_whole else array
