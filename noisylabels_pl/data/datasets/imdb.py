"""The IMDB movie reviews."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.image_lists import require_file
from noisylabels_pl.data.texts import encode_texts, make_vocabulary
from noisylabels_pl.functional import check_range

CLASS_NAMES = ("negative", "positive")
_FOLDERS = ("neg", "pos")
_LINE_BREAK = re.compile(r"<br\s*/?>")


class IMDB(NoisyDataModule):
    """Serve the IMDB movie reviews: 25,000 + 25,000 texts, half of them positive.

    A sample is the last ``length`` words of a review as numbers, with zeros in front of a shorter one. The most
    frequent word of the training set is 2, the next one 3 and so on; 1 stands for all words that are too rare.

    Paper: `Learning Word Vectors for Sentiment Analysis <https://aclanthology.org/P11-1015>`_.

    Args:
        root: the folder ``aclImdb``, with ``train/pos/``, ``train/neg/``, ``test/pos/`` and ``test/neg/``.
        num_words: the number of different ids, those of padding and rare words included.
        length: the number of words of a sample.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a folder is missing or has no text.

    Example:
        >>> data = IMDB("data/aclImdb")
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, root: str = "data/aclImdb", *, num_words: int = 5000, length: int = 400, **common: Any) -> None:
        super().__init__(**common)
        check_range("num_words", num_words, "[3, inf)", integer=True)
        check_range("length", length, "[1, inf)", integer=True)
        self.root = Path(root).expanduser()
        self.num_words = int(num_words)
        self.length = int(length)

    def load(self) -> Arrays:
        train_texts, y_train, train_ids = self._read("train")
        test_texts, y_test, test_ids = self._read("test")
        vocabulary = make_vocabulary(train_texts, self.num_words)
        return Arrays(
            x_train=encode_texts(train_texts, vocabulary, self.length, keep="last"),
            y_train=y_train,
            x_test=encode_texts(test_texts, vocabulary, self.length, keep="last"),
            y_test=y_test,
            class_names=CLASS_NAMES,
            mean=torch.zeros(()),
            std=torch.ones(()),
            origin=f"aclImdb {self.root}",
            asymmetric_map={"positive": "negative"},
            y_train_clean=y_train,
            train_ids=train_ids,
            test_ids=test_ids,
        )

    def _read(self, part: str) -> tuple[list[str], Tensor, list[str]]:
        """Return the texts of a part without marks of line breaks, their labels, and the names of their files."""
        texts = []
        labels = []
        ids = []
        for label, name in enumerate(_FOLDERS):
            folder = require_file("IMDB", "root", self.root, f"{part}/{name}")
            files = sorted(folder.glob("*.txt"))
            if not files:
                raise FileNotFoundError(f"IMDB: there is no text in {folder}; unpack aclImdb_v1.tar.gz again")
            contents = (file.read_text(encoding="utf-8", errors="replace") for file in files)
            texts += [_LINE_BREAK.sub(" ", content) for content in contents]
            labels += [label] * len(files)
            ids += [f"{part}/{name}/{file.name}" for file in files]
        return texts, torch.tensor(labels), ids
