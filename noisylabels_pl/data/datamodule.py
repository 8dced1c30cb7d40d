"""From arrays and noise to loaders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.augment import crop_and_flip
from noisylabels_pl.data.batch import Batch
from noisylabels_pl.data.indexed import indexed
from noisylabels_pl.data.noise import LabelNoise
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.resident import Resident, ResidentRows, fits
from noisylabels_pl.data.sampler import SelectionSampler


class NoisyDataModule(L.LightningDataModule, ABC):
    """A dataset in memory whose training labels were corrupted once, before the validation split.

    Batches travel as stored (uint8 for images) and are normalized, and in training augmented, on the device. What a
    sample's augmentation is in an epoch follows from ``(seed, epoch, index)``, so it does not depend on workers, ranks
    or the order of samples. A network in ``eval()`` mode sees nothing augmented.

    Args:
        noise: what to do to the training labels.
        batch_size: samples per optimizer step, on all devices together.
        val_fraction: share of the training set, with its noisy labels, that is held out for validation.
        train_size: keep only so many training samples, chosen at random and stratified; ``None`` for all.
        crop_padding: in training, crop at random after padding so many pixels; 0 for no cropping.
        flip: in training, mirror half of the images.
        num_workers: of the loaders. Batches are cut from memory, so 0 is fastest for all but huge sets.
        resident: hold the dataset on the device that trains, and cut batches out of it there: ``True``, ``False``, or
            ``"auto"``, if it takes at most a quarter of what is free and there are no workers. Results are the same; a
            hook before the transfer finds :class:`~noisylabels_pl.data.resident.ResidentRows` in the batch.
        seed: of split, order and augmentation.

    Attributes:
        arrays: the dataset, after :meth:`setup`.
        labels: its observed and true training labels, before the split.
        train_indices: rows of the training split.
        clean_targets: true labels of the training split, aligned with ``Batch.index``, for metrics and audits only;
            ``None`` if they are not known.
    """

    def __init__(
        self,
        noise: LabelNoise | None = None,
        *,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        train_size: int | None = None,
        crop_padding: int = 0,
        flip: bool = False,
        num_workers: int = 0,
        resident: bool | str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise ValueError(f"data.val_fraction must lie in [0, 1), got {val_fraction}")
        if batch_size < 1 or int(batch_size) != batch_size:
            raise ValueError(f"data.batch_size must be a whole number of at least 1, got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"data.num_workers must not be negative, got {num_workers}")
        if train_size is not None and train_size < 1:
            raise ValueError(f"data.train_size must be at least 1, got {train_size}")
        if crop_padding < 0:
            raise ValueError(f"data.crop_padding must not be negative, got {crop_padding}")
        if resident not in (True, False, "auto"):
            raise ValueError(f"data.resident must be true, false or auto, got {resident!r}")
        if resident is True and num_workers:
            raise ValueError(
                f"data.resident=true leaves nothing to do for data.num_workers={num_workers}; set it to 0, or "
                "data.resident=auto"
            )
        self.label_noise = noise or LabelNoise()
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.train_size = train_size
        self.crop_padding = crop_padding
        self.flip = flip
        self.num_workers = num_workers
        self.resident = resident
        self.seed = seed
        self._train_loader: tuple[L.Trainer | None, DataLoader[Any]] | None = None
        self._residents: dict[tuple[str, torch.device], Resident | None] = {}
        self._moments: tuple[Tensor, Tensor] | None = None
        self._draws: tuple[int, Tensor, Tensor] | None = None
        self._is_set_up = False

    @abstractmethod
    def load(self) -> Arrays:
        """Read the dataset."""

    def setup(self, stage: str | None = None) -> None:
        """Read, corrupt and split; a second call does nothing."""
        if self._is_set_up:
            return
        self.arrays = arrays = self.load()
        if (self.crop_padding or self.flip) and arrays.x_train.ndim != 4:
            raise ValueError("data.crop_padding and data.flip are for images; set them to 0 and false for features")
        self.labels: NoisyLabels = self.label_noise.apply(
            arrays.y_train,
            arrays.class_names,
            clean=arrays.y_train_clean,
            asymmetric_map=arrays.asymmetric_map,
            features=arrays.x_train,
            spread=arrays.std,
        )
        self._x_train = self.labels.training_features(arrays.x_train)
        # Regression targets are split at random, as labels of one class.
        strata = torch.zeros(len(arrays.y_train)) if arrays.is_regression else self.labels.observed
        rng = np.random.default_rng([self.seed, 0])
        rows = torch.arange(len(arrays.y_train))
        if self.train_size is not None and self.train_size < len(rows):
            rows, _ = stratified_split(rows, strata, self.train_size, rng)
        held_out = round(self.val_fraction * len(rows))
        self.val_indices, self.train_indices = stratified_split(rows, strata[rows], held_out, rng)
        if not len(self.train_indices):
            raise ValueError(f"data.val_fraction={self.val_fraction} of {len(rows)} samples leaves none to train on")
        if arrays.is_regression and len(self.val_indices) == 1:
            raise ValueError(
                f"data.val_fraction={self.val_fraction} of {len(rows)} samples is one, of which there is no R2; take 0 "
                "or more"
            )
        clean = self.labels.clean
        self.clean_targets: Tensor | None = None if clean is None else clean[self.train_indices]
        self._is_set_up = True

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.arrays.x_train.shape[1:])

    def train_dataloader(self) -> DataLoader[Any]:
        # In a fit always the same object: its sampler holds the selection of the coming epoch.
        running = self._running()
        if self._train_loader is None or self._train_loader[0] is not running:
            size = self._batch_size_per_device()
            dataset = self._rows("train", self._x_train, self.labels.observed, self.train_indices)
            loader = DataLoader(dataset, size, shuffle=True, num_workers=self.num_workers, collate_fn=_identity)
            self._train_loader = running, indexed(loader, seed=self.seed, as_batches=True)
        return self._train_loader[1]

    def val_dataloader(self) -> dict[str, DataLoader[Any]]:
        """The noisy validation split as ``val``, if there is one, and the clean test set as ``test``."""
        test = self.test_dataloader()
        if not len(self.val_indices):
            return {"test": test}
        return {
            "val": self._evaluation_loader("train", self._x_train, self.labels.observed, self.val_indices),
            "test": test,
        }

    def test_dataloader(self) -> DataLoader[Any]:
        rows = torch.arange(len(self.arrays.y_test))
        return self._evaluation_loader("test", self.arrays.x_test, self.arrays.y_test, rows)

    def teardown(self, stage: str) -> None:
        """Let go of the device's memory, and of the trainer; what that still has keeps working."""
        self._train_loader, self._residents, self._moments, self._draws = None, {}, None, None

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, Batch):
            self._prepare(batch)
            return batch
        x, y = batch
        if isinstance(x, ResidentRows):
            x, y = x.of.take(x.rows)
        return self._normalize(x), self._cast_to_module(y)

    def _prepare(self, batch: Batch) -> None:
        draws = self._augmentation_for(batch.index)
        if isinstance(batch.x, ResidentRows):
            batch.x, batch.y = batch.x.of.take(batch.x.rows, *draws)
        elif draws:
            batch.x = crop_and_flip(batch.x, *draws, padding=self.crop_padding)
        batch.x, batch.y = self._normalize(batch.x), self._cast_to_module(batch.y)
        if batch.partner is not None:
            self._prepare(batch.partner)

    def _normalize(self, x: Tensor) -> Tensor:
        if self._moments is None or self._moments[0].device != x.device:
            self._moments = self.arrays.mean.to(x.device), self.arrays.std.to(x.device)
        mean, std = self._moments
        return self._cast_to_module((x.float() - mean).div_(std))

    def _cast_to_module(self, values: Tensor) -> Tensor:
        """Real numbers in the module's precision, which may be 64-true or bf16-true."""
        module = None if self.trainer is None else self.trainer.lightning_module
        return values if module is None or not values.is_floating_point() else values.to(module.dtype)

    def _augmentation_for(self, index: Tensor) -> tuple[Tensor, ...]:
        """Offsets of the crops and flips of some training samples in this epoch; nothing if they stay as they are."""
        trainer = self.trainer
        if not (self.crop_padding or self.flip) or trainer is None:
            return ()
        if not (trainer.training and trainer.lightning_module.training):
            return ()
        epoch = trainer.current_epoch
        if self._draws is None or self._draws[0] != epoch or self._draws[1].device != index.device:
            rng = np.random.default_rng([self.seed, 1, epoch])
            offsets = rng.integers(0, 2 * self.crop_padding + 1, size=(len(self.train_indices), 2))
            flips = rng.random(len(self.train_indices)) < 0.5 * self.flip
            self._draws = epoch, torch.from_numpy(offsets).to(index.device), torch.from_numpy(flips).to(index.device)
        return self._draws[1][index], self._draws[2][index]

    def _batch_size_per_device(self) -> int:
        devices = 1 if self.trainer is None else self.trainer.world_size
        if self.batch_size % devices:
            raise ValueError(
                f"data.batch_size={self.batch_size} is the size on all devices together and does not divide by "
                f"{devices} devices; take {self.batch_size // devices * devices or devices}"
            )
        return self.batch_size // devices

    def _evaluation_loader(self, name: str, x: Tensor, y: Tensor, rows: Tensor) -> DataLoader[Any]:
        dataset = self._rows(name, x, y, rows)
        sampler = SelectionSampler(dataset, shuffle=False, pad=False)
        return DataLoader(dataset, batch_size=512, sampler=sampler, num_workers=self.num_workers, collate_fn=_identity)

    def _running(self) -> L.Trainer | None:
        """The trainer that fits or evaluates now; what else asks for a loader gets plain batches."""
        return None if self.trainer is None or self.trainer.state.stage is None else self.trainer

    def _rows(self, name: str, x: Tensor, y: Tensor, rows: Tensor) -> _Rows:
        """Some rows of the training or the test arrays, on the device that trains if they are to lie there."""
        trainer = self._running()
        if self.resident is False or self.num_workers or trainer is None:
            return _Rows(x, y, rows)
        device = trainer.strategy.root_device
        if (name, device) not in self._residents:
            padding = self.crop_padding if name == "train" and (self.crop_padding or self.flip) else None
            size = Resident.size(x, y, padding)
            wanted = self.resident is True or fits(size, device)
            self._residents[name, device] = Resident(x, y, device, padding) if wanted else None
        return _Rows(x, y, rows, self._residents[name, device])


