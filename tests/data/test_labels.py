"""Labels of all layouts that people have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noisylabels_pl.data.labels import as_label_vector, class_names_of, encode_labels


@pytest.mark.parametrize(
    "labels",
    [
        [2, 0, 1],
        [2.0, 0.0, 1.0],
        [[2], [0], [1]],
        np.array([2, 0, 1], dtype=np.uint8),
        np.array([2, 0, 1], dtype=object),
    ],
)
def test_numbers(labels: Any) -> None:
    vector, note = as_label_vector("y", np.asarray(labels))
    assert encode_labels("y", vector, class_names_of("y", vector)).tolist() == [2, 0, 1]
    assert note is None


def test_numbers_are_sorted_by_value_and_text_by_letters() -> None:
    assert class_names_of("y", np.array([10, 9, 100])) == ("9", "10", "100")
    assert class_names_of("y", np.array(["b", "a", "C"])) == ("C", "a", "b")


@pytest.mark.parametrize("dtype", ["S", object])
def test_bytes_are_text(dtype: Any) -> None:
    vector, _ = as_label_vector("y", np.array([b"cat", "ñu".encode()], dtype=dtype))
    assert class_names_of("y", vector) == ("cat", "ñu")


def test_names_in_the_order_of_the_user() -> None:
    names = class_names_of("y", np.array(["cat", "dog"]), ["dog", "cat"])
    assert encode_labels("y", np.array(["cat", "dog"]), names).tolist() == [1, 0]


def test_one_hot() -> None:
    vector, note = as_label_vector("y", np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert vector.tolist() == [1, 0]
    assert note == "y has one-hot rows of 3 classes; the column of the 1 is the class"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array(["a", None, "b"], dtype=object), r"y of row 1 is missing; fill it in, or remove the row"),
        (np.array(["a", "", "b"]), r"y of row 1 is missing"),
        (np.array(["a", " ", "b"]), r"y of row 1 is missing"),
        (np.array(["a", "\t", "b"], dtype=object), r"y of row 1 is missing"),
        (np.array([b"a", b" ", b"b"]), r"y of row 1 is missing"),
        (np.array([1.0, 0.0, np.nan]), r"y of row 2 is missing"),
        (
            np.array([0.0, 0.5]),
            r"y of row 1 \(0.5\) is no class; real numbers are targets of regression",
        ),
        (np.array([0.0, np.inf]), r"y of row 1 \(inf\) is no class"),
        (np.array([[0, 1], [1, 1]]), r"y of row 1 is \[1, 1\], which is not one-hot; give each sample one class"),
        (np.zeros((2, 2, 2)), r"y has shape \(2, 2, 2\); it must hold one label for each sample: \(n,\)"),
    ],
)
def test_what_is_no_label(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_label_vector("y", labels)


def test_messages_name_the_sample() -> None:
    with pytest.raises(ValueError, match=r"y of dog/7\.jpg is wolf, but the classes are cat, dog"):
        encode_labels("y", np.array(["cat", "wolf"]), ["cat", "dog"], ids=["cat/1.jpg", "dog/7.jpg"])
    many = [str(number) for number in range(12)]
    with pytest.raises(ValueError, match=r"the classes are 0, 1, .*, 9 and 2 more"):
        encode_labels("y", np.array([12]), many)
    with pytest.raises(ValueError, match=r"y has 1 class \(3\); training needs at least 2"):
        class_names_of("y", np.array([3, 3]))
