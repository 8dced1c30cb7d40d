"""Datasets held in memory, and the checks that their arrays pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisylabels_pl.data.samples import Samples

Array = NDArray[Any]

# As many images determine the mean and standard deviation of their channels to about a hundredth.
_SAMPLES_READ = 1000


@dataclass(frozen=True)
class Arrays:
    """Hold a dataset, with the facts that noise, networks and reports need.

    Attributes:
        x_train: ``(n, d)`` features or ``(n, C, H, W)`` images, uint8 or floating point; or ``(n, length)`` int64 words
            of texts, 0 for padding. In memory, or read when a batch needs them.
        y_train: ``(n,)`` int64 labels in ``0..num_outputs - 1``; for regression ``(n, q)`` float32 targets, each
            coordinate with mean 0 and standard deviation 1.
        x_test: test samples, in the layout of ``x_train``.
        y_test: test labels or targets, in the layout of ``y_train``; assumed to be correct.
        class_names: one name for each class; for regression, one for each coordinate of the targets.
        mean: subtracted from ``x`` before training; broadcasts against one sample, in the units of ``x``.
        std: ``x - mean`` is divided by it; same shape and units as ``mean``.
        origin: the files or the generator that the dataset came from, for the result row.
        asymmetric_map: ``{class: class it is mistaken for}`` by name; for regression the same with coordinates.
        y_train_clean: true labels of the training set, or ``None`` if they are unknown; equal to ``y_train`` where
            ``y_train`` is correct.
        train_ids: what each training sample is called in the user's files, such as a path or a row; ``None`` if they
            have no names.
        test_ids: the same of the test samples.
        val_indices: ``(k,)`` int64 training samples that are held out for validation, ascending; ``None`` to draw them
            at random.
        warnings: what the user should know of the data, such as files that were skipped.
        superclasses: the number of each class's superclass; ``None`` if there are none.
        T: ``(C, C)`` transition matrix of the labels, if the dataset has noise of its own and tells it.
        validation: samples and labels of the dataset's own validation set, which count as correct; ``None`` to split
            one off the training set.
        further_tests: samples and labels of further test sets, by the name under which they are logged.

    Example:
        >>> from noisylabels_pl.data import Digits
        >>> digits = Digits().load()
        >>> digits.x_train.shape, digits.y_train.shape
        (torch.Size([1348, 1, 8, 8]), torch.Size([1348]))
        >>> digits.num_outputs, digits.is_regression
        (10, False)
    """

    x_train: Samples
    y_train: Tensor
    x_test: Samples
    y_test: Tensor
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    origin: str
    asymmetric_map: dict[str, str] = field(default_factory=dict)
    y_train_clean: Tensor | None = None
    train_ids: Sequence[str] | None = None
    test_ids: Sequence[str] | None = None
    val_indices: Tensor | None = None
    warnings: tuple[str, ...] = ()
    superclasses: tuple[int, ...] | None = None
    T: Tensor | None = None
    validation: tuple[Samples, Tensor] | None = None
    further_tests: Mapping[str, tuple[Samples, Tensor]] = field(default_factory=dict)

    @property
    def num_outputs(self) -> int:
        """Return the number of values that a network predicts for a sample: classes, or coordinates of the targets."""
        return len(self.class_names)

    @property
    def is_regression(self) -> bool:
        """Return whether the targets are real numbers instead of class labels."""
        return self.y_train.is_floating_point()

    def digest(self) -> str:
        """Return the SHA-256 of samples and labels, including their shapes and types.

        Of samples that are not in memory, their names, sizes and the like are hashed.
        """
        hasher = hashlib.sha256()
        arrays = [self.x_train, self.y_train, self.x_test, self.y_test, self.y_train_clean, *(self.validation or ())]
        for samples, labels in self.further_tests.values():
            arrays += [samples, labels]
        for array in arrays:
            if array is None:
                continue
            hasher.update(f"{tuple(array.shape)} {array.dtype}".encode())
            if isinstance(array, Tensor):
                hasher.update(array.contiguous().numpy().tobytes())
            else:
                array.update_digest(hasher)
        return hasher.hexdigest()


def check_features(name: str, x: Array) -> Tensor:
    """Return features or images as a tensor, images with their channels first.

    Args:
        name: the array's name, for the messages.
        x: features ``(n, d)``, or images ``(n, H, W)``, ``(n, H, W, channels)`` or ``(n, channels, H, W)``.

    Returns:
        ``(n, d)`` or ``(n, C, H, W)``; uint8 stays uint8, any other type becomes float32.

    Raises:
        ValueError: ``x`` is not numeric, has another number of dimensions, is empty, or holds a value that is not
            finite in float32; the message names the row.

    Example:
        >>> check_features("x_train", np.zeros((5, 8, 8, 3), dtype=np.uint8)).shape
        torch.Size([5, 3, 8, 8])
    """
    if x.ndim not in (2, 3, 4) or x.dtype.kind not in "uif":
        raise ValueError(
            f"{name} has shape {x.shape} and type {x.dtype}; it must be numeric: features (n, d) or images (n, H, W), "
            "(n, H, W, channels) or (n, channels, H, W)"
        )
    if not x.size:
        missing = "features" if len(x) else "samples"
        raise ValueError(f"{name} has no {missing}: its shape is {x.shape}")
    if x.dtype != np.uint8:
        x = _to_finite_float32(name, x)
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x))


def _to_finite_float32(name: str, x: Array) -> Array:
    """Return ``x`` as float32, or raise a ``ValueError`` that names the first row with NaN, infinity or overflow."""
    with np.errstate(over="ignore"):
        converted = x.astype(np.float32)
    is_finite = np.isfinite(converted)
    if not is_finite.all():
        position = tuple(np.argwhere(~is_finite)[0])
        raise ValueError(
            f"{name}[{position[0]}] holds {x[position]}, not a finite float32; remove the row or fill the value in"
        )
    return converted


def check_labels(name: str, y: Array, num_samples: int, num_classes: int, *, hint: str = "") -> Tensor:
    """Return class labels as int64.

    Args:
        name: the array's name, for the messages.
        y: ``(num_samples,)`` integers in ``0..num_classes - 1``.
        num_samples: the number of samples that need a label.
        num_classes: the number of classes.
        hint: the remedy for a label that is no class, added to the message.

    Returns:
        ``(num_samples,)`` int64.

    Raises:
        ValueError: ``y`` has another shape, is not of integers, or holds a label that is no class; the message names
            the row and the value.

    Example:
        >>> check_labels("y_train", np.array([0, 2, 1], dtype=np.uint8), num_samples=3, num_classes=3)
        tensor([0, 2, 1])
    """
    if y.shape != (num_samples,):
        remedy = f"; {name}.argmax(1) makes labels of one-hot rows" if y.ndim == 2 and len(y) == num_samples else ""
        raise ValueError(
            f"{name} has shape {y.shape}; it must hold one label for each of the {num_samples} samples: "
            f"({num_samples},){remedy}"
        )
    if y.dtype.kind not in "ui":
        remedy = "number the classes from 0"
        if y.dtype.kind in "fb":
            remedy = "convert with .astype('int64')"
        if y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)):
            remedy = "real numbers are targets of regression: data=npz_regression"
        example = f"; {name}[0] is {y[0]}" if len(y) else ""
        raise ValueError(f"{name} has type {y.dtype}{example}; labels must be integers: {remedy}")
    wrong = np.flatnonzero((y < 0) | (y >= num_classes))
    if len(wrong):
        row = wrong[0]
        if y[row] < 0:
            raise ValueError(f"{name}[{row}] is {y[row]}; labels must not be negative, classes are numbered from 0")
        raise ValueError(f"{name}[{row}] is {y[row]}; labels must lie in 0..{num_classes - 1}{hint}")
    return torch.from_numpy(y.astype(np.int64))


def check_targets(name: str, y: Array, num_samples: int) -> Tensor:
    """Return regression targets as float32, one row for each sample.

    Args:
        name: the array's name, for the messages.
        y: ``(num_samples,)`` or ``(num_samples, q)`` numbers.
        num_samples: the number of samples that need a target.

    Returns:
        ``(num_samples, q)`` float32.

    Raises:
        ValueError: ``y`` has another shape, is not numeric, or holds a value that is not finite in float32; the
            message names the row.

    Example:
        >>> check_targets("y_train", np.array([1.0, -2.0]), num_samples=2)
        tensor([[ 1.],
                [-2.]])
    """
    if y.ndim not in (1, 2) or len(y) != num_samples or y.dtype.kind not in "uif" or not y.size:
        raise ValueError(
            f"{name} has shape {y.shape} and type {y.dtype}; it must hold one number, or a row of numbers, for each of "
            f"the {num_samples} samples"
        )
    targets = y.astype(np.float32).reshape(num_samples, -1)
    wrong = np.flatnonzero(~np.isfinite(targets).all(1))
    if len(wrong):
        row = wrong[0]
        raise ValueError(f"{name}[{row}] is {y[row]}, not a finite float32; remove the row")
    return torch.from_numpy(targets)


def check_classes(name: str, y: Tensor, num_classes: int) -> None:
    """Check that training labels cover at least two classes and leave none of them empty.

    Args:
        name: the array's name, for the messages.
        y: ``(n,)`` int64 labels in ``0..num_classes - 1``.
        num_classes: the number of classes.

    Raises:
        ValueError: there are fewer than two classes, fewer samples than classes, or a class without samples.

    Example:
        >>> check_classes("y_train", torch.tensor([0, 2, 1]), num_classes=3)
        >>> check_classes("y_train", torch.tensor([0, 0, 0]), num_classes=1)
        Traceback (most recent call last):
        ...
        ValueError: y_train has 1 class; classification needs at least 2
    """
    if num_classes < 2:
        raise ValueError(f"{name} has {num_classes} class; classification needs at least 2")
    largest = f"the largest label is {name}[{int(y.argmax())}] = {int(y.max())}" if len(y) else "it is empty"
    if len(y) < num_classes:
        raise ValueError(f"{name} has {len(y)} samples, fewer than the {num_classes} classes; {largest}")
    class_sizes = torch.bincount(y, minlength=num_classes)
    empty_classes = (class_sizes == 0).nonzero().flatten().tolist()
    if empty_classes:
        raise ValueError(
            f"{name} has no sample of class {empty_classes[0]}; number the classes from 0 without gaps, or name all in "
            f"class_names, if only the test set has this one; {largest}"
        )


def mean_and_std(x: Samples) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each feature, or of each channel of images.

    Args:
        x: ``(n, d)`` features or ``(n, C, H, W)`` images of any type. Of samples outside of memory, some are read.

    Returns:
        Mean and standard deviation, float32, ``(d,)`` for features and ``(C, 1, 1)`` for images. The standard deviation
        is 1 where ``x`` is constant.

    Example:
        >>> mean_and_std(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
        (tensor([2., 7.]), tensor([1., 1.]))
    """
    if not isinstance(x, Tensor):
        x = x[torch.linspace(0, len(x) - 1, min(len(x), _SAMPLES_READ)).round().long()]
    dims = [0] if x.ndim == 2 else [0, 2, 3]
    count = x.numel() / x.shape[1]
    # In chunks, because a float64 copy of all images at once would take eight times the memory of their bytes.
    chunks = torch.split(x, 4096)
    mean = torch.stack([chunk.double().sum(dims, keepdim=True) for chunk in chunks]).sum(0) / count
    squares = torch.stack([(chunk.double() - mean).square().sum(dims, keepdim=True) for chunk in chunks]).sum(0)
    std = (squares / count).sqrt()
    std = torch.where(std > 0, std, 1.0)
    return mean.squeeze(0).float(), std.squeeze(0).float()


