"""Landmarks of CelebA's faces, predicted from the features of a network that is trained here."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array, Arrays, load_npz, regression_arrays
from noisylabels_pl.data.datamodule import NoisyDataModule, stratified_split
from noisylabels_pl.data.datasets.celeba_features import BATCH_SIZE, LEARNING_RATE, NUM_FEATURES, celeba_features
from noisylabels_pl.data.datasets.celeba_lists import COORDINATES, IMAGES, LANDMARKS, PARTITION, Lists, read_lists

# PRL, section 6: "shuffle the coordinates (i.e. eyes to mouth)"; which to which is ours, the nose stays.
_EYES_TO_MOUTH = {name: name.replace("eye", "mouth") for name in COORDINATES if "eye" in name}
ASYMMETRIC_MAP = _EYES_TO_MOUTH | {mouth: eye for eye, mouth in _EYES_TO_MOUTH.items()}
_log = logging.getLogger(__name__)


class CelebALandmarks(NoisyDataModule):
    """Ten landmark coordinates of CelebA's 19,962 test images, from 512 features of each; 15,969 are for training.

    As in PRL (Liu et al. 2021, section 6.1) a three-layer CNN learns the clean coordinates from the training images,
    the validation images stop it early, and its last hidden layer gives the features of the test images. The targets
    are standardized with the clean training targets. The paper does not give the rest, which is ours: square images of
    ``image_size`` pixels; 3x3 convolutions of stride 2 with 32, 64 and 128 channels and ReLU, averaged to 2x2; mean
    squared error of standardized coordinates, Adam with learning rate 1e-3, batches of 256; the weights of the best
    validation epoch; which images are the random 80 % (always the same). Neither does it say how many epochs to train
    on the features.

    The training takes long, on a GPU if there is one, and 2.5 GB of memory for images of 64 pixels (four times that for
    128). It happens once: the features are kept in ``celeba/landmark_features_<hash>.npz``, where the hash covers the
    options here and the two lists, but not the images. Where a launcher starts all processes of a run at once
    (torchrun, SLURM), make that file first in a run with one process.

    Args:
        root: folder that holds ``celeba/`` with ``img_align_celeba/``, ``list_landmarks_align_celeba.txt`` and
            ``list_eval_partition.txt``; it must be writable until the features are there.
        image_size: of the CNN's input, a multiple of 16.
        feature_epochs: train the CNN for at most so many.
        patience: stop after so many epochs without a lower validation loss.
        feature_seed: of the CNN's weights and batches, and of nothing else.
        **common: see :class:`NoisyDataModule`; ``num_workers`` also read the images.
    """

    def __init__(
        self,
        root: str = "data",
        *,
        image_size: int = 64,
        feature_epochs: int = 50,
        patience: int = 5,
        feature_seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if image_size < 16 or image_size % 16:
            raise ValueError(f"data.image_size must be a multiple of 16, got {image_size}; 64 is the default")
        for name, value in (("feature_epochs", feature_epochs), ("patience", patience)):
            if value < 1:
                raise ValueError(f"data.{name} must be at least 1, got {value}")
        if feature_seed < 0:
            raise ValueError(f"data.feature_seed must not be negative, got {feature_seed}")
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.feature_epochs = feature_epochs
        self.patience = patience
        self.feature_seed = feature_seed

    def load(self) -> Arrays:
        folder = self.root / "celeba"
        for name in (LANDMARKS, PARTITION):
            if not (folder / name).is_file():
                raise self._missing(name)
        lists = read_lists(folder)
        cache = folder / f"landmark_features_{self._fingerprint(folder)}.npz"
        if not cache.is_file():
            self._make(cache, lists)
        y = lists.landmarks[2]
        x = _read_features(cache, y)
        rows = torch.arange(len(x))
        train, test = stratified_split(rows, torch.zeros(len(x)), 4 * len(x) // 5, np.random.default_rng(0))
        return regression_arrays(
            x, y, train, test, names=lists.coordinates, origin=f"CelebA {cache}", asymmetric_map=ASYMMETRIC_MAP
        )

    def _missing(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"CelebALandmarks: there is no celeba/{name}\nunder data.root={self.root} ({self.root.resolve()});\n"
            f"the official layout is celeba/{IMAGES}/000001.jpg ...,\nceleba/{LANDMARKS} and celeba/{PARTITION}.\n"
            "Set data.root to the folder that has celeba/."
        )

    def _fingerprint(self, folder: Path) -> str:
        options = (self.image_size, self.feature_epochs, self.patience, self.feature_seed, LEARNING_RATE, BATCH_SIZE)
        hasher = hashlib.sha256(repr(options).encode())
        for name in (LANDMARKS, PARTITION):
            hasher.update(hashlib.sha256((folder / name).read_bytes()).digest())
        return hasher.hexdigest()[:16]

    def _make(self, cache: Path, lists: Lists) -> None:
        folder = cache.parent / IMAGES
        if not folder.is_dir():
            raise self._missing(f"{IMAGES}/")
        present = set(os.listdir(folder))
        for number, image in lists.lines.items():
            if image not in present:
                raise ValueError(
                    f"data.root: {cache.parent / LANDMARKS}, line {number}: there is no image {image} in {folder}; "
                    "unpack all of img_align_celeba.zip there"
                )
        partial = cache.with_name(f".{cache.name}.{os.getpid()}.partial")
        # Opened first, so that a folder that cannot be written to is known before the hours of training.
        try:
            file = partial.open("wb")
        except OSError as error:
            raise PermissionError(
                f"data.root: {cache.parent} must be writable, to keep the features there ({error}); or set data.root "
                "to a writable folder with links to the files"
            ) from error
        try:
            with file:
                features = celeba_features(
                    folder,
                    lists,
                    image_size=self.image_size,
                    max_epochs=self.feature_epochs,
                    patience=self.patience,
                    seed=self.feature_seed,
                    num_workers=self.num_workers,
                )
                np.savez(file, features=features.numpy(), landmarks=lists.landmarks[2].numpy())
            # All or nothing, because a half-written file would pass for the features.
            os.replace(partial, cache)
        finally:
            partial.unlink(missing_ok=True)
        _log.info("CelebA: wrote the features to %s; runs with the same options read them", cache)


def _read_features(cache: Path, landmarks: Tensor) -> Tensor:
    """``(n, 512)`` float32, checked to belong to these landmarks."""
    remedy = "delete it, and the features are made again"
    try:
        stored: dict[str, Array] = load_npz(cache, "data.root")
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from error
    x, y = stored.get("features"), stored.get("landmarks")
    if x is None or x.shape != (len(landmarks), NUM_FEATURES) or x.dtype != np.float32 or not np.isfinite(x).all():
        raise ValueError(
            f"data.root: {cache} must hold finite float32 features ({len(landmarks)}, {NUM_FEATURES}); {remedy}"
        )
    if y is None or not np.array_equal(y, landmarks.numpy()):
        raise ValueError(f"data.root: {cache} holds features of other images than {LANDMARKS} lists; {remedy}")
    return torch.from_numpy(x)
