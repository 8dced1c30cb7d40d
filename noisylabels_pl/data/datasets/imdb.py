"""The IMDB movie reviews."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.image_lists import require_file
from noisylabels_pl.functional import check_range

CLASS_NAMES = ("negative", "positive")
_FOLDERS = ("neg", "pos")
_LINE_BREAK = re.compile(r"<br\s*/?>")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
UNKNOWN = 1
"""The id of words that are not among the most frequent ones; 0 is padding."""
_FIRST_ID = 2


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
        number_of = number_words(train_texts, self.num_words)
        return Arrays(
            x_train=encode_texts(train_texts, number_of, self.length),
            y_train=y_train,
            x_test=encode_texts(test_texts, number_of, self.length),
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

    def _read(self, part: str) -> tuple[list[list[str]], Tensor, list[str]]:
        """Return the words of the texts of a part, their labels, and the names of their files."""
        texts = []
        labels = []
        ids = []
        for label, name in enumerate(_FOLDERS):
            folder = require_file("IMDB", "root", self.root, f"{part}/{name}")
            files = sorted(folder.glob("*.txt"))
            if not files:
                raise FileNotFoundError(f"IMDB: there is no text in {folder}; unpack aclImdb_v1.tar.gz again")
            texts += [split_words(file.read_text(encoding="utf-8", errors="replace")) for file in files]
            labels += [label] * len(files)
            ids += [f"{part}/{name}/{file.name}" for file in files]
        return texts, torch.tensor(labels), ids


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and marks of line breaks.

    Example:
        >>> split_words("I didn't like it.<br />Not 1 bit!")
        ['i', "didn't", 'like', 'it', 'not', '1', 'bit']
    """
    # Equal words share their memory.
    return [sys.intern(word) for word in _WORD.findall(_LINE_BREAK.sub(" ", text).lower())]


def number_words(texts: Iterable[Sequence[str]], num_words: int) -> dict[str, int]:
    """Return the ids of the most frequent words, from 2 on; words of one frequency are in alphabetical order.

    Args:
        texts: the words of each text.
        num_words: the number of ids, 0 for padding and 1 for other words included.

    Example:
        >>> number_words([["a", "film"], ["a", "bad", "film"], ["a"]], num_words=4)
        {'a': 2, 'film': 3}
    """
    counts = Counter(word for text in texts for word in text)
    by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(by_frequency[: num_words - _FIRST_ID], _FIRST_ID)}


def encode_texts(texts: Sequence[Sequence[str]], number_of: dict[str, int], length: int) -> Tensor:
    """Return the last words of texts as ids.

    Args:
        texts: the words of each text.
        number_of: the id of each frequent word.
        length: the number of ids of a text; shorter texts get zeros in front.

    Returns:
        ``(n, length)`` int64.

    Example:
        >>> encode_texts([["a", "film"], ["oh", "a", "bad", "film"]], {"a": 2, "film": 3}, length=3)
        tensor([[0, 2, 3],
                [2, 1, 3]])
    """
    encoded = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, text in enumerate(texts):
        ids = [number_of.get(word, UNKNOWN) for word in text[-length:]]
        if ids:
            encoded[row, length - len(ids) :] = torch.tensor(ids)
    return encoded
