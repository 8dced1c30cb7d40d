"""Your own data, from one npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from noisylabels_pl.data.arrays import (
    Array,
    Arrays,
    check_classes,
    check_features,
    check_labels,
    check_targets,
    load_npz,
    moments,
    standardize,
)
from noisylabels_pl.data.datamodule import NoisyDataModule

REQUIRED = ("x_train", "y_train", "x_test", "y_test")


class NpzData(NoisyDataModule):
    """Arrays ``x_train``, ``y_train``, ``x_test``, ``y_test`` and, if known, ``y_train_clean``.

    ``x`` holds features ``(n, d)`` or images ``(n, H, W)``, ``(n, H, W, channels)`` or ``(n, channels, H, W)``. It is
    standardized with the training set's mean and standard deviation, per feature or per channel. With
    ``y_train_clean``, label precision and the other comparisons with true labels are reported; no method sees it.

    Args:
        path: the npz file.
        class_names: one per class; numbers if not given.
        asymmetric_map: ``{class: class it is mistaken for}`` by name, for ``noise=asym``.
        **common: see :class:`NoisyDataModule`.
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
    """As :class:`NpzData`, with targets ``(n,)`` or ``(n, q)`` that are real numbers.

    They are standardized, each coordinate, with the mean and standard deviation of ``y_train`` as it is: of what is
    observed, because no other is known.

    Args:
        path: the npz file.
        target_names: one per coordinate of the targets; numbers if not given.
        **common: see :class:`NoisyDataModule`.
    """

    def __init__(self, path: str, *, target_names: Sequence[str] | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.path = Path(path).expanduser()
        self.target_names = target_names

    def load(self) -> Arrays:
        stored, x_train, x_test = _read(self.path, "data.path")
        names = [name for name in ("y_train", "y_test", "y_train_clean") if name in stored]
        targets = [check_targets(name, stored[name], len(x_test if name == "y_test" else x_train)) for name in names]
        width = targets[0].shape[1]
        for name, target in zip(names, targets, strict=True):
            if target.shape[1] != width:
                raise ValueError(f"{name} has {target.shape[1]} numbers a sample, y_train {width}; they must be equal")
        if self.target_names is not None and len(self.target_names) != width:
            raise ValueError(f"data.target_names names {len(self.target_names)} targets, but y_train has {width}")
        y_train, y_test, *clean = standardize(*targets)
        mean, std = moments(x_train)
        return Arrays(
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            class_names=tuple(str(name) for name in self.target_names or range(width)),
            mean=mean,
            std=std,
            origin=f"npz {self.path}",
            y_train_clean=clean[0] if clean else None,
        )


def read_npz(
    path: Path,
    *,
    option: str = "data.path",
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    asymmetric_map: dict[str, str] | None = None,
) -> Arrays:
    """Read and check an npz file; the number of classes follows from the labels if it is not given.

    Args:
        path: the file.
        option: the setting that names it, for the messages.
        num_classes: ``C``.
        class_names: see :class:`NpzData`.
        asymmetric_map: see :class:`NpzData`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array is missing or wrong; the message names it, the row and the value.
    """
    stored, x_train, x_test = _read(path, option)
    if num_classes is None:
        labels = stored["y_train"]
        num_classes = int(labels.max()) + 1 if labels.size and labels.dtype.kind in "ui" else 0
    y_train = check_labels("y_train", stored["y_train"], len(x_train), num_classes)
    check_classes("y_train", y_train, num_classes)
    clean = stored.get("y_train_clean")
    mean, std = moments(x_train)
    return Arrays(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=check_labels("y_test", stored["y_test"], len(x_test), num_classes),
        class_names=tuple(str(name) for name in class_names or range(num_classes)),
        mean=mean,
        std=std,
        origin=f"npz {path}",
        asymmetric_map=dict(asymmetric_map or {}),
        y_train_clean=None if clean is None else check_labels("y_train_clean", clean, len(x_train), num_classes),
    )


def _read(path: Path, option: str) -> tuple[dict[str, Array], Tensor, Tensor]:
    """All arrays of the file, and the features, which are checked."""
    stored = load_npz(path, option)
    missing = [name for name in REQUIRED if name not in stored]
    if missing:
        raise ValueError(f"{option}: {path} has no array {missing[0]}; it has {', '.join(stored) or 'none'}")
    x_train, x_test = (check_features(name, stored[name]) for name in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"x_test has samples of shape {tuple(x_test.shape[1:])}, x_train of {tuple(x_train.shape[1:])}; "
            "they must be equal"
        )
    return stored, x_train, x_test
