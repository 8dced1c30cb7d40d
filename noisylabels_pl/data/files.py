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

# Everything that numpy raises for a file that is cut off, damaged, of another format, or of pickled objects.
_UNREADABLE = (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Write a file all-or-nothing: a reader finds the old file, the new one, or none, but never half of one.

    This also holds after a power failure: the new file is on the disk before it replaces the old one.

    Args:
        path: the file.

    Yields:
        A path beside it to write to. That file replaces ``path`` when the block ends, and is removed if it fails. Only
        a process that is killed leaves it behind, see :func:`remove_partial_files`.

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
    finally:
        partial.unlink(missing_ok=True)


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
    except (OSError, RuntimeError) as error:
        # torch reports whatever interrupts its writing as a RuntimeError about positions in the file.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (OSError, KeyboardInterrupt)):
            cause = cause.__context__
        if isinstance(cause, OSError):
            kept = "the old one is still whole" if path.exists() else "nothing was written"
            raise OSError(f"cannot write {path}: {cause.strerror}; {kept}") from error
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
    except _UNREADABLE as error:
        raise ValueError(
            f"{argument}: {path} is not a readable npz file of numbers (objects are not read; save text by "
            "labels.astype(str))"
        ) from error


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
    try:
        if file.suffix in (".csv", ".txt"):
            return torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2))
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return torch.from_numpy(stored.astype(np.float64))
        with stored:
            arrays = {name: stored[name] for name in stored}
    except _UNREADABLE as error:
        raise ValueError(f"{argument} must be a .npy, .csv or .npz file of numbers, got {path}") from error
    if "T" in arrays:
        return torch.from_numpy(arrays["T"].astype(np.float64))
    if not {"clean", "observed"} <= arrays.keys():
        raise ValueError(f"{argument}: {path} must hold T, or clean and observed; it holds {', '.join(arrays)}")
    clean = torch.from_numpy(arrays["clean"]).long()
    observed = torch.from_numpy(arrays["observed"]).long()
    num_classes = int(max(clean.max(), observed.max())) + 1
    return empirical_transition_matrix(clean, observed, num_classes)
