"""Datasets that are held in memory, checked once."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class Arrays:
    """A dataset and what it says of itself.

    Attributes:
        x_train: ``(n, d)`` features, or ``(n, C, H, W)`` images; uint8 or floating point.
        y_train: ``(n,)`` labels ``0..num_classes - 1``; for regression ``(n, q)`` float32, each coordinate with mean 0
            and standard deviation 1.
        x_test: like ``x_train``.
        y_test: like ``y_train``; taken to be right.
        class_names: one per class; for regression one per coordinate of the targets.
        mean: subtracted from ``x``, broadcast against one sample, in the unit of ``x``.
        std: divided by, likewise.
        origin: which files it came from, for the result row.
        asymmetric_map: the class that each class is mistaken for, by name; for regression the coordinate that each
            coordinate is mistaken for.
        y_train_clean: true labels of the training set, if they are known; ``y_train`` itself where that is right.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    origin: str
    asymmetric_map: dict[str, str] = field(default_factory=dict)
    y_train_clean: Tensor | None = None

    @property
    def num_outputs(self) -> int:
        """How many values a network gives for a sample: classes, or coordinates of the targets."""
        return len(self.class_names)

    @property
    def is_regression(self) -> bool:
        return self.y_train.is_floating_point()

    def digest(self) -> str:
        """SHA-256 of the samples and the labels, with their shapes and types."""
        hasher = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test, self.y_train_clean):
            if array is not None:
                hasher.update(f"{tuple(array.shape)} {array.dtype}".encode())
                hasher.update(array.contiguous().numpy().tobytes())
        return hasher.hexdigest()


def load_npz(path: Path, option: str) -> dict[str, Array]:
    """All arrays of an npz file.

    Args:
        path: the file.
        option: the setting that names it, for the messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an npz file of numbers.
    """
    if not path.is_file():
        hint = "; data=digits needs none" if option.startswith("data.") else ""
        raise FileNotFoundError(f"{option}: there is no file {path.resolve()}{hint}")
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("it holds a single array")
        with stored as file:
            return {name: file[name] for name in file}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{option}: {path} is not a readable npz file of numbers (objects are not read)") from error


def check_features(name: str, x: Array) -> Tensor:
    """Features or images as a tensor; images get their channels first.

    Raises:
        ValueError: the array is not numeric, not 2- to 4-dimensional, or holds NaN or infinity; it names the row.
    """
    if x.ndim not in (2, 3, 4) or x.dtype.kind not in "uif":
        raise ValueError(
            f"{name} has shape {x.shape} and type {x.dtype}; it must be numeric: features (n, d) or images (n, H, W), "
            "(n, H, W, channels) or (n, channels, H, W)"
        )
    if not x.size:
        raise ValueError(f"{name} has no {'features' if len(x) else 'samples'}: its shape is {x.shape}")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):
            single = x.astype(np.float32)
        finite = np.isfinite(single)
        if not finite.all():
            place = np.argwhere(~finite)[0]
            raise ValueError(
                f"{name}[{place[0]}] holds {x[tuple(place)]}, not a finite float32; remove the row or fill the value in"
            )
        x = single
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x))


def check_labels(name: str, y: Array, rows: int, num_classes: int) -> Tensor:
    """Labels as int64.

    Raises:
        ValueError: not one integer in ``0..num_classes - 1`` per row; it names the row and the value.
    """
    if y.shape != (rows,):
        raise ValueError(
            f"{name} has shape {y.shape}; it must hold one label for each of the {rows} samples: ({rows},)"
        )
    if y.dtype.kind not in "ui":
        fix = "convert with .astype('int64')" if y.dtype.kind in "fb" else "number the classes from 0"
        example = f"; {name}[0] is {y[0]}" if len(y) else ""
        raise ValueError(f"{name} has type {y.dtype}{example}; labels must be integers: {fix}")
    wrong = np.flatnonzero((y < 0) | (y >= num_classes))
    if len(wrong):
        allowed = "not be negative, classes are numbered from 0"
        if y[wrong[0]] >= 0:
            allowed = f"lie in 0..{num_classes - 1}"
        raise ValueError(f"{name}[{wrong[0]}] is {y[wrong[0]]}; labels must {allowed}")
    return torch.from_numpy(y.astype(np.int64))


def check_targets(name: str, y: Array, rows: int) -> Tensor:
    """Regression targets as ``(n, q)`` float32.

    Raises:
        ValueError: not one row of finite numbers per sample; it names the row.
    """
    if y.ndim not in (1, 2) or len(y) != rows or y.dtype.kind not in "uif" or not y.size:
        raise ValueError(
            f"{name} has shape {y.shape} and type {y.dtype}; it must hold one number, or a row of numbers, for each of "
            f"the {rows} samples"
        )
    targets = y.astype(np.float32).reshape(rows, -1)
    wrong = np.flatnonzero(~np.isfinite(targets).all(1))
    if len(wrong):
        raise ValueError(f"{name}[{wrong[0]}] is {y[wrong[0]]}, not a finite float32; remove the row")
    return torch.from_numpy(targets)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per feature ``(d,)`` or channel ``(C, 1, 1)``; 1 where nothing varies."""
    dims = [0] if x.ndim == 2 else [0, 2, 3]
    count = x.numel() / x.shape[1]
    chunks = torch.split(x, 4096)  # so that float64 copies stay small
    mean = torch.stack([chunk.double().sum(dims, keepdim=True) for chunk in chunks]).sum(0) / count
    squares = torch.stack([(chunk.double() - mean).square().sum(dims, keepdim=True) for chunk in chunks]).sum(0)
    std = (squares / count).sqrt()
    return mean.squeeze(0).float(), torch.where(std > 0, std, 1.0).squeeze(0).float()


def standardize(y_train: Tensor, *others: Tensor) -> list[Tensor]:
    """Regression targets with mean 0 and standard deviation 1 in each coordinate of the training set."""
    std, mean = torch.std_mean(y_train.double(), dim=0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    return [((y.double() - mean) / std).float() for y in (y_train, *others)]


def regression_arrays(
    x: Tensor,
    y: Tensor,
    train: Tensor,
    test: Tensor,
    *,
    names: tuple[str, ...],
    origin: str,
    asymmetric_map: dict[str, str] | None = None,
) -> Arrays:
    """A regression dataset of features ``x`` ``(n, d)`` and right targets ``y`` ``(n, q)``, split by rows."""
    y_train, y_test = standardize(y[train], y[test])
    mean, std = moments(x[train])
    return Arrays(
        x_train=x[train],
        y_train=y_train,
        x_test=x[test],
        y_test=y_test,
        class_names=names,
        mean=mean,
        std=std,
        origin=origin,
        asymmetric_map=asymmetric_map or {},
        y_train_clean=y_train,
    )


def check_classes(name: str, y: Tensor, num_classes: int) -> None:
    """Raises ``ValueError`` if there are fewer than two classes, fewer samples than classes, or an empty class."""
    if num_classes < 2:
        raise ValueError(f"{name} has {num_classes} class; classification needs at least 2")
    largest = f"the largest label is {name}[{int(y.argmax())}] = {int(y.max())}" if len(y) else "it is empty"
    if len(y) < num_classes:
        raise ValueError(f"{name} has {len(y)} samples, fewer than the {num_classes} classes; {largest}")
    empty = (torch.bincount(y, minlength=num_classes) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{name} has no sample of class {empty[0]}; number the classes from 0 without gaps; {largest}")
