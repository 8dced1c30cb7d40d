"""Reading torchvision's datasets, with an error that says what is missing and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_torchvision(name: str, root: Path, wanted: str, *, download: bool) -> tuple[Any, Any]:
    """Training and test part of ``torchvision.datasets.<name>``.

    Args:
        name: class name.
        root: folder of the files.
        wanted: a file that must be under ``root``, for the message.
        download: fetch the files if they are not there.

    Raises:
        FileNotFoundError: they are not there and were not, or could not be, fetched.
    """
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, name)
    reason = "data.download=true fetches them"
    try:
        return dataset(root, train=True, download=download), dataset(root, train=False, download=download)
    except (RuntimeError, OSError) as error:
        # torchvision raises RuntimeError for missing, incomplete or damaged files, OSError without a network.
        if download:
            reason = f"the download failed ({error})"
    raise FileNotFoundError(
        f"{name}: no usable {wanted} under data.root={root}, that is {root.resolve()}; {reason}. "
        "Set data.root to the folder that has the files; data=digits needs none."
    )
