"""Reading torchvision's datasets, with an error that says which file is missing, and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisylabels_pl.data.files import NO_FILES_NEEDED


def missing_files(root: Path, wanted: Sequence[str]) -> list[str]:
    """Return the wanted files that are not under ``root``.

    Args:
        root: the folder.
        wanted: paths relative to ``root``.

    Example:
        >>> missing_files(Path("no/such/folder"), ["MNIST/raw/train-images-idx3-ubyte"])
        ['MNIST/raw/train-images-idx3-ubyte']
    """
    return [name for name in wanted if not (root / name).is_file()]


def read_torchvision(
    name: str, root: Path, wanted: Sequence[str], *, download: bool, alternative: str = ""
) -> tuple[Any, Any]:
    """Return the training and the test set of ``torchvision.datasets.<name>``.

    Args:
        name: the class's name.
        root: the folder of the files.
        wanted: the files that must be under ``root``.
        download: whether to download the files if they are not there.
        alternative: follows the name of a missing file in the message, such as ``" and no cifar10.npz"``.

    Raises:
        FileNotFoundError: files are missing or damaged, or the download failed.

    Example:
        >>> train, test = read_torchvision("MNIST", Path("data"), [], download=True)  # doctest: +SKIP
        >>> train.data.shape  # doctest: +SKIP
        torch.Size([60000, 28, 28])
    """
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, name)
    try:
        train = dataset(root, train=True, download=download)
        test = dataset(root, train=False, download=download)
    # Any exception, because torchvision's parsers raise various ones for missing, incomplete and damaged files.
    except Exception as error:
        missing = missing_files(root, wanted)
        problem = f"no usable {', '.join(wanted)} ({error})"
        if missing:
            problem = f"there is no {missing[0]}{alternative}"
        hint = "download=True (data.download=true) fetches it"
        if download:
            reason = " ".join(str(error).split())[:200]
            hint = f"the download failed ({reason})"
        raise FileNotFoundError(
            f"{name}: {problem}\nunder root={root} ({root.resolve()});\n{hint}.\n"
            f"Set root to the folder that has the files; {NO_FILES_NEEDED}."
        ) from error
    return train, test
