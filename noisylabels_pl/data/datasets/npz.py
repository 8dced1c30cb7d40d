"""Your own data, from one npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import (
    Array,
    Arrays,
    check_classes,
    check_features,
    check_labels,
    check_targets,
    mean_and_std,
    standardize,
)
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.files import NO_FILES_NEEDED, load_npz
from noisylabels_pl.data.labels import (
    as_label_vector,
    check_one_type,
    check_test_classes,
    class_names_of,
    encode_labels,
)

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_LABELS = ("y_train", "y_test")


class NpzData(NoisyDataModule):
    """Serve your own classification data from an npz file.

    The file holds arrays ``x_train``, ``y_train``, ``x_test``, ``y_test`` and, if known, ``y_train_clean``. ``x`` are
    features ``(n, d)`` or images ``(n, H, W)``, ``(n, H, W, channels)`` or ``(n, channels, H, W)``; they are
    standardized by the mean and the standard deviation of each feature, or each channel, of the training set. ``y`` are
    integers from 0, text, or one-hot rows; a column ``(n, 1)`` and whole floating-point numbers are taken, too. With
    ``y_train_clean``, label precision and the other comparisons with true labels are reported; methods do not see it.

    Args:
        path: the npz file.
        class_names: one name for each class, also for one that only the test set has; ``None`` for numbers, and then
            every class needs training samples.
        asymmetric_map: ``{class: class it is mistaken for}`` by name, for asymmetric noise.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if there is no such file.
        ValueError: in ``setup``, if an array is missing or wrong; the message names it, the row and the value.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.rand(100, 20), np.arange(100) % 3  # doctest: +SKIP
        >>> np.savez("mine.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])  # doctest: +SKIP
        >>> data = NpzData("mine.npz", class_names=["cat", "dog", "fox"])
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str,
        *,
        class_names: Sequence[str] | None = None,
        asymmetric_map: dict[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.path = Path(path).expanduser()
        self.class_names = class_names
        self.asymmetric_map = asymmetric_map

    def load(self) -> Arrays:
        return read_npz(
            self.path,
            num_classes=None if self.class_names is None else len(self.class_names),
            class_names=self.class_names,
            asymmetric_map=self.asymmetric_map,
        )


class NpzRegression(NoisyDataModule):
    """Serve your own regression data from an npz file.

    The file is like that of :class:`NpzData`, but its targets are real numbers ``(n,)`` or ``(n, q)``. Each coordinate
    is standardized by the mean and the standard deviation of ``y_train``: of the observed targets, because the true
    ones may be unknown.

    Args:
        path: the npz file.
        target_names: one name for each coordinate of the targets; ``None`` for numbers.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if there is no such file.
        ValueError: in ``setup``, if an array is missing or wrong; the message names it, the row and the value.

    Example:
        >>> data = NpzRegression("mine.npz", target_names=["height", "weight"])
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, path: str, *, target_names: Sequence[str] | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.path = Path(path).expanduser()
        self.target_names = target_names

    def load(self) -> Arrays:
        stored, x_train, x_test = _read(self.path, "path")
        targets = {
            "y_train": check_targets("y_train", stored["y_train"], len(x_train)),
            "y_test": check_targets("y_test", stored["y_test"], len(x_test)),
        }
        if "y_train_clean" in stored:
            targets["y_train_clean"] = check_targets("y_train_clean", stored["y_train_clean"], len(x_train))
        width = targets["y_train"].shape[1]
        for name, y in targets.items():
            if y.shape[1] != width:
                raise ValueError(f"{name} has {y.shape[1]} numbers a sample, y_train {width}; they must be equal")
        if self.target_names is not None and len(self.target_names) != width:
            raise ValueError(f"target_names names {len(self.target_names)} targets, but y_train has {width}")
        standardized = dict(zip(targets, standardize(*targets.values()), strict=True))
        mean, std = mean_and_std(x_train)
        return Arrays(
            x_train=x_train,
            y_train=standardized["y_train"],
            x_test=x_test,
            y_test=standardized["y_test"],
            class_names=tuple(str(name) for name in self.target_names or range(width)),
            mean=mean,
            std=std,
            origin=f"npz {self.path}",
            y_train_clean=standardized.get("y_train_clean"),
        )


def read_npz(
    path: Path,
    *,
    argument: str = "path",
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    asymmetric_map: dict[str, str] | None = None,
) -> Arrays:
    """Read and check the npz file of a classification dataset.

    Args:
        path: the file.
        argument: the argument that names the file, for the messages.
        num_classes: the number of classes; ``None`` for the largest training label plus one.
        class_names: see :class:`NpzData`.
        asymmetric_map: see :class:`NpzData`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array is missing or wrong; the message names it, the row and the value.
    """
    stored, x_train, x_test = _read(path, argument)
    warnings: list[str] = []
    labels = {name: stored[name] for name in (*_LABELS, "y_train_clean") if name in stored}
    for name, y in labels.items():
        labels[name] = _label_vector(name, y, len(x_test if name == "y_test" else x_train), warnings)
    check_one_type("y", list(labels.values()))
    if labels["y_train"].dtype.kind not in "ui":  # text
        if class_names is None:
            train_labels = [y for name, y in labels.items() if name != "y_test"]
            check_test_classes("y", labels["y_test"], train_labels)
        class_names = class_names_of("y_train", np.concatenate(list(labels.values())), class_names)
        labels = {name: encode_labels(name, y, class_names).numpy() for name, y in labels.items()}
        num_classes = len(class_names)
    stored |= labels
    _check_first_class(labels)
    if num_classes is None:
        num_classes = int(stored["y_train"].max()) + 1
    y_train = check_labels("y_train", stored["y_train"], len(x_train), num_classes)
    hint = ""
    if class_names is None:
        check_classes("y_train", y_train, num_classes)
        hint = ", the labels of y_train; name all classes in class_names, if training lacks some"
    y_test = check_labels("y_test", stored["y_test"], len(x_test), num_classes, hint=hint)
    if class_names is not None:  # only the test set may have a class that is named
        check_classes("y_train", torch.cat([y_train, y_test]), num_classes)
    y_train_clean = None
    if "y_train_clean" in stored:
        y_train_clean = check_labels("y_train_clean", stored["y_train_clean"], len(x_train), num_classes)
    mean, std = mean_and_std(x_train)
    return Arrays(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        class_names=tuple(str(name) for name in class_names or range(num_classes)),
        mean=mean,
        std=std,
        origin=f"npz {path}",
        asymmetric_map=dict(asymmetric_map or {}),
        y_train_clean=y_train_clean,
        warnings=tuple(warnings),
    )


def _label_vector(name: str, y: Array, num_samples: int, warnings: list[str]) -> Array:
    """Return labels of any common layout as ``(num_samples,)`` integers or text; append what the user should know."""
    if y.shape != (num_samples,) or y.dtype.kind not in "ui":
        if y.shape[:1] != (num_samples,):
            raise ValueError(
                f"{name} has shape {y.shape}; it must hold one label for each of the {num_samples} samples: "
                f"({num_samples},)"
            )
        y, warning = as_label_vector(name, y)
        if warning is not None:
            warnings.append(warning)
    return y


def _check_first_class(labels: dict[str, Array]) -> None:
    """Refuse integer labels that are numbered from 1, and say how to shift them."""
    numbers = np.unique(np.concatenate(list(labels.values())))
    if np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
        shifted = ", ".join(f"{name} - 1" for name in labels)
        raise ValueError(
            f"y_train numbers its classes from 1, here they are numbered from 0; save {shifted}, or the names of the "
            "classes as text"
        )


def _read(path: Path, argument: str) -> tuple[dict[str, Array], Tensor, Tensor]:
    """Return all arrays of the file, and the checked features of its training and test set."""
    stored = load_npz(path, argument, hint=NO_FILES_NEEDED)
    missing = [name for name in REQUIRED if name not in stored]
    if missing:
        raise ValueError(f"{argument}: {path} has no array {missing[0]}; it has {', '.join(stored) or 'none'}")
    x_train = check_features("x_train", stored["x_train"])
    x_test = check_features("x_test", stored["x_test"])
    train_shape = tuple(x_train.shape[1:])
    test_shape = tuple(x_test.shape[1:])
    if train_shape != test_shape:
        raise ValueError(f"x_test has samples of shape {test_shape}, x_train of {train_shape}; they must be equal")
    return stored, x_train, x_test
