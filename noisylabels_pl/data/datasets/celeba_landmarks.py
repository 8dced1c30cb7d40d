"""Landmarks of CelebA's faces, predicted from features of a convolutional network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays, regression_arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.celeba_lists import COORDINATES, LANDMARKS, read_lists
from noisylabels_pl.data.files import load_npz
from noisylabels_pl.data.split import stratified_split

NUM_FEATURES = 512
FEATURES_FILE = "landmark_features.npz"
# PRL, section 6: "shuffle the coordinates (i.e. eyes to mouth)". The pairing is ours, and the nose stays.
_EYES_TO_MOUTH = {name: name.replace("eye", "mouth") for name in COORDINATES if "eye" in name}
ASYMMETRIC_MAP = _EYES_TO_MOUTH | {mouth: eye for eye, mouth in _EYES_TO_MOUTH.items()}


class CelebALandmarks(NoisyDataModule):
    """Serve the landmark coordinates of CelebA's 19,962 test images: 512 features and 10 targets of each.

    As in PRL (Liu et al., ICLR 2021 submission, section 6.1), the features are those of the last hidden layer of a
    three-layer convolutional network that learned the landmarks of the training images. This class reads them from a
    file, which ``experiments/prl/celeba/make_features.py`` of the repository makes once. The targets are standardized
    by the clean training targets. A random 80 % of the images, always the same, are the training set (15,969); the
    paper does not say which.

    Args:
        root: the folder that holds ``celeba/`` with ``list_landmarks_align_celeba.txt`` and
            ``list_eval_partition.txt``.
        features: the features file; ``None`` for ``celeba/landmark_features.npz`` under ``root``. It holds ``features``
            ``(n, 512)`` float32 and ``landmarks`` ``(n, 10)`` float32 of the test images, in the order of the lists.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a list or the features file is missing.
        ValueError: in ``setup``, if a list is damaged, or the features do not belong to the lists.

    Example:
        >>> data = CelebALandmarks("data", batch_size=512)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, root: str = "data", *, features: str | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.features = self.root / "celeba" / FEATURES_FILE if features is None else Path(features).expanduser()

    def load(self) -> Arrays:
        lists = read_lists(self.root / "celeba")
        y = lists.landmarks[2]  # of the test images
        x = self._read_features(y)
        num_samples = len(x)
        rng = np.random.default_rng(0)
        same_label = torch.zeros(num_samples)  # so the split is merely random
        train_indices, test_indices = stratified_split(torch.arange(num_samples), same_label, 4 * num_samples // 5, rng)
        return regression_arrays(
            x,
            y,
            train_indices,
            test_indices,
            names=lists.coordinates,
            origin=f"CelebA {self.features}",
            asymmetric_map=ASYMMETRIC_MAP,
        )

    def _read_features(self, landmarks: Tensor) -> Tensor:
        """Return ``(n, 512)`` float32 features, checked to belong to these landmarks."""
        command = f"python experiments/prl/celeba/make_features.py {self.root}"
        if self.features != self.root / "celeba" / FEATURES_FILE:
            command += f" --output {self.features}"
        if not self.features.is_file():
            raise FileNotFoundError(
                f"CelebALandmarks: there is no features file {self.features.resolve()};\nmake it once, in a clone of "
                f"the repository, by:\n{command}"
            )
        remedy = f"delete it and make it again: {command}"
        try:
            stored = load_npz(self.features, "features")
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from error
        x = stored.get("features")
        y = stored.get("landmarks")
        shape = (len(landmarks), NUM_FEATURES)
        if x is None or x.shape != shape or x.dtype != np.float32 or not np.isfinite(x).all():
            raise ValueError(f"features: {self.features} must hold finite float32 features {shape}; {remedy}")
        if y is None or not np.array_equal(y, landmarks.numpy()):
            raise ValueError(f"features: {self.features} belongs to other images than {LANDMARKS} lists; {remedy}")
        return torch.from_numpy(x)
