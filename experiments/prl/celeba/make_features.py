"""Make the features of CelebA's test images that data=celeba_landmarks reads.

usage: python experiments/prl/celeba/make_features.py ROOT [--image-size 64] [--max-epochs 50] [--patience 5]
           [--seed 0] [--num-workers 0] [--output ROOT/celeba/landmark_features.npz]

ROOT is the folder that holds celeba/ in the official layout. As in PRL (section 6.1) a three-layer convolutional
network learns the clean landmarks of the training images, the validation images stop it, and its last hidden layer
gives the features of the test images. This takes long (on a GPU if there is one), but only once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from landmark_net import BATCH_SIZE, learned_features, repeatable
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from noisylabels_pl.data.arrays import standardize
from noisylabels_pl.data.datasets.celeba_landmarks import FEATURES_FILE
from noisylabels_pl.data.datasets.celeba_lists import IMAGES, LANDMARKS, CelebALists, missing_file, read_lists
from noisylabels_pl.data.files import write_atomically
from noisylabels_pl.functional import check_range

_log = logging.getLogger("celeba")


def make_features(
    root: Path,
    output: Path | None = None,
    *,
    image_size: int = 64,
    max_epochs: int = 50,
    patience: int = 5,
    seed: int = 0,
    num_workers: int = 0,
) -> Path:
    """Train the network, write the features of the test images all-or-nothing, and return the file.

    Args:
        root: the folder that holds ``celeba/``.
        output: the file to write; ``None`` for ``celeba/landmark_features.npz`` under ``root``.
        image_size: height and width to which images are scaled, a multiple of 16. Images of 64 pixels take 2.5 GB of
            memory.
        max_epochs: the largest number of epochs.
        patience: epochs without a lower validation loss after which training stops.
        seed: the seed of the network's weights and batches.
        num_workers: processes that read images.

    Raises:
        FileExistsError: the output is there already.
        FileNotFoundError: a list or the folder of images is missing.
        OSError: the output cannot be written.
        ValueError: an option is out of range, or a list or an image is damaged.
    """
    if image_size < 16 or image_size % 16:
        raise ValueError(f"image_size must be a multiple of 16, got {image_size}; 64 is the default")
    check_range("max_epochs", max_epochs, "[1, inf)", integer=True)
    check_range("patience", patience, "[1, inf)", integer=True)
    check_range("seed", seed, "[0, inf)", integer=True)
    folder = root / "celeba"
    lists = read_lists(folder)
    _check_images(folder, lists)
    output = output or folder / FEATURES_FILE
    if output.exists():
        raise FileExistsError(f"output: {output} is there already; delete it, or set --output to another file")
    # Opened first, so that a folder that cannot be written to is known before the hours of training.
    with write_atomically(output) as partial, partial.open("wb") as file:
        _log.info(
            "CelebA: reading %d images of %s (num_workers=%d), then training a network on them for up to %d "
            "epochs; this takes long, but happens once",
            len(lists.lines),
            folder / IMAGES,
            num_workers,
            max_epochs,
        )
        with repeatable(seed):
            # Of the training, the validation and the test images; the targets of the last are not needed.
            images = [_read_images(folder / IMAGES, names, image_size, num_workers) for names in lists.names]
            targets = standardize(lists.landmarks[0], lists.landmarks[1])
            features = learned_features(
                images, targets, image_size=image_size, max_epochs=max_epochs, patience=patience
            )
        np.savez(
            file,
            features=features.numpy(),
            landmarks=lists.landmarks[2].numpy(),
            image_size=image_size,
            max_epochs=max_epochs,
            patience=patience,
            seed=seed,
        )
    _log.info("CelebA: wrote the features to %s", output)
    return output


def _check_images(folder: Path, lists: CelebALists) -> None:
    """Raise an error if the folder of images, or an image of the list of landmarks, is missing."""
    if not (folder / IMAGES).is_dir():
        raise missing_file(folder, f"{IMAGES}/")
    present = set(os.listdir(folder / IMAGES))
    for line_number, image in lists.lines.items():
        if image not in present:
            raise ValueError(
                f"root: {folder / LANDMARKS}, line {line_number}: there is no image {image} in {folder / IMAGES}; "
                "unpack all of img_align_celeba.zip there"
            )


def _read_images(folder: Path, names: Sequence[str], size: int, num_workers: int) -> Tensor:
    """Return ``(n, 3, size, size)`` uint8 images; decoded once here, not once per epoch."""
    loader = DataLoader(_Images(folder, names, size), BATCH_SIZE, num_workers=num_workers)
    images = torch.empty(len(names), size, size, 3, dtype=torch.uint8)
    for chunk, batch in zip(torch.split(images, BATCH_SIZE), loader, strict=True):
        chunk.copy_(batch)
    return images.permute(0, 3, 1, 2)


class _Images(Dataset[Tensor]):
    """Images of a folder as ``(size, size, 3)`` uint8."""

    def __init__(self, folder: Path, names: Sequence[str], size: int) -> None:
        self.folder = folder
        self.names = names
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        path = self.folder / self.names[index]
        try:
            with Image.open(path) as image:
                resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        except OSError as error:
            raise ValueError(f"root: {path} is not a readable image ({error}); unpack it again") from error
        return torch.from_numpy(np.array(resized))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--max-epochs", type=int, default=50)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        make_features(**options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
