"""Datasets of torch and data modules of Lightning, as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import MNIST, FakeData
from torchvision.transforms import RandomHorizontalFlip, ToTensor

from noisylabels_pl.core import Classifier
from noisylabels_pl.data import Digits, LabelNoise, TorchData
from noisylabels_pl.data.dataset_samples import read_labels
from noisylabels_pl.methods import Crust

X, Y = torch.rand(60, 5), torch.arange(60) % 3


class Listed(Dataset[Any]):
    """Items of a list, with any attributes."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        self.num_read = 0
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        self.num_read += 1
        return self.items[position]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


class Module(L.LightningDataModule):
    def __init__(self, *, val: bool = True, test: bool = True) -> None:
        super().__init__()
        if not val:
            self.val_dataloader = super().val_dataloader  # type: ignore[method-assign]
        if not test:
            self.test_dataloader = super().test_dataloader  # type: ignore[method-assign]

    def setup(self, stage: str) -> None:
        self.set_up = stage

    def loader(self, first: int, last: int) -> DataLoader[Any]:
        return DataLoader(TensorDataset(X[first:last], Y[first:last]), batch_size=7)

    def train_dataloader(self) -> Any:
        return self.loader(0, 30)

    def val_dataloader(self) -> Any:
        return self.loader(30, 45)

    def test_dataloader(self) -> Any:
        assert self.set_up == "test"
        return self.loader(45, 60)


def set_up(*datasets: Any, **options: Any) -> TorchData:
    data = TorchData(*datasets, **options)
    data.setup()
    return data


def test_samples_stay_as_the_dataset_returns_them() -> None:
    data = set_up(TensorDataset(X * 9, Y), TensorDataset(X, Y), val_fraction=0, batch_size=60)
    batch = next(iter(data.train_dataloader()))
    torch.testing.assert_close(batch.x, 9 * X[batch.index])
    assert torch.equal(batch.y, Y[batch.index])
    assert torch.equal(data.on_after_batch_transfer((batch.x, batch.y), 0)[0], batch.x)
    assert (data.arrays.mean, data.arrays.std) == (torch.tensor(0.0), torch.tensor(1.0))
    assert data.arrays.class_names == ("0", "1", "2")
    assert data.arrays.train_ids is not None
    assert data.arrays.train_ids[3] == "train[3]"


def test_a_part_is_split_off() -> None:
    data = set_up(TensorDataset(X, Y), noise=LabelNoise("sym", rate=0.5, count="exact"))
    assert (len(data.arrays.y_train), len(data.arrays.y_test)) == (48, 12)
    assert data.labels.rate == pytest.approx(0.5)
    loader = data.val_dataloader()["test"]
    assert sum(len(y) for _, y in loader) == 12


def test_random_transforms_stay_random(make_trainer: Callable[..., L.Trainer]) -> None:
    images = FakeData(40, (3, 8, 8), num_classes=2, transform=ToTensor())
    flipped = FakeData(40, (3, 8, 8), num_classes=2, transform=lambda image: ToTensor()(RandomHorizontalFlip()(image)))
    data = set_up(flipped, images, batch_size=10, val_fraction=0)
    first, second = data.arrays.x_train[torch.arange(40)], data.arrays.x_train[torch.arange(40)]
    assert not torch.equal(first, second)
    assert data.warnings == [f"all 40 samples of {name} were read once for their labels" for name in ("train", "test")]
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    module = Classifier(net, 2, lambda parameters: torch.optim.SGD(parameters, lr=0.01))
    trainer = make_trainer(Crust(warmup_epochs=1), max_epochs=2)
    trainer.fit(module, datamodule=data)
    assert trainer.train_dataloader.dataset.resident is None


def test_bytes_are_standardized() -> None:
    images = torch.randint(0, 256, (60, 3, 4, 4), dtype=torch.uint8)
    data = set_up(TensorDataset(images, Y), TensorDataset(images, Y))
    torch.testing.assert_close(data.arrays.mean, images.float().mean((0, 2, 3), keepdim=True)[0])
    assert set_up(TensorDataset(images, Y), normalization="unit").arrays.std == 255


