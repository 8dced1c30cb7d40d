"""The lists of CelebA: the values that are read, and the errors about damaged files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from noisylabels_pl.data.datasets.celeba_lists import COORDINATES, read_lists
from tests.data.datasets.celeba_files import HEADER, LISTS, SPLIT, WRONG_LISTS, faces, names, write_lists


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "celeba").mkdir()
    write_lists(tmp_path, faces())
    return tmp_path


def test_images_and_landmarks_of_each_split(root: Path) -> None:
    lists = read_lists(root / "celeba")
    assert lists.coordinates == tuple(HEADER.split()) == COORDINATES
    for split in range(3):
        rows = [row for row, number in enumerate(SPLIT) if number == split]
        assert lists.names[split] == [names()[row] for row in rows]
        np.testing.assert_array_equal(lists.landmarks[split].numpy(), faces()[rows])
    assert lists.lines == dict(enumerate(names(), 3))


@pytest.mark.parametrize("name", LISTS)
def test_missing_list(root: Path, name: str) -> None:
    os.rename(root / "celeba" / name, root / "elsewhere")
    with pytest.raises(FileNotFoundError) as caught:
        read_lists(root / "celeba")
    message = str(caught.value)
    assert message.startswith(f"CelebALandmarks: there is no celeba/{name}")
    assert f"root={root}" in message
    for wanted in (*LISTS, "img_align_celeba/000001.jpg"):
        assert wanted in message


@pytest.mark.parametrize("how", WRONG_LISTS)
def test_wrong_list(root: Path, how: str) -> None:
    spoil, message = WRONG_LISTS[how]
    spoil(root)
    with pytest.raises(ValueError, match=rf"^root: .*{message}"):
        read_lists(root / "celeba")


@pytest.mark.parametrize(("split", "kind"), list(enumerate(["training", "validation", "test"])))
def test_split_without_images(root: Path, split: int, kind: str) -> None:
    path = root / "celeba" / LISTS[1]
    path.write_text(re.sub(rf" {split}$", f" {(split + 1) % 3}", path.read_text(), flags=re.MULTILINE))
    with pytest.raises(ValueError, match=rf"^root: .*{LISTS[1]}: 0 of its 60 lines name {kind} images \({split}\)"):
        read_lists(root / "celeba")
