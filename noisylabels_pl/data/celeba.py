"""Landmarks of CelebA's faces, predicted from the features of a network that is trained here."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, TensorDataset

from noisylabels_pl.data.arrays import Array, Arrays, load_npz, standardise
from noisylabels_pl.data.datamodule import NoisyDataModule, stratified_split

COORDINATES = tuple(
    f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
# PRL, section 6: "shuffle the coordinates (i.e. eyes to mouth)"; which to which is ours, the nose stays.
_EYES_TO_MOUTH = {name: name.replace("eye", "mouth") for name in COORDINATES if "eye" in name}
ASYMMETRIC_MAP = _EYES_TO_MOUTH | {mouth: eye for eye, mouth in _EYES_TO_MOUTH.items()}
LANDMARKS, PARTITION, IMAGES = "list_landmarks_align_celeba.txt", "list_eval_partition.txt", "img_align_celeba"
NUM_FEATURES, LEARNING_RATE, BATCH_SIZE = 512, 1e-3, 256
_log = logging.getLogger(__name__)


class CelebALandmarks(NoisyDataModule):
    """Ten landmark coordinates of CelebA's 19,962 test images, from 512 features of each; 15,969 are for training.

    As in PRL (Liu et al. 2021, section 6.1) a three-layer CNN learns the clean coordinates from the training images,
    the validation images stop it early, and its last hidden layer gives the features of the test images. The targets
    are standardised with the clean training targets. The paper does not give the rest, which is ours: square images of
    ``image_size`` pixels; 3x3 convolutions of stride 2 with 32, 64 and 128 channels and ReLU, averaged to 2x2; mean
    squared error of standardised coordinates, Adam with learning rate 1e-3, batches of 256; the weights of the best
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
        lists = _read_lists(folder)
        cache = folder / f"landmark_features_{self._fingerprint(folder)}.npz"
        if not cache.is_file():
            self._make(cache, lists)
        y = lists.landmarks[2]
        x = _read_features(cache, y)
        rows = torch.arange(len(x))
        train, test = stratified_split(rows, torch.zeros(len(x)), 4 * len(x) // 5, np.random.default_rng(0))
        y_train, y_test = standardise(y[train], y[test])
        std, mean = torch.std_mean(x[train].double(), dim=0, correction=0)
        return Arrays(
            x_train=x[train],
            y_train=y_train,
            x_test=x[test],
            y_test=y_test,
            class_names=lists.coordinates,
            mean=mean.float(),
            std=torch.where(std > 0, std, 1.0).float(),
            origin=f"CelebA {cache}",
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=y_train,
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

    def _make(self, cache: Path, lists: _Lists) -> None:
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
                features = self._train(folder, lists)
                np.savez(file, features=features.numpy(), landmarks=lists.landmarks[2].numpy())
            # All or nothing, because a half-written file would pass for the features.
            os.replace(partial, cache)
        finally:
            partial.unlink(missing_ok=True)
        _log.info("CelebA: wrote the features to %s; runs with the same options read them", cache)

    def _train(self, folder: Path, lists: _Lists) -> Tensor:
        """``(n, 512)`` features of the test images, from a network that saw the others only."""
        from lightning.pytorch.callbacks import EarlyStopping

        _log.info(
            "CelebA: no features for these options under data.root=%s yet. Reading %d images (data.num_workers=%d), "
            "then training a network on them for up to %d epochs; this takes long, but happens once",
            self.root,
            len(lists.lines),
            self.num_workers,
            self.feature_epochs,
        )
        y_train, y_val = standardise(lists.landmarks[0], lists.landmarks[1])
        with _repeatable(self.feature_seed):
            x_train, x_val, x_test = (self._read_images(folder, names) for names in lists.names)
            net = _LandmarkNet(self.image_size)
            trainer = L.Trainer(
                devices=1,
                max_epochs=self.feature_epochs,
                callbacks=[EarlyStopping("val_loss", patience=self.patience)],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
            )
            trainer.fit(net, _batches(x_train, y_train, shuffle=True), _batches(x_val, y_val))
            net.load_state_dict(net.best_weights)
            features: Any = trainer.predict(net, _batches(x_test))
        return torch.cat(features)

    def _read_images(self, folder: Path, names: Sequence[str]) -> Tensor:
        """``(n, 3, image_size, image_size)`` uint8; decoded once here, not once per epoch."""
        loader = DataLoader(_Images(folder, names, self.image_size), BATCH_SIZE, num_workers=self.num_workers)
        images = torch.empty(len(names), self.image_size, self.image_size, 3, dtype=torch.uint8)
        for part, batch in zip(torch.split(images, BATCH_SIZE), loader, strict=True):
            part.copy_(batch)
        return images.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Lists:
    """What the two lists say: for training, validation and test images their names and ``(n, 10)`` landmarks."""

    coordinates: tuple[str, ...]
    names: list[list[str]]
    landmarks: list[Tensor]
    lines: dict[int, str]  # the image of each line of the list of landmarks, for messages


class _Images(Dataset[Tensor]):
    """Images of a folder as ``(size, size, 3)`` uint8."""

    def __init__(self, folder: Path, names: Sequence[str], size: int) -> None:
        self.folder = folder
        self.names = names
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image

        path = self.folder / self.names[index]
        try:
            with Image.open(path) as image:
                resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        except OSError as error:
            raise ValueError(f"data.root: {path} is not a readable image ({error}); unpack it again") from error
        return torch.from_numpy(np.array(resized))


class _LandmarkNet(L.LightningModule):
    """Three convolutions and a linear layer; keeps the weights of the epoch with the lowest validation loss."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        layers = [
            layer
            for channels, width in pairwise((3, 32, 64, 128))
            for layer in (nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU())
        ]
        # To 2x2; the gradient of AdaptiveAvgPool2d(2), which would give the same, is not deterministic on GPUs.
        self.features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 16), nn.Flatten())
        self.head = nn.Linear(NUM_FEATURES, len(COORDINATES))
        self.best_loss = math.inf
        self.best_weights = copy.deepcopy(self.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images.float() / 127.5 - 1)
        return features

    def _loss(self, batch: list[Tensor]) -> Tensor:
        images, targets = batch
        return F.mse_loss(self.head(self(images)), targets)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch), batch_size=len(batch[0]))

    def on_validation_epoch_end(self) -> None:
        loss = float(self.trainer.callback_metrics["val_loss"])
        _log.info("CelebA: epoch %d, validation loss %.4f", self.current_epoch + 1, loss)
        if loss < self.best_loss:
            self.best_loss, self.best_weights = loss, copy.deepcopy(self.state_dict())

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.forward(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), LEARNING_RATE)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Random numbers that start from ``seed``, and deterministic convolutions; as before afterwards."""
    # Not cudnn.flags(), which fails once somebody has set the precision of convolutions alone.
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before


def _batches(*tensors: Tensor, shuffle: bool = False) -> DataLoader[Any]:
    """Batches that are cut out at once, in an order that follows from torch's seed."""
    dataset = TensorDataset(*tensors)
    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, BATCH_SIZE, drop_last=False))