@pytest.mark.parametrize(
    ("items", "options"),
    [
        ([(x, y, "name") for x, y in zip(X, Y, strict=True)], {}),
        (
            [{"pixels": x.numpy(), "kind": int(y)} for x, y in zip(X, Y, strict=True)],
            {"x_key": "pixels", "y_key": "kind"},
        ),
        ([(int(y), x) for x, y in zip(X, Y, strict=True)], {"x_key": 1, "y_key": 0}),
    ],
)
def test_items_of_other_forms(items: list[Any], options: dict[str, Any]) -> None:
    data = set_up(Listed(items), Listed(items), **options)
    assert torch.equal(data.arrays.x_train[torch.arange(60)], X)
    assert torch.equal(data.arrays.y_test, Y)


def test_class_names() -> None:
    items = list(zip(X, Y.tolist(), strict=True))
    assert set_up(Listed(items, classes=["yew", "ash", "oak"])).arrays.class_names == ("yew", "ash", "oak")
    data = set_up(Listed(items, classes=["same", "same", "x"]), class_names=["a", "b", "c"])
    assert data.arrays.class_names == ("a", "b", "c")
    named = [(x, ["ash", "oak", "yew"][y]) for x, y in items]
    assert set_up(Listed(named)).arrays.class_names == ("ash", "oak", "yew")
    with pytest.raises(ValueError, match=r"^train has labels from 0 to 2, but there are 2 class_names"):
        set_up(Listed(items), class_names=["a", "b"])


class Noisy(Listed):
    """Items with other labels than the attribute ``targets``, except for the first, the middle and the last."""

    def __getitem__(self, position: int) -> Any:
        x, y = super().__getitem__(position)
        return x, y if position in (0, 30, 59) else (y + 1) % 3


def mnist() -> Any:
    """MNIST without files."""
    dataset = MNIST.__new__(MNIST)
    dataset.data, dataset.targets = torch.zeros(60, 8, 8, dtype=torch.uint8), Y
    dataset.transform, dataset.target_transform = None, None
    return dataset


@pytest.mark.parametrize("make", [mnist, lambda: TensorDataset(X, Y)])
def test_labels_of_known_datasets_need_no_pass_over_the_samples(make: Callable[[], Any]) -> None:
    dataset = make()
    for wrapped, expected in (
        (dataset, Y),
        (Subset(dataset, [5, 3, 1, 0]), Y[[5, 3, 1, 0]]),
        (ConcatDataset([dataset, Subset(dataset, [1, 2])]), torch.cat([Y, Y[1:3]])),
    ):
        labels, note = read_labels(wrapped, "train", 1)
        assert labels.tolist() == expected.tolist()
        assert note is None


@pytest.mark.parametrize("wrap", [lambda dataset: dataset, lambda dataset: Subset(dataset, range(60))])
def test_clean_targets_beside_noisy_items(wrap: Callable[[Any], Any]) -> None:
    dataset = Noisy(list(zip(X, Y.tolist(), strict=True)), targets=Y.tolist())
    labels, note = read_labels(wrap(dataset), "train", 1)
    assert labels.tolist() == [dataset[position][1] for position in range(60)]
    assert note == "all 60 samples of train were read once for their labels"


def test_a_target_transform_and_another_key() -> None:
    dataset = mnist()
    dataset.target_transform = lambda label: label * 10
    assert read_labels(dataset, "train", 1)[0].tolist() == (10 * Y).tolist()
    assert read_labels(TensorDataset(Y, X), "train", 0)[0].tolist() == Y.tolist()


def test_a_data_module() -> None:
    data = set_up(datamodule=Module(), noise=LabelNoise("sym", rate=0.4, count="exact"))
    assert data.val_indices.tolist() == list(range(30, 45))
    assert data.train_indices.tolist() == list(range(30))
    assert torch.equal(data.arrays.x_train[torch.arange(45)], X[:45])
    assert torch.equal(data.arrays.y_test, Y[45:])
    assert data.labels.rate == pytest.approx(0.4)


