"""Reading and writing files."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.functional import empirical_transition_matrix


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Write a file all-or-nothing: a reader finds the old file, the new one, or none, but never half of one.

    Args:
        path: the file.

    Yields:
        A path beside it to write to. That file replaces ``path`` when the block ends, and is removed if it fails.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_transition_matrix(path: str | Path, argument: str) -> Tensor:
    """Read a transition matrix.

    Args:
        path: a ``.npy`` or ``.csv`` file with its rows, or a ``.npz`` file with an array ``T``, or with arrays ``clean``
            and ``observed``: labels of the same samples, from which the matrix is counted.
        argument: the argument that names the file, for the messages.

    Returns:
        ``(C, C)`` float64; not checked to be a transition matrix.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds none of these.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{argument}: there is no file {file.resolve()}")
    try:
        if file.suffix == ".csv":
            return torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2))
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return torch.from_numpy(stored.astype(np.float64))
        with stored:
            arrays = {name: stored[name] for name in stored}
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{argument} must be a .npy, .csv or .npz file of numbers, got {path}") from error
    if "T" in arrays:
        return torch.from_numpy(arrays["T"].astype(np.float64))
    if not {"clean", "observed"} <= arrays.keys():
        raise ValueError(f"{argument}: {path} must hold T, or clean and observed; it holds {', '.join(arrays)}")
    clean, observed = torch.from_numpy(arrays["clean"]).long(), torch.from_numpy(arrays["observed"]).long()
    return empirical_transition_matrix(clean, observed, int(max(clean.max(), observed.max())) + 1)
