"""IMDB reviews from the raw folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noisylabels_pl.core import Classifier
from noisylabels_pl.data import IMDB, LabelNoise
from tests.data.datasets.paper_files import write_imdb, write_lines
from tests.data.datasets.vision_files import ready

Make = Callable[..., Any]


def test_words_become_numbers_by_frequency(tmp_path: Path) -> None:
    arrays = ready(IMDB(str(write_imdb(tmp_path)), num_words=7, length=8)).arrays
    # Most frequent: a, and, bad, film, fun, great, in alphabetical order, because each of them is there twenty times.
    # "great" has no number left.
    numbers = {"a": 2, "and": 3, "bad": 4, "film": 5, "fun": 6}
    negative = [numbers.get(word, 1) for word in ["a", "bad", "film", "and", "bad", "it", "wasn't", "fun"]]
    positive = [numbers.get(word, 1) for word in ["a", "great", "film", "and", "great", "fun"]]
    assert arrays.x_train.dtype == torch.int64
    assert arrays.x_train[0].tolist() == negative
    assert arrays.x_train[-1].tolist() == [0, 0, *positive]
    assert arrays.y_train.tolist() == [0] * 10 + [1] * 10
    assert arrays.class_names == ("negative", "positive")
    assert arrays.train_ids is not None
    assert arrays.train_ids[0] == "train/neg/0_7.txt"


def test_the_end_of_a_long_text_is_kept(tmp_path: Path) -> None:
    arrays = ready(IMDB(str(write_imdb(tmp_path)), length=2)).arrays
    assert arrays.x_train.shape == (20, 2)
    whole = ready(IMDB(str(tmp_path), length=8)).arrays
    assert torch.equal(arrays.x_train, whole.x_train[:, -2:])


def test_words_of_the_test_set_do_not_count(tmp_path: Path) -> None:
    write_lines(write_imdb(tmp_path) / "test/pos/0_7.txt", ["film unseen unseen unseen"])
    arrays = ready(IMDB(str(tmp_path), length=4)).arrays
    ids = arrays.x_test[10].tolist()
    assert ids[0] > 1
    assert ids[1:] == [1, 1, 1]


def test_a_text_without_words_is_padding(tmp_path: Path) -> None:
    write_lines(write_imdb(tmp_path) / "train/neg/0_7.txt", ["<br />!"])
    assert ready(IMDB(str(tmp_path), length=4)).arrays.x_train[0].tolist() == [0, 0, 0, 0]


def test_numbers_of_words_are_not_normalized(tmp_path: Path) -> None:
    data = ready(IMDB(str(write_imdb(tmp_path)), noise=LabelNoise("asym", rate=0.5), batch_size=4))
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.x.dtype == torch.int64
    assert data.input_shape == (400,)
    assert data.labels.observed.sum() < 10  # positive reviews are called negative


@pytest.mark.parametrize("folder", ["train/neg", "train/pos", "test/neg", "test/pos"])
def test_a_missing_folder_is_named(tmp_path: Path, folder: str) -> None:
    shutil.rmtree(write_imdb(tmp_path) / folder)
    with pytest.raises(FileNotFoundError, match=f"IMDB: there is no {folder} in root=.*docs/datasets.md"):
        IMDB(str(tmp_path)).setup()


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    for file in (write_imdb(tmp_path) / "test/pos").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"IMDB: there is no text in .*test/pos"):
        IMDB(str(tmp_path)).setup()


def test_a_network_learns_from_numbers_of_words(tmp_path: Path, make_trainer: Make) -> None:
    data = IMDB(str(write_imdb(tmp_path)), num_words=20, length=8, batch_size=4, val_fraction=0.0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.EmbeddingBag(20, 4), nn.Linear(4, 2))
    module = Classifier(net, 2, partial(torch.optim.Adam, lr=0.1))
    trainer = make_trainer(max_epochs=3)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["test/acc"] == 1
