"""Texts as numbers of words."""

from __future__ import annotations

import pytest

from noisylabels_pl.data.texts import encode_texts, make_vocabulary, split_words


def test_words() -> None:
    assert split_words("Don't  panic:\n\tC3PO's 10/10, naïve & café_bar.") == [
        *("don't", "panic", "c3po's", "10", "10", "naïve", "café", "bar")
    ]


def test_frequent_words_have_small_numbers() -> None:
    assert make_vocabulary(["b a", "b c", "a b"], size=4) == {"b": 2, "a": 3}


def test_one_end_of_a_text_is_kept() -> None:
    numbers = {"a": 2, "b": 3, "c": 4}
    texts = ["a b c", "c", ""]
    assert encode_texts(texts, numbers, 2).tolist() == [[2, 3], [4, 0], [0, 0]]
    assert encode_texts(texts, numbers, 2, keep="last").tolist() == [[3, 4], [0, 4], [0, 0]]
    with pytest.raises(ValueError, match="keep must be one of first, last, got 'middle'"):
        encode_texts(texts, numbers, 2, keep="middle")  # type: ignore[arg-type]
