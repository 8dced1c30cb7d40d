"""Reading torchvision's datasets, with an error that says what is missing and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def missing_files(root: Path, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted files that are not under ``root``."""
    return [name for name in wanted if not (root / name).is_file()]


def read_torchvision(
    name: str, root: Path, wanted: Sequence[str], *, download: bool, alternative: str = ""
) -> tuple[Any, Any]:
    """Training and test part of ``torchvision.datasets.<name>``.

    Args:
        name: class name.
        root: folder of the files.
        wanted: the files that must be under ``root``.
        download: fetch the files if they are not there.
        alternative: ends the statement that a file is missing.

    Raises:
        FileNotFoundError: they are not there, damaged, or could not be fetched.
    """
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, name)
    try:
        return dataset(root, train=True, download=download), dataset(root, train=False, download=download)
    except Exception as error:  # whatever torchvision's parsers raise for what is missing, incomplete or damaged
        missing = missing_files(root, wanted)
        damaged = f"no usable {', '.join(wanted)} ({error})"
        problem = f"there is no {missing[0]}{alternative}" if missing else damaged
        reason = " ".join(str(error).split())[:200]
        hint = f"the download failed ({reason})" if download else "data.download=true fetches it"
        raise FileNotFoundError(
            f"{name}: {problem}\nunder data.root={root} ({root.resolve()});\n{hint}.\n"
            "Set data.root to the folder that has the files; data=digits needs none."
        ) from error
