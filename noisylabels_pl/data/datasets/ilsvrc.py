"""The validation images of ILSVRC-12, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scipy.io import loadmat

from noisylabels_pl.data.datasets.image_lists import GUIDE, require_file

IMAGES = "ILSVRC2012_img_val"
GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
META = "ILSVRC2012_devkit_t12/data/meta.mat"


def read_ilsvrc_validation(root: Path, argument: str, synsets: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the names of the validation images of some classes, relative to ``root``, and their labels.

    Args:
        root: a folder with a folder for each synset, such as ``n01440764/ILSVRC2012_val_00000293.JPEG``; or the files
            as they are published: the images in ``ILSVRC2012_img_val/``, and ``ILSVRC2012_devkit_t12/``, whose numbers
            of classes are not in the order of the synsets.
        argument: the argument that names ``root``, for the messages.
        synsets: the synset of each class, in the order of the labels.

    Raises:
        FileNotFoundError: neither layout is there; the message names the missing file.

    Example:
        >>> read_ilsvrc_validation(Path("data/imagenet/val"), "imagenet", ["n01440764"])  # doctest: +SKIP
        (['n01440764/ILSVRC2012_val_00000293.JPEG', ...], [0, ...])
    """
    if not (root / IMAGES).is_dir():
        return _read_folders(root, argument, synsets)
    ground_truth = require_file("ILSVRC-12", argument, root, GROUND_TRUTH)
    synset_of = _read_meta(require_file("ILSVRC-12", argument, root, META))
    label_of = {synset: label for label, synset in enumerate(synsets)}
    names = []
    labels = []
    for number, line in enumerate(ground_truth.read_text().split(), 1):
        label = label_of.get(synset_of.get(int(line), ""))
        if label is not None:
            names.append(f"{IMAGES}/ILSVRC2012_val_{number:08d}.JPEG")
            labels.append(label)
    return names, labels


def _read_folders(root: Path, argument: str, synsets: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the images in the folders of the synsets."""
    names = []
    labels = []
    for label, synset in enumerate(synsets):
        if not (root / synset).is_dir():
            raise FileNotFoundError(
                f"ILSVRC-12: there is no {synset} and no {IMAGES} in {argument}={root} ({root.resolve()}); {GUIDE}"
            )
        found = sorted(path.name for path in (root / synset).iterdir() if path.suffix.lower() in (".jpeg", ".jpg"))
        names += [f"{synset}/{name}" for name in found]
        labels += [label] * len(found)
    return names, labels


def _read_meta(path: Path) -> dict[int, str]:
    """Return the synset of each number of a class in the ground truth."""
    synsets = loadmat(path, squeeze_me=True)["synsets"]
    return {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets}