class Splitting(Module):
    """Splits anew, without a seed, in each setup; as an option, makes the test set only in ``setup("test")``."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late
        self.whole = TensorDataset(X, Y)
        self.test_set: Any = None

    def setup(self, stage: str) -> None:
        order = torch.randperm(60).tolist()
        self.parts = [Subset(self.whole, order[first : first + 20]) for first in (0, 20, 40)]
        if stage == "test" or not self.late:
            self.test_set = self.parts[2]

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0])

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts[1])

    def test_dataloader(self) -> Any:
        return DataLoader(self.test_set)


def test_a_data_module_that_splits_at_random_is_set_up_once() -> None:
    torch.manual_seed(0)
    arrays = set_up(datamodule=Splitting(late=False)).arrays
    rows = torch.cat([arrays.x_train[torch.arange(40)], arrays.x_test[torch.arange(20)]])
    assert len(rows.unique(dim=0)) == 60
    with pytest.raises(
        ValueError, match=r"^test has \d+ samples that train has, too \(number \d+ of its TensorDataset"
    ):
        set_up(datamodule=Splitting(late=True))


def test_parts_of_one_dataset_that_overlap() -> None:
    whole = TensorDataset(X, Y)
    pair = ConcatDataset([whole, whole])
    set_up(Subset(whole, range(40)), Subset(whole, range(40, 60)))
    for test in (Subset(whole, [50, 39]), Subset(Subset(whole, range(30, 60)), [9]), Subset(pair, [99])):
        with pytest.raises(
            ValueError, match=r"^test has 1 sample .* \(number 39 of its TensorDataset\); split the data"
        ):
            set_up(Subset(whole, range(40)), test)


def test_a_data_module_without_a_test_set() -> None:
    data = set_up(datamodule=Module(test=False), val_fraction=0.2)
    assert torch.equal(data.arrays.y_test, Y[30:45])
    assert (len(data.train_indices), len(data.val_indices)) == (24, 6)
    assert len(set_up(datamodule=Module(val=False)).arrays.y_test) == 15
    with pytest.raises(ValueError, match=r"^datamodule: Module has neither test_dataloader nor val_dataloader"):
        set_up(datamodule=Module(val=False, test=False))


def test_this_librarys_own_module_is_a_data_module() -> None:
    with pytest.raises(ValueError, match=r"^datamodule: val_dataloader of Digits returns a dict, not one DataLoader"):
        set_up(datamodule=Digits())


IMAGES = FakeData(20, (3, 8, 8), num_classes=2)


@pytest.mark.parametrize(
    ("datasets", "options", "message"),
    [
        ((), {}, "^set either train, a dataset, or datamodule, a LightningDataModule"),
        ((IMAGES,), {"datamodule": Module()}, "^set either train"),
        ((None, IMAGES), {"datamodule": Module()}, "^test is set beside datamodule"),
        ((IMAGES,), {}, r"^train\[0\] is a Image, not a tensor; .* torchvision\.transforms\.ToTensor"),
        ((Listed([("text", 1)]),), {}, r"^train\[0\] is a str, not a tensor; give the dataset a transform"),
        ((Listed([{"a": X[0], "b": 1}]),), {}, r"^train\[0\] has no part 0, it has keys a, b; set x_key and y_key"),
        ((TensorDataset(X),), {}, r"^train\[0\] has no part 1, it has type tuple"),
        ((Stream(),), {}, "^train must be a dataset with a length and items, got Stream"),
        ((Listed([]),), {}, "^train is empty"),
        ((TensorDataset(torch.rand(9, 8, 8), Y[:9]),), {}, r"^train\[0\] has shape \(8, 8\); .* add a channel"),
        ((TensorDataset(X, Y), TensorDataset(X[:, :3], Y)), {}, r"^test has samples of shape \(3,\), train of \(5,\)"),
        ((TensorDataset(X, torch.rand(60)),), {}, r"^the label of train\[0\] \(.*\) is no class; .*npz_regression"),
        ((TensorDataset(X, Y),), {"normalization": "unit"}, "^normalization='unit' divides bytes by 255"),
    ],
)
def test_mistakes(datasets: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_up(*datasets, **options)


def test_samples_of_different_shapes() -> None:
    items = [(torch.zeros(3, 8, 8 + (position == 7)), position % 2) for position in range(20)]
    data = set_up(Listed(items), Listed(items))
    with pytest.raises(ValueError, match=r"^train\[7\] has shape \(3, 8, 9\), train\[0\] \(3, 8, 8\); .*Resize"):
        data.arrays.x_train[torch.arange(20)]


def test_words_of_texts() -> None:
    words = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (60, 7), dtype=np.int32))
    data = set_up(TensorDataset(words, Y), val_fraction=0)
    batch = next(iter(data.train_dataloader()))
    assert (batch.x.dtype, data.input_shape) == (torch.int64, (7,))