def _read_lists(folder: Path) -> _Lists:
    """Read and check both lists.

    Raises:
        ValueError: naming the file and the line that is wrong.
    """
    path, partition = folder / LANDMARKS, folder / PARTITION
    lines, assigned = (_lines(name) for name in (path, partition))
    coordinates = tuple(lines[1].split()) if len(lines) > 1 else ()
    if sorted(coordinates) != sorted(COORDINATES):
        raise ValueError(f"data.root: {path}, line 2 must name the coordinates {' '.join(COORDINATES)}")
    landmarks = _rows(path, lines, 3, len(coordinates))
    if lines[0].strip() != str(len(landmarks)):
        raise ValueError(
            f"data.root: {path}, line 1 announces {lines[0][:80]!r} images, but {len(landmarks)} follow; fetch it again"
        )
    names: list[list[str]] = [[], [], []]
    split_of = _rows(partition, assigned, 1, 1)
    for number, (image, (split,)) in enumerate(split_of.items(), 1):
        if split not in (0, 1, 2) or image not in landmarks:
            wanted = "0, 1 or 2" if image in landmarks else f"an image that is in {LANDMARKS}"
            raise ValueError(f"data.root: {partition}, line {number}: {assigned[number - 1]!r} needs {wanted}")
        names[int(split)].append(image)
    numbered = dict(enumerate(landmarks, 3))
    for number, image in numbered.items():
        if image not in split_of:
            raise ValueError(f"data.root: {path}, line {number}: {image} is not in {partition}; fetch both again")
    for split, kind in enumerate(("training", "validation", "test")):
        if len(names[split]) < 2:
            raise ValueError(
                f"data.root: {partition}: {len(names[split])} of its {len(split_of)} lines name {kind} images "
                f"({split}); at least 2 are needed"
            )
    return _Lists(
        coordinates, names, [torch.tensor([landmarks[image] for image in part]) for part in names], lines=numbered
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()


def _rows(path: Path, lines: list[str], first: int, width: int) -> dict[str, list[float]]:
    """``{image: numbers}`` of the lines from number ``first`` on, counted from 1."""
    rows: dict[str, list[float]] = {}
    for number, line in enumerate(lines[first - 1 :], first):
        image, *values = line.split() or [""]
        try:
            numbers = [float(value) for value in values]
        except ValueError:
            numbers = []
        if len(numbers) != width or image in rows or not all(map(math.isfinite, numbers)):
            expected = f"an image that was not named before and {width} number{'s'[: width > 1]}"
            raise ValueError(f"data.root: {path}, line {number}: {line[:80]!r} must be {expected}; fetch it again")
        rows[image] = numbers
    return rows


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
