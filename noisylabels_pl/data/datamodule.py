"""The data module: from arrays and noise to loaders."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.augment import Augmentation, EpochAugmentations, center_crop, crop_and_flip
from noisylabels_pl.data.batch import Batch
from noisylabels_pl.data.class_cap import ClassCap
from noisylabels_pl.data.files import write_atomically
from noisylabels_pl.data.indexed import indexed, keep_collated
from noisylabels_pl.data.labeled_samples import LabeledSamples
from noisylabels_pl.data.noise import LabelNoise, Noise
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.normalization import Normalization, set_normalization
from noisylabels_pl.data.resident import ResidentDataset, ResidentRows, fits_on_device
from noisylabels_pl.data.sampler import SelectionSampler
from noisylabels_pl.data.samples import Samples, read_all
from noisylabels_pl.data.split import split_off_validation
from noisylabels_pl.functional import check_choice, check_range

_EVALUATION_BATCH_SIZE = 512


class NoisyDataModule(L.LightningDataModule, ABC):
    """Serve a dataset whose training labels are corrupted once, before the validation split.

    A subclass reads its dataset in :meth:`load`. Batches travel as stored (uint8 for images); they are normalized, and
    in training augmented, on the device. The augmentation of a sample in an epoch follows from ``(seed, epoch,
    index)``, so it does not depend on workers, ranks or the order of samples. A network in ``eval()`` mode sees
    samples without augmentation.

    Args:
        noise: the corruption of the training labels; ``None`` for none.
        batch_size: samples per optimizer step, on all devices together.
        val_fraction: the fraction of the training set, with its noisy labels, that is held out for validation, unless
            the dataset says which samples are.
        train_size: the number of training samples to keep, chosen at random and stratified; ``None`` for all.
        crop_padding: in training, crop images at random after padding by this many pixels; 0 for no cropping.
        flip: in training, mirror half of the images.
        crop_size: height and width of the part of each image that the network gets: out of the middle, and in training
            at random if ``crop_padding`` or ``flip`` is set; ``None`` for whole images.
        normalization: ``"standardize"`` by mean and standard deviation, ``"unit"`` for bytes divided by 255,
            ``"pixel_mean"`` to subtract the mean of each pixel, or ``"imagenet"`` for pretrained networks.
        drop_last: in training, leave a last batch out that is not full.
        num_workers: worker processes of the loaders. For a dataset in memory 0 is fastest; files are decoded by the
            workers, unless the dataset is resident.
        resident: hold the dataset on the training device and cut batches out of it there: ``True``, ``False``, or
            ``"auto"``, which does so if the dataset takes at most a quarter of the free memory, but not if a dataset
            in memory has workers. Results are the same, but a hook before the transfer finds
            :class:`~noisylabels_pl.data.resident.ResidentRows` in the batch.
        seed: the seed of split, order and augmentation.

    Attributes:
        arrays: the dataset, after :meth:`setup`.
        labels: the observed and the true training labels, before the split.
        train_indices: rows of the training split, ascending int64.
        val_indices: rows of the validation split, ascending int64.
        max_per_class: an epoch is a random subset with at most this many samples of each observed class; ``None``,
            unless a subclass sets it, for all samples. Where a method selects samples, it selects from all.
        clean_targets: true labels of the training split, aligned with ``Batch.index``, for metrics and audits only;
            ``None`` if they are unknown.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> from noisylabels_pl.data import Digits
        >>> data = Digits(LabelNoise("sym", rate=0.4, count="exact"), train_size=100, batch_size=20)
        >>> data.setup()
        >>> len(data.train_indices), len(data.val_indices)
        (90, 10)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.x.shape, batch.y.shape, batch.index.shape
        (torch.Size([20, 1, 8, 8]), torch.Size([20]), torch.Size([20]))
    """

    max_per_class: int | None = None

    def __init__(
        self,
        noise: Noise | None = None,
        *,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        train_size: int | None = None,
        crop_padding: int = 0,
        flip: bool = False,
        crop_size: int | None = None,
        normalization: Normalization = "standardize",
        drop_last: bool = False,
        num_workers: int = 0,
        resident: bool | Literal["auto"] = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("batch_size", batch_size, "[1, inf)", integer=True)
        check_range("val_fraction", val_fraction, "[0, 1)")
        if train_size is not None:
            check_range("train_size", train_size, "[1, inf)", integer=True)
        check_range("crop_padding", crop_padding, "[0, inf)", integer=True)
        if crop_size is not None:
            check_range("crop_size", crop_size, "[1, inf)", integer=True)
        check_choice("normalization", normalization, Normalization)
        check_range("num_workers", num_workers, "[0, inf)", integer=True)
        check_range("seed", seed, "[0, inf)", integer=True)
        check_choice("resident", resident, (True, False, "auto"))
        if resident is True and num_workers:
            raise ValueError(
                f"resident=True leaves nothing to do for num_workers={num_workers}; set num_workers to 0, or resident "
                "to auto"
            )
        self.label_noise = noise or LabelNoise()
        # A whole number may be written as 1e3, which is a float.
        self.batch_size = int(batch_size)
        self.val_fraction = val_fraction
        self.train_size = None if train_size is None else int(train_size)
        self.crop_padding = int(crop_padding)
        self.flip = flip
        self.crop_size = None if crop_size is None else int(crop_size)
        self.normalization = normalization
        self.drop_last = drop_last
        self.num_workers = int(num_workers)
        self.resident = resident
        self.seed = int(seed)
        self._train_loader: DataLoader[Any] | None = None
        self._train_loader_trainer: L.Trainer | None = None  # the trainer that the loader was made for
        # By the set's name and device; None for a dataset that is too large for the device.
        self._resident_datasets: dict[tuple[str, torch.device], ResidentDataset | None] = {}
        self._mean_and_std: tuple[Tensor, Tensor] | None = None  # on the device
        self._augmentations: EpochAugmentations | None = None
        self._is_set_up = False
        self.warnings: list[str] = []  # about options that have no effect

    @abstractmethod
    def load(self) -> Arrays:
        """Read the dataset and return its arrays."""

    def setup(self, stage: str | None = None) -> None:
        """Read the dataset, corrupt its training labels and split it; a second call does nothing.

        Raises:
            ValueError: the options do not fit the dataset, for example ``flip`` of features that are no images.
        """
        if self._is_set_up:
            return
        self.arrays = self.load()
        self.warnings += self.arrays.warnings
        self._check_image_options()
        self.labels: NoisyLabels = self.label_noise.apply(
            self.arrays.y_train,
            self.arrays.class_names,
            clean=self.arrays.y_train_clean,
            asymmetric_map=self.arrays.asymmetric_map,
            superclasses=self.arrays.superclasses,
            features=self.arrays.x_train,
            mean=self.arrays.mean,
            spread=self.arrays.std,
        )
        if self.arrays.T is not None and torch.equal(self.labels.observed, self.arrays.y_train):
            self.labels = replace(self.labels, T=self.arrays.T)
        # After the noise, whose option ``features`` counts in standard deviations.
        self.arrays = set_normalization(self.arrays, self.normalization)
        self._x_train: Samples = self.arrays.x_train
        if self.labels.features is not None:
            self._x_train = self.labels.training_features(read_all(self.arrays.x_train))
        self._split()
        clean = self.labels.clean
        self.clean_targets: Tensor | None = None if clean is None else clean[self.train_indices]
        self._is_set_up = True

    def _check_image_options(self) -> None:
        """Check that the options for images go together with the samples."""
        shape = tuple(self.arrays.x_train.shape[1:])
        if (self._augments or self.crop_size is not None) and len(shape) != 3:
            raise ValueError(
                f"crop_padding, flip and crop_size are for images, and samples have shape {shape}; set crop_padding to "
                "0, flip to False and crop_size to None"
            )
        if self.crop_size is not None and self.normalization == "pixel_mean":
            raise ValueError(
                "normalization='pixel_mean' needs whole images, because crop_size moves their pixels; set crop_size to "
                "None, or normalization to 'standardize'"
            )
        if self.crop_size is not None and self.crop_size > min(shape[1:]):
            raise ValueError(f"crop_size={self.crop_size} is larger than the images of {shape[1]} x {shape[2]} pixels")

    def _split(self) -> None:
        """Set the rows of the training and the validation split."""
        if self.arrays.validation is not None and self.val_fraction:
            raise ValueError(
                f"val_fraction={self.val_fraction} would split the training set, but the dataset has a validation set; "
                "set it to 0"
            )
        labels = self.labels.observed
        if self.arrays.is_regression:
            labels = torch.zeros(len(labels))  # one label for all, so the split is merely random
        given = self.arrays.val_indices
        available = len(labels) - (0 if given is None else len(given))
        if self.train_size is not None and self.train_size > available:
            self.warnings.append(f"train_size={self.train_size} is more than the {available} samples that there are")
            rank_zero_warn(self.warnings[-1])
        self.train_indices, self.val_indices = split_off_validation(
            labels, self.val_fraction, train_size=self.train_size, given=given, seed=self.seed
        )
        self._check_split()

    def _check_split(self) -> None:
        """Check that the split leaves enough samples to train on, and to validate."""
        num_samples = len(self.train_indices) + len(self.val_indices)
        if not len(self.train_indices):
            raise ValueError(f"val_fraction={self.val_fraction} of {num_samples} samples leaves none to train on")
        if self.drop_last and len(self.train_indices) < self.batch_size:
            raise ValueError(
                f"drop_last=True leaves no batch, because {len(self.train_indices)} training samples do not fill one "
                f"of batch_size={self.batch_size}; set drop_last to False, or batch_size lower"
            )
        if self.arrays.is_regression and len(self.val_indices) == 1:
            raise ValueError(
                f"val_fraction={self.val_fraction} of {num_samples} samples is a single one, which has no R2; set it "
                "to 0, or higher"
            )

    @property
    def has_clean_validation(self) -> bool:
        """Return whether the validation labels are correct, because the dataset has a validation set of its own."""
        return self.arrays.validation is not None

    @property
    def num_validation(self) -> int:
        """Return the number of validation samples."""
        validation = self.arrays.validation
        return len(self.val_indices) if validation is None else len(validation[1])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one sample as the network gets it."""
        shape = tuple(self.arrays.x_train.shape[1:])
        return shape if self.crop_size is None else (shape[0], self.crop_size, self.crop_size)

    def save_split(self, path: Path) -> None:
        """Write which samples are for training, validation and test to a CSV file, if they have names.

        Args:
            path: the file; it gets the columns ``split``, ``id`` and ``label``, the latter as training sees it.
        """
        train_ids, test_ids = self.arrays.train_ids, self.arrays.test_ids
        if train_ids is None or test_ids is None:
            return
        names = self.arrays.class_names
        observed = self.labels.observed.tolist()
        with write_atomically(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("split", "id", "label"))
            for split, indices in (("train", self.train_indices), ("val", self.val_indices)):
                writer.writerows((split, train_ids[row], names[observed[row]]) for row in indices.tolist())
            labels = self.arrays.y_test.tolist()
            writer.writerows(("test", sample, names[label]) for sample, label in zip(test_ids, labels, strict=True))

    def train_dataloader(self) -> DataLoader[Any]:
        # In a fit always the same object: its sampler holds the selection of the coming epoch.
        trainer = self._active_trainer()
        if self._train_loader is None or self._train_loader_trainer is not trainer:
            dataset = self._dataset("train", self._x_train, self.labels.observed, self.train_indices)
            cap = None
            if self.max_per_class is not None:
                cap = ClassCap(self.labels.observed[self.train_indices], self.max_per_class)
            loader = DataLoader(
                dataset,
                self._batch_size_per_device(),
                sampler=SelectionSampler(dataset, seed=self.seed, class_cap=cap),
                drop_last=self.drop_last,
                num_workers=self._num_workers_for(dataset),
                collate_fn=keep_collated,
            )
            self._train_loader = indexed(loader, as_batches=True)
            self._train_loader_trainer = trainer
        return self._train_loader

    def val_dataloader(self) -> dict[str, DataLoader[Any]]:
        """Return the loaders of evaluation.

        Returns:
            The noisy validation split, or the dataset's own validation set, as ``val``, if there is one; the clean test
            set as ``test``; and further test sets by their names.
        """
        loaders = {}
        if self.arrays.validation is not None:
            loaders["val"] = self._whole_loader("val", *self.arrays.validation)
        elif len(self.val_indices):
            loaders["val"] = self._evaluation_loader("train", self._x_train, self.labels.observed, self.val_indices)
        loaders["test"] = self.test_dataloader()
        for name, (x, y) in self.arrays.further_tests.items():
            loaders[name] = self._whole_loader(name, x, y)
        return loaders

    def test_dataloader(self) -> DataLoader[Any]:
        return self._whole_loader("test", self.arrays.x_test, self.arrays.y_test)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return all training samples, those of the validation split included, in the dataset's order."""
        everything = torch.arange(len(self.arrays.y_train))
        return self._evaluation_loader("train", self._x_train, self.labels.observed, everything)

    def teardown(self, stage: str) -> None:
        """Release the device's memory and the trainer; loaders that the trainer still has keep working."""
        self._train_loader = None
        self._train_loader_trainer = None
        self._resident_datasets = {}
        self._mean_and_std = None
        self._augmentations = None

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, Batch):  # a training batch; those of evaluation are pairs, and never augmented
            self._prepare_in_place(batch)
            return batch
        x, y = batch
        if isinstance(x, ResidentRows):
            x, y = x.gather()
        return self._normalize(center_crop(x, self.crop_size)), self._cast_to_module(y)

    def _prepare_in_place(self, batch: Batch) -> None:
        """Augment and normalize a training batch and its partner."""
        augmentation = self._augmentation_for(batch.index)
        if isinstance(batch.x, ResidentRows):
            batch.x, batch.y = batch.x.gather(augmentation)
        elif augmentation is not None:
            offsets, flips = augmentation
            batch.x = crop_and_flip(batch.x, offsets, flips, padding=self.crop_padding, crop_size=self.crop_size)
        else:
            batch.x = center_crop(batch.x, self.crop_size)
        batch.x = self._normalize(batch.x)
        batch.y = self._cast_to_module(batch.y)
        if batch.partner is not None:
            self._prepare_in_place(batch.partner)

    def _normalize(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / std`` in the module's precision; words of texts stay as they are."""
        if x.dtype == torch.int64:
            return x
        if self._mean_and_std is None or self._mean_and_std[0].device != x.device:
            self._mean_and_std = self.arrays.mean.to(x.device), self.arrays.std.to(x.device)
        mean, std = self._mean_and_std
        return self._cast_to_module((x.float() - mean).div_(std))

    def _cast_to_module(self, values: Tensor) -> Tensor:
        """Return real numbers in the module's precision, which may be 64-true or bf16-true, and labels unchanged."""
        module = None if self.trainer is None else self.trainer.lightning_module
        if module is None or not values.is_floating_point():
            return values
        return values.to(module.dtype)

    @property
    def _augments(self) -> bool:
        """Return whether any augmentation is configured."""
        return bool(self.crop_padding or self.flip)

    def _augmentation_for(self, index: Tensor) -> Augmentation | None:
        """Return the crops and flips of some training samples in this epoch; ``None`` if they stay unchanged."""
        trainer = self.trainer
        if not self._augments or trainer is None:
            return None
        if not (trainer.training and trainer.lightning_module.training):
            return None
        if self._augmentations is None:
            height, width = self.arrays.x_train.shape[2:]
            self._augmentations = EpochAugmentations(
                self.seed,
                len(self.train_indices),
                padded_size=(height + 2 * self.crop_padding, width + 2 * self.crop_padding),
                crop_size=(self.crop_size or height, self.crop_size or width),
                flip=self.flip,
            )
        return self._augmentations.at(index, trainer.current_epoch)

    def _batch_size_per_device(self) -> int:
        """Return the batch size of each device, or raise a ``ValueError`` if the batch does not divide evenly."""
        num_devices = 1 if self.trainer is None else self.trainer.world_size
        if self.batch_size % num_devices:
            largest = self.batch_size // num_devices * num_devices
            raise ValueError(
                f"batch_size={self.batch_size} is the size on all devices together and does not divide by "
                f"{num_devices} devices; take {largest or num_devices}"
            )
        return self.batch_size // num_devices

    def _whole_loader(self, name: str, x: Samples, y: Tensor) -> DataLoader[Any]:
        """Return a loader of a whole set for evaluation."""
        return self._evaluation_loader(name, x, y, torch.arange(len(y)))

    def _evaluation_loader(self, name: str, x: Samples, y: Tensor, indices: Tensor) -> DataLoader[Any]:
        """Return a loader that visits each of these rows once, in order."""
        dataset = self._dataset(name, x, y, indices)
        return DataLoader(
            dataset,
            batch_size=_EVALUATION_BATCH_SIZE,  # by name, or trainer.predict, which makes the loader anew, gives two
            sampler=SelectionSampler(dataset, shuffle=False, pad=False),
            num_workers=self._num_workers_for(dataset),
            collate_fn=keep_collated,
        )

    def _active_trainer(self) -> L.Trainer | None:
        """Return the trainer that fits or evaluates now, if any. Without one, loaders yield samples, not rows."""
        if self.trainer is None or self.trainer.state.stage is None:
            return None
        return self.trainer

    def _num_workers_for(self, dataset: LabeledSamples) -> int:
        """Return the number of worker processes of a loader; a resident dataset leaves them nothing to do."""
        return 0 if dataset.resident is not None else self.num_workers

    def _dataset(self, name: str, x: Samples, y: Tensor, indices: Tensor) -> LabeledSamples:
        """Return some rows of the training or test samples, held on the training device if ``resident`` allows it.

        Args:
            name: of the set, such as ``"train"`` or ``"test"``; the validation split shares the arrays of ``"train"``.
            x: all samples.
            y: all targets.
            indices: the rows that the dataset has.
        """
        trainer = self._active_trainer()
        if self.resident is False or trainer is None or not self._may_be_resident(x):
            return LabeledSamples(x, y, indices)
        device = trainer.strategy.root_device
        key = name, device
        if key not in self._resident_datasets:
            padding = self.crop_padding if name == "train" and self._augments else None
            crop_size = None if padding is None else self.crop_size
            num_bytes = ResidentDataset.num_bytes(x, y, padding)
            is_resident = self.resident is True or fits_on_device(num_bytes, device)
            dataset = ResidentDataset(x, y, device, padding, crop_size) if is_resident else None
            self._resident_datasets[key] = dataset
        return LabeledSamples(x, y, indices, self._resident_datasets[key])

    def _may_be_resident(self, x: Samples) -> bool:
        """Return whether samples may lie on the device: workers that were asked for cut those in memory."""
        if isinstance(x, Tensor):
            return not self.num_workers
        return x.is_fixed
