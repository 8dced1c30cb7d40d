"""Texts as numbers of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from noisylabels_pl.functional import check_choice

PADDING = 0
"""The number that fills a text up."""
UNKNOWN = 1
"""The number of a word that is not in the vocabulary."""

Keep = Literal["first", "last"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case: letters, digits and inner apostrophes.

    Example:
        >>> split_words("Don't panic: it's 42!")
        ["don't", 'panic', "it's", '42']
    """
    return _WORD.findall(text.lower())


def make_vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """Return the numbers of the most frequent words, the most frequent first.

    Args:
        texts: the training texts.
        size: the number of different numbers, padding and the unknown word included. Of equally frequent words, those
            that come first in the alphabet are taken.

    Returns:
        Word to number, from 2.

    Example:
        >>> make_vocabulary(["a cat", "a dog", "the cat"], size=4)
        {'a': 2, 'cat': 3}
    """
    counts = Counter(word for text in texts for word in split_words(text))
    by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(by_frequency[: size - 2], start=UNKNOWN + 1)}


def encode_texts(texts: Sequence[str], vocabulary: dict[str, int], length: int, *, keep: Keep = "first") -> Tensor:
    """Return the numbers of the words of each text.

    Args:
        texts: of any lengths.
        vocabulary: word to number.
        length: the number of words that are kept of a text; shorter ones are filled up by 0.
        keep: ``"first"`` keeps the first words, and fills up behind them; ``"last"`` keeps the last ones, and fills up
            in front.

    Returns:
        ``(n, length)`` int64.

    Raises:
        ValueError: ``keep`` is unknown.

    Example:
        >>> encode_texts(["the cat sat", "cat"], {"the": 2, "cat": 3}, length=3)
        tensor([[2, 3, 1],
                [3, 0, 0]])
    """
    check_choice("keep", keep, Keep)
    encoded = torch.full((len(texts), length), PADDING)
    for row, text in enumerate(texts):
        words = split_words(text)
        kept = words[:length] if keep == "first" else words[-length:]
        numbers = torch.tensor([vocabulary.get(word, UNKNOWN) for word in kept], dtype=torch.int64)
        start = 0 if keep == "first" else length - len(kept)
        encoded[row, start : start + len(kept)] = numbers
    return encoded
