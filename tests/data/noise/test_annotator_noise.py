"""Noise of several annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data import AnnotatorNoise, Digits
from noisylabels_pl.functional import empirical_transition_matrix

NAMES = ("a", "b", "c")
Y = torch.arange(3).repeat(4000)
T = [[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.3, 0.0, 0.7]]


@pytest.mark.parametrize(
    ("aggregate", "right"),
    [
        ("random", (0.9 + 0.8 + 0.6) / 3),
        ("worst", 0.9 * 0.8 * 0.6),
        # Two right ones, or one right one in a tie of three: the other two are wrong in different ways.
        (
            "majority",
            0.9 * 0.8 + 0.9 * 0.2 * 0.6 + 0.1 * 0.8 * 0.6 + 0.5 / 3 * (0.9 * 0.2 * 0.4 + 0.1 * 0.8 * 0.4 + 0.008 * 6),
        ),
    ],
)
def test_the_rate_of_each_aggregate(aggregate: Any, right: float) -> None:
    labels = AnnotatorNoise(annotators=[0.9, 0.8, 0.6], aggregate=aggregate, seed=1).apply(Y, NAMES)
    assert labels.rate == pytest.approx(1 - right, abs=4.5 * (right * (1 - right) / len(Y)) ** 0.5)
    assert (labels.T is None) == (aggregate != "random")


def test_each_annotator_has_a_skill(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "T.csv", T, delimiter=",")
    noise = AnnotatorNoise(annotators=[0.9, T, str(tmp_path / "T.csv")], count="exact", aggregate="random")
    labels = noise.apply(Y, NAMES)
    assert labels.annotators is not None
    one, two, three = (empirical_transition_matrix(Y, annotator, 3) for annotator in labels.annotators)
    torch.testing.assert_close(one.diagonal(), torch.full((3,), 0.9).double())
    torch.testing.assert_close(two, torch.tensor(T).double())
    torch.testing.assert_close(three, two)
    assert not torch.equal(labels.annotators[1], labels.annotators[2])
    torch.testing.assert_close(labels.T, (one + two + three) / 3)


def test_annotators_are_saved(tmp_path: Path) -> None:
    data = Digits(AnnotatorNoise(annotators=[0.9, 0.5]))
    data.setup()
    data.labels.save(tmp_path / "noise.npz")
    with np.load(tmp_path / "noise.npz") as file:
        assert file["annotators"].shape == (2, len(data.labels.observed))
        assert (file["annotators"][0] == file["clean"]).mean() == pytest.approx(0.9, abs=0.04)


def test_confined_annotators_are_right_elsewhere() -> None:
    labels = AnnotatorNoise(annotators=[0.5, 0.5], confined_to={"classes": ["b"]}, aggregate="worst").apply(Y, NAMES)
    assert labels.annotators is not None
    assert (labels.annotators[:, Y != 1] == Y[Y != 1]).all()
    assert float((labels.observed[Y == 1] != 1).double().mean()) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotators": []}, r"^annotators must be a list"),
        ({"annotators": 0.9}, r"^annotators must be a list with one entry for each, such as \[0\.9, 0\.8\], got 0\.9"),
        ({"annotators": [0.9, 1.5]}, r"^annotators\[1\] must lie in \[0, 1\], got 1\.5"),
        ({"annotators": [0.9, [[1, 0], [0, 1]]]}, r"^annotators\[1\]: T must be square"),
        ({"annotators": [0.9, [[1, 0, 0], [0, 1, 0], [0, 0, 2]]]}, r"^annotators\[1\]: T\[2\] must sum to 1"),
        ({"annotators": [0.9, [["x"]]]}, r"^annotators\[1\] must be rows of numbers"),
        ({"annotators": [0.9], "aggregate": "best"}, r"^aggregate must be one of majority"),
    ],
)
def test_annotators_that_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnotatorNoise(**options).apply(Y, NAMES)
