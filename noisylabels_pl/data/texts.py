"""Texts as numbers of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

PADDING = 0
"""The number that fills a text up."""
UNKNOWN = 1
"""The number of a word that is not in the vocabulary."""

_WORD = re.compile(r"\w+(?:'\w+)*")


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


def encode_texts(texts: Sequence[str], vocabulary: dict[str, int], length: int) -> Tensor:
    """Return the numbers of the words of each text.

    Args:
        texts: of any lengths.
        vocabulary: word to number.
        length: texts are cut after this many words, or filled up by 0.

    Returns:
        ``(n, length)`` int64.

    Example:
        >>> encode_texts(["the cat sat", "cat"], {"the": 2, "cat": 3}, length=3)
        tensor([[2, 3, 1],
                [3, 0, 0]])
    """
    encoded = torch.full((len(texts), length), PADDING)
    for row, text in enumerate(texts):
        numbers = [vocabulary.get(word, UNKNOWN) for word in split_words(text)[:length]]
        encoded[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return encoded