def standardize(y_train: Tensor, *others: Tensor) -> list[Tensor]:
    """Return regression targets in standard deviations from the mean of the training targets.

    Args:
        y_train: ``(n, q)`` training targets; their mean and standard deviation are used.
        *others: ``(m, q)`` further targets, such as the test targets, to convert in the same way.

    Returns:
        ``y_train`` and the others, float32. A coordinate that is constant in ``y_train`` is only centered.

    Example:
        >>> standardize(torch.tensor([[10.0], [30.0]]), torch.tensor([[50.0]]))
        [tensor([[-1.],
                [ 1.]]), tensor([[3.]])]
    """
    std, mean = torch.std_mean(y_train.double(), dim=0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    return [((y.double() - mean) / std).float() for y in (y_train, *others)]


def regression_arrays(
    x: Tensor,
    y: Tensor,
    train_indices: Tensor,
    test_indices: Tensor,
    *,
    names: tuple[str, ...],
    origin: str,
    asymmetric_map: dict[str, str] | None = None,
) -> Arrays:
    """Return a regression dataset whose targets are correct and get standardized by the training targets.

    Args:
        x: ``(n, d)`` features.
        y: ``(n, q)`` correct targets.
        train_indices: ``(n_train,)`` rows of the training set.
        test_indices: ``(n_test,)`` rows of the test set.
        names: one name for each coordinate of the targets.
        origin: see :class:`Arrays`.
        asymmetric_map: see :class:`Arrays`.

    Example:
        >>> x, y = torch.rand(5, 2), torch.rand(5, 1)
        >>> train_indices, test_indices = torch.arange(4), torch.tensor([4])
        >>> regression_arrays(x, y, train_indices, test_indices, names=("height",), origin="rand").x_train.shape
        torch.Size([4, 2])
    """
    y_train, y_test = standardize(y[train_indices], y[test_indices])
    mean, std = mean_and_std(x[train_indices])
    return Arrays(
        x_train=x[train_indices],
        y_train=y_train,
        x_test=x[test_indices],
        y_test=y_test,
        class_names=names,
        mean=mean,
        std=std,
        origin=origin,
        asymmetric_map=asymmetric_map or {},
        y_train_clean=y_train,
    )
