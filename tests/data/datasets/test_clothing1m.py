"""Clothing1M from its official files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from noisylabels_pl.core import Classifier
from noisylabels_pl.data import Clothing1M, LabelNoise
from noisylabels_pl.data.image_files import ImageFiles
from noisylabels_pl.losses import ForwardCorrectionLoss
from noisylabels_pl.nets import small_cnn
from tests.data.datasets.paper_files import (
    clothing_name,
    label_of_brightness,
    write_clothing1m,
    write_lines,
)
from tests.data.datasets.vision_files import ready

Make = Callable[..., Any]


def clothing(root: Path, **options: Any) -> Clothing1M:
    data = Clothing1M(str(root), image_size=16, **options)
    ready(data)
    return data


@pytest.mark.parametrize("lists", [".", "annotations"])
def test_noisy_training_set(tmp_path: Path, lists: str) -> None:
    data = clothing(write_clothing1m(tmp_path, lists))
    arrays = data.arrays
    assert arrays.y_train.tolist() == [(n % 14 + (n % 4 == 0)) % 14 for n in range(56)]
    assert arrays.y_train_clean is None
    assert isinstance(arrays.x_train, ImageFiles)
    assert arrays.x_train.names[5] == clothing_name(5)
    assert data.num_validation == 14
    assert len(data.train_indices) == 56
    x, y = arrays.validation or (None, None)
    assert x is not None
    assert y is not None
    for samples, labels in ((x, y), (arrays.x_test, arrays.y_test)):
        brightness = samples[torch.arange(len(labels))].float().mean((1, 2, 3))
        assert [label_of_brightness(value) for value in brightness.tolist()] == labels.tolist()


def test_clean_training_set(tmp_path: Path) -> None:
    data = clothing(write_clothing1m(tmp_path), train_set="clean")
    assert data.arrays.y_train.tolist() == [n % 14 for n in range(100, 128)]
    assert data.labels.rate == 0
    assert data.labels.T is None


def test_transition_matrix_is_that_of_the_training_pairs(tmp_path: Path) -> None:
    """Of the images 100 to 127 with both labels, those with numbers that divide by 3 have the next class."""
    T = clothing(write_clothing1m(tmp_path)).labels.T
    assert T is not None
    expected = torch.zeros(14, 14, dtype=torch.float64)
    for number in range(100, 128):
        expected[number % 14, (number % 14 + (number % 3 == 0)) % 14] += 0.5
    assert torch.equal(T, expected)


def test_more_noise_has_another_transition_matrix(tmp_path: Path) -> None:
    labels = clothing(write_clothing1m(tmp_path), noise=LabelNoise("sym", rate=0.5)).labels
    own = clothing(tmp_path).labels
    assert own.T is not None
    assert labels.T is not None
    assert labels.T.diagonal().tolist() == [0.5] * 14


def test_without_a_pair_of_each_class_there_is_no_transition_matrix(tmp_path: Path) -> None:
    write_clothing1m(tmp_path)
    write_lines(tmp_path / "clean_train_key_list.txt", [clothing_name(100)])
    assert clothing(tmp_path).labels.T is None


def test_epochs_are_capped_by_class(tmp_path: Path) -> None:
    loader = clothing(write_clothing1m(tmp_path), max_per_class=2, batch_size=8).train_dataloader()
    labels = torch.cat([batch.y for batch in loader])
    assert torch.bincount(labels, minlength=14).max() == 2
    assert len(loader) == -(-len(labels) // 8)


def test_the_validation_set_is_the_datasets_own(tmp_path: Path) -> None:
    data = clothing(write_clothing1m(tmp_path))
    assert list(data.val_dataloader()) == ["val", "test"]
    assert data.has_clean_validation
    with pytest.raises(ValueError, match=r"val_fraction=0\.1 would split the training set, but .* set it to 0"):
        clothing(tmp_path, val_fraction=0.1)


@pytest.mark.parametrize(
    "name",
    [
        "noisy_train_key_list.txt",
        "clean_train_key_list.txt",
        "clean_val_key_list.txt",
        "clean_test_key_list.txt",
        "noisy_label_kv.txt",
        "clean_label_kv.txt",
        clothing_name(0),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_clothing1m(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"Clothing1M: there is no {name} in root=.*docs/datasets.md"):
        clothing(tmp_path)


def test_an_image_without_a_label_is_named(tmp_path: Path) -> None:
    write_clothing1m(tmp_path)
    write_lines(tmp_path / "clean_val_key_list.txt", ["images/0/00/7.jpg"])
    with pytest.raises(ValueError, match=r"clean_val_key_list\.txt: images/0/00/7\.jpg has no label"):
        clothing(tmp_path)


@pytest.mark.parametrize("option", [{"max_per_class": 0}, {"train_set": "both"}, {"image_size": 0}])
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        Clothing1M(**option)


def test_predictions_are_compared_with_clean_validation_labels_as_they_are(tmp_path: Path, make_trainer: Make) -> None:
    """A loss correction turns its predictions into those of noisy labels only where the labels are noisy."""
    data = clothing(write_clothing1m(tmp_path), batch_size=8)
    T = torch.eye(14).roll(1, dims=1)  # each class is always observed as the next one
    torch.manual_seed(0)
    module = Classifier(
        small_cnn((3, 16, 16), 14, width=4), 14, partial(torch.optim.SGD, lr=0.0), criterion=ForwardCorrectionLoss(T)
    )
    trainer = make_trainer()
    trainer.validate(module, datamodule=data, verbose=False)
    x, y = next(iter(data.val_dataloader()["val"]))
    with torch.no_grad():
        predicted = module.eval()(data.on_after_batch_transfer((x, y), 0)[0]).argmax(1)
    assert trainer.callback_metrics["val/acc"] == (predicted == y).float().mean()