class _Rows(Dataset[Any]):
    """Some rows of arrays, cut out a batch at a time, or only named where the arrays lie on the device."""

    def __init__(self, x: Tensor, y: Tensor, rows: Tensor, resident: Resident | None = None) -> None:
        self.x = x
        self.y = y
        self.rows = rows
        self.resident = resident

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> tuple[Any, Any]:
        rows = self.rows[indices]
        return (self.x[rows], self.y[rows]) if self.resident is None else (ResidentRows(self.resident, rows), None)


def _identity(batch: Any) -> Any:
    return batch


def stratified_split(rows: Tensor, labels: Tensor, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """``size`` of the rows, with the label shares of all of them as nearly as rounding allows, and the others.

    Args:
        rows: ``(n,)`` int64.
        labels: ``(n,)`` the label of each row.
        size: how many rows to take, ``0..n``.
        rng: chooses which.

    Returns:
        The two parts, each in ascending order.
    """
    shuffled = torch.from_numpy(rng.permutation(len(rows)))
    # Sorted by label, every (n / size)-th row gives each label its share; a stable sort keeps the shuffle within one.
    by_label = shuffled[labels[shuffled].sort(stable=True).indices]
    taken = torch.zeros(len(rows), dtype=torch.bool)
    taken[by_label[torch.arange(size) * len(rows) // max(size, 1)]] = True
    return rows[taken], rows[~taken]
