"""Reading and writing files."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.functional import empirical_transition_matrix

NO_FILES_NEEDED = "Digits (data=digits) needs no files"
"""Advice that ends the messages about missing files."""

UNREADABLE = (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
"""Everything that numpy raises for a file that is cut off, damaged, of another format, or of pickled objects."""


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Write a file all-or-nothing: a reader finds the old file, the new one, or none, but never half of one.

    This also holds after a power failure: the new file is on the disk before it replaces the old one.

    Args:
        path: the file.

    Yields:
        A path beside it to write to. That file replaces ``path`` when the block ends, and is removed if it fails. Only
        a process that is killed leaves it behind, see :func:`remove_partial_files`.

    Raises:
        OSError: the file cannot be written, for example to a full disk. The message names it, which that of a full disk
            does not.

    Example:
        >>> with write_atomically(Path("result.json")) as partial:  # doctest: +SKIP
        ...     partial.write_text("{}")
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _cannot_write(path: Path, cause: OSError) -> OSError:
    """Return an error of the same type and number that names the file."""
    kept = "the old one is still whole" if path.exists() else "nothing was written"
    error = type(cause)(f"cannot write {path}: {cause.strerror or cause}; {kept}")
    error.errno = cause.errno
    return error


def save_tensors(value: Any, path: Path) -> None:
    """Write a value by ``torch.save``, all-or-nothing.

    Args:
        value: tensors, in containers.
        path: the file.

    Raises:
        OSError: the file cannot be written, for example to a full disk.

    Example:
        >>> save_tensors({"T": torch.eye(2)}, Path("T.pt"))  # doctest: +SKIP
    """
    try:
        with write_atomically(path) as partial, partial.open("wb") as file:
            torch.save(value, file)
    except RuntimeError as error:
        # torch reports whatever interrupts its writing as a RuntimeError about positions in the file.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (OSError, KeyboardInterrupt)):
            cause = cause.__context__
        if isinstance(cause, OSError):
            raise _cannot_write(path, cause) from error
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise


def remove_partial_files(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed during :func:`write_atomically`.

    Args:
        folder: it and all folders in it. No process may be writing there.

    Example:
        >>> remove_partial_files(Path("outputs/my-run"))
    """
    for partial in folder.rglob(".*.partial"):
        partial.unlink(missing_ok=True)


def load_npz(path: Path, argument: str, *, hint: str = "") -> dict[str, Array]:
    """Read all arrays of an npz file.

    Args:
        path: the file.
        argument: the argument that names the file, for the messages.
        hint: advice that ends the message if there is no such file.

    Returns:
        The arrays by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an npz file of numbers. Pickled objects are refused and never run.

    Example:
        >>> load_npz(Path("no/such.npz"), "path")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: path: there is no file ...no/such.npz
    """
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: there is no file {path.resolve()}" + (f"; {hint}" if hint else ""))
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("it holds a single array")
        with stored as file:
            return {name: file[name] for name in file}
    except UNREADABLE as error:
        raise ValueError(
            f"{argument}: {path} is not a readable npz file of numbers (objects are not read; save text by "
            "labels.astype(str))"
        ) from error


def read_probabilities(path: Path, argument: str, *, num_samples: int, num_classes: int) -> Tensor:
    """Read the probabilities that a network predicts for the training samples.

    Args:
        path: a ``.npy`` file, or an ``.npz`` file with one array, or with an array ``probabilities``: ``(n, C)``, one
            row for each training sample, in the dataset's order.
        argument: the argument that names the file, for the messages.
        num_samples: ``n``.
        num_classes: ``C``.

    Returns:
        ``(n, C)`` float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no such array, or a row is no distribution; the message names the row.

    Example:
        >>> read_probabilities(Path("no/such.npy"), "probabilities", num_samples=9, num_classes=3)
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: probabilities: there is no file ...no/such.npy
    """
    file = path.expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{argument}: there is no file {file.resolve()}")
    arrays = read_numpy(file, argument)
    name = "probabilities" if len(arrays) > 1 else next(iter(arrays), "probabilities")
    if name not in arrays:
        raise ValueError(f"{argument}: {path} must hold an array probabilities; it holds {', '.join(arrays)}")
    stored = arrays[name]
    if stored.shape != (num_samples, num_classes) or stored.dtype.kind != "f":
        raise ValueError(
            f"{argument}: {path} has shape {stored.shape} and type {stored.dtype}; it must hold a row of "
            f"{num_classes} probabilities for each of the {num_samples} training samples"
        )
    probs = torch.from_numpy(stored.astype(np.float64))
    is_distribution = (probs >= 0).all(1) & ((probs.sum(1) - 1).abs() < 1e-2)
    if not is_distribution.all():
        row = int((~is_distribution).nonzero()[0, 0])
        raise ValueError(
            f"{argument}: {path}: row {row} must be probabilities that sum to 1, got {stored[row].tolist()}; take the "
            "softmax of logits"
        )
    return probs


def read_numpy(path: Path, argument: str, name: str = "array") -> dict[str, Array]:
    """Read the arrays of a file that numpy wrote.

    Args:
        path: a ``.npz`` or ``.npy`` file.
        argument: the argument that names the file, for the messages.
        name: for the array of a ``.npy`` file.

    Returns:
        The arrays by name.

    Raises:
        ValueError: it is no such file. Pickled objects are refused and never run.

    Example:
        >>> read_numpy(Path("T.npy"), "matrix")  # doctest: +SKIP
    """
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return {name: stored}
        with stored as file:
            return {key: file[key] for key in file}
    except UNREADABLE as error:
        raise ValueError(f"{argument}: {path} is not a readable .npy or .npz file of numbers") from error


def read_transition_matrix(path: str | Path, argument: str) -> Tensor:
    """Read a transition matrix.

    Args:
        path: a ``.npy``, ``.csv`` or ``.txt`` file with the rows of ``T``, separated by commas in text; or a ``.npz``
            file with an array ``T``, or with arrays ``clean`` and ``observed``: labels of the same samples, from which
            the matrix is counted.
        argument: the argument that names the file, for the messages.

    Returns:
        ``(C, C)`` float64; not checked to be a transition matrix.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds none of these.

    Example:
        >>> read_transition_matrix("no/such.npy", "matrix")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: matrix: there is no file ...no/such.npy
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{argument}: there is no file {file.resolve()}")
    if file.suffix in (".csv", ".txt"):
        try:
            return torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2))
        except UNREADABLE as error:
            raise ValueError(f"{argument} must be a .npy, .csv or .npz file of numbers, got {path}") from error
    arrays = read_numpy(file, argument, "T")
    if "T" in arrays and arrays["T"].dtype.kind not in "biuf":
        raise ValueError(f"{argument}: {path} must hold numbers, got {arrays['T'].dtype}")
    if "T" in arrays:
        return torch.from_numpy(arrays["T"].astype(np.float64))
    if not {"clean", "observed"} <= arrays.keys():
        raise ValueError(f"{argument}: {path} must hold T, or clean and observed; it holds {', '.join(arrays)}")
    clean = torch.from_numpy(arrays["clean"]).long()
    observed = torch.from_numpy(arrays["observed"]).long()
    num_classes = int(max(clean.max(), observed.max())) + 1
    return empirical_transition_matrix(clean, observed, num_classes)
