"""Tables of CSV and Parquet files: features, images, texts, splits, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from noisylabels_pl.data import LabelNoise, TableData

ROWS = 60
SPECIES = ("dog", "cat", "rabbit")


def pets(**changes: Any) -> dict[str, list[Any]]:
    """A sound table by column: three species in turn."""
    rng = np.random.default_rng(0)
    sound = {
        "name": [f"pet{row}" for row in range(ROWS)],
        "species": [SPECIES[row % 3] for row in range(ROWS)],
        "weight": rng.uniform(1, 9, ROWS).round(3).tolist(),
        "legs": [4] * ROWS,
        "color": ["black", "white"] * (ROWS // 2),
    }
    return {name: list(values) for name, values in (sound | changes).items() if values is not None}


def changed(column: str, row: int, value: Any) -> dict[str, list[Any]]:
    values = pets()[column]
    values[row] = value
    return {column: values}


def write(folder: Path, name: str = "pets.csv", delimiter: str = ",", **changes: Any) -> Path:
    table = pets(**changes)
    path = folder / name
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(table), path)
    else:
        lines = [list(table), *zip(*table.values(), strict=True)]
        path.write_text("\n".join(delimiter.join(map(str, line)) for line in lines) + "\n")
    return path


def set_up(path: Path, **options: Any) -> TableData:
    data = TableData(str(path), **{"label": "species"} | options)
    data.setup()
    return data


def every_x(data: TableData) -> torch.Tensor:
    """All samples in the order of the table's lines."""
    arrays = data.arrays
    assert arrays.train_ids is not None
    assert arrays.test_ids is not None
    ids = [int(name.split()[1]) for name in [*arrays.train_ids, *arrays.test_ids]]
    x = torch.cat([arrays.x_train, arrays.x_test])
    return x[torch.tensor(ids).argsort()]


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "delimiter"), [("pets.csv", ","), ("pets.csv", ";"), ("pets.tsv", "\t"), ("pets.parquet", "")]
)
def test_all_columns_of_numbers_are_features(tmp_path: Path, name: str, delimiter: str) -> None:
    data = set_up(write(tmp_path, name, delimiter))
    assert data.arrays.class_names == ("cat", "dog", "rabbit")
    assert data.input_shape == (2,)
    expected = torch.tensor([pets()["weight"], pets()["legs"]]).T
    torch.testing.assert_close(every_x(data), expected)
    assert data.warnings == [
        "columns of text are no features unless features names them; left out: name, color",
    ]
    assert (len(data.arrays.y_train), len(data.arrays.y_test)) == (48, 12)
    assert torch.bincount(data.arrays.y_test).tolist() == [4, 4, 4]


def test_named_features_and_categories(tmp_path: Path) -> None:
    data = set_up(write(tmp_path), features=["color", "weight"])
    black = torch.tensor([1.0, 0.0]).repeat(ROWS // 2)
    torch.testing.assert_close(every_x(data), torch.stack([black, 1 - black, torch.tensor(pets()["weight"])], dim=1))
    assert data.warnings == ["color is text: a feature of 0 and 1 for each of its 2 values (black, white)"]


def test_the_split_follows_from_its_own_seed(tmp_path: Path) -> None:
    path = write(tmp_path)
    test_ids = [set_up(path, seed=seed).arrays.test_ids for seed in (0, 1)]
    assert test_ids[0] == test_ids[1]
    assert set_up(path, split_seed=1).arrays.test_ids != test_ids[0]


def test_a_column_may_hold_the_split(tmp_path: Path) -> None:
    parts = ["train"] * 40 + ["Val"] * 8 + ["test"] * 12
    data = set_up(write(tmp_path, part=parts), split="part", row_id="name", val_fraction=0.5)
    ids = data.arrays.train_ids
    assert ids is not None
    assert [ids[row] for row in data.train_indices] == [f"pet{row}" for row in range(40)]
    assert [ids[row] for row in data.val_indices] == [f"pet{row}" for row in range(40, 48)]
    assert data.arrays.test_ids == [f"pet{row}" for row in range(48, 60)]
    data.save_split(tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_text().splitlines()[-1] == "test,pet59,rabbit"
    fewer = set_up(write(tmp_path, part=parts), split="part", train_size=10)
    assert (len(fewer.train_indices), len(fewer.val_indices)) == (10, 8)


def test_a_class_that_only_the_test_set_has_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, part=["train"] * 50 + ["test"] * 10, species=["cat", "dog"] * 29 + ["cat", "fox"])
    data = set_up(path, split="part", class_names=["cat", "dog", "fox"])
    assert torch.bincount(data.arrays.y_test).tolist() == [5, 4, 1]


def test_true_labels(tmp_path: Path) -> None:
    wrong = ["cat" if row < 12 else species for row, species in enumerate(pets()["species"])]
    path = write(tmp_path, noted=wrong)
    data = set_up(path, label="noted", clean_label="species")
    assert data.labels.clean is not None
    assert data.labels.rate == pytest.approx((data.labels.clean != data.labels.observed).float().mean())
    assert 0 < data.labels.rate < 0.2
    names = pets()["species"]
    assert data.arrays.test_ids is not None
    test_names = [names[int(row.split()[1]) - 2] for row in data.arrays.test_ids]
    assert [data.arrays.class_names[label] for label in data.arrays.y_test] == test_names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([row % 3 + 1 for row in range(ROWS)], ("1", "2", "3")),
        ([float(10 * (row % 3)) for row in range(ROWS)], ("0", "10", "20")),
        (["none", "n/a"] * (ROWS // 2), ("n/a", "none")),
        ([("2", "10", "9")[row % 3] for row in range(ROWS)], ("2", "9", "10")),
        ([("00", "01", "1")[row % 3] for row in range(ROWS)], ("00", "01", "1")),
        (["1_1", "11"] * (ROWS // 2), ("11", "1_1")),
        (["1e3", "1000"] * (ROWS // 2), ("1000", "1e3")),
        (["9007199254740993", "9007199254740992"] * (ROWS // 2), ("9007199254740992", "9007199254740993")),
    ],
)
def test_labels_of_any_kind(tmp_path: Path, labels: list[Any], names: tuple[str, ...]) -> None:
    data = set_up(write(tmp_path, species=labels), noise=LabelNoise("sym", rate=0.4, count="exact"))
    assert data.arrays.class_names == names
    assert data.labels.rate == pytest.approx(0.4, abs=0.03)


def test_names_and_texts_made_of_digits_stay_as_they_are(tmp_path: Path) -> None:
    numbers = [f"{1000 + row}" for row in range(ROWS)]
    data = set_up(write(tmp_path, number=numbers), row_id="number", text="legs", length=1)
    assert {*(data.arrays.train_ids or ()), *(data.arrays.test_ids or ())} == set(numbers)
    assert list(data.word_numbers) == ["4"]
    for row in range(ROWS):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{row:04}", format="PNG")
    data = set_up(
        write(tmp_path, photo=[f"{row:04}" for row in range(ROWS)]), image="photo", row_id="photo", image_size=8
    )
    assert data.arrays.x_train[torch.arange(48)].shape == (48, 3, 8, 8)


def test_images_lie_beside_the_table(tmp_path: Path) -> None:
    paths = []
    for row in range(ROWS):
        path = tmp_path / f"{row}.png"
        Image.new("RGB", (20, 10), (row, 0, 0)).save(path)
        paths.append(path.name)
    data = set_up(write(tmp_path, photo=paths), image="photo", image_size=8, num_workers=0)
    assert data.input_shape == (3, 8, 8)
    lines = [int(name.split()[1]) for name in data.arrays.train_ids or ()]
    assert data.arrays.x_train[torch.tensor([5])][0, 0, 0, 0] == lines[5] - 2
    (tmp_path / "7.png").unlink()
    with pytest.raises(ValueError, match=r"^photo of line 9: there is no file .*7\.png, or it is empty"):
        set_up(tmp_path / "pets.csv", image="photo")
    with pytest.raises(
        ValueError, match=r"^photo of line 4 is missing; fill in the path of the image, or remove the row"
    ):
        set_up(write(tmp_path, photo=[*paths[:2], " ", *paths[3:]]), image="photo")


def test_texts_become_words_of_the_training_set(tmp_path: Path) -> None:
    texts = [f"It is a {SPECIES[row % 3].upper()}" for row in range(ROWS)]
    parts = ["train"] * 48 + ["test"] * 12
    texts[-1] = '"an unseen animal, it is"'
    data = set_up(write(tmp_path, note=texts, part=parts), text="note", split="part", vocabulary=7, length=5)
    # In the training set, a, is and it are in all texts, and the three species in equally many.
    assert data.arrays.x_train[:3].tolist() == [[4, 3, 2, 6, 0], [4, 3, 2, 5, 0], [4, 3, 2, 1, 0]]
    assert data.arrays.x_test[-1].tolist() == [1, 1, 1, 4, 3]
    batch = next(iter(data.train_dataloader()))
    assert (batch.x.dtype, data.input_shape) == (torch.int64, (5,))
    assert data.arrays.digest() == set_up(data.path, text="note", split="part", vocabulary=7, length=5).arrays.digest()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"label": "specis"}, r"^label: .*pets.csv has no column 'specis'; .*nearest first: species, "),
        ({}, {"features": ["wieght"]}, r"^features: .* has no column 'wieght'; .*nearest first: weight, "),
        ({}, {"image": "photo"}, "^image: .* has no column 'photo'"),
        ({}, {"text": "note"}, "^text: .* has no column 'note'"),
        ({}, {"split": "part"}, "^split: .* has no column 'part'"),
        ({}, {"features": "weight"}, r"^features must be a list of columns, got 'weight'; write \[weight\]"),
        ({}, {"text": "color", "image": "name"}, "^image and text cannot be set together"),
        ({}, {"features": ["legs", "species"]}, "^features names 'species', which is the column of label; .* another"),
        (
            {},
            {"features": ["color"], "clean_label": "color"},
            "^features names 'color', which is the column of clean_l",
        ),
        ({}, {"features": ["name"], "row_id": "name"}, "^features names 'name', which is the column of row_id"),
        ({"part": ["train", "test"] * 30}, {"text": "part", "split": "part"}, "^text names 'part', .* column of split"),
        ({}, {"image": "species"}, "^image names 'species', which is the column of label"),
        ({}, {"label": "name"}, "^label: name has 60 different values in 60 rows"),
        ({}, {"split": "color"}, "^color of line 2 must be one of train, val, test, got 'black'"),
        ({"part": ["train"] * ROWS}, {"split": "part"}, "^split: no row of part is 'test'"),
        (changed("weight", 3, ""), {}, "^weight of line 5 is missing; fill it in, remove the rows, or leave"),
        (changed("weight", 3, "inf"), {}, r"^weight of line 5 \(inf\) is no finite float32"),
        (changed("color", 4, ""), {"features": ["color"]}, "^color of line 6 is missing"),
        (changed("color", 4, " "), {"text": "color"}, "^color of line 6 is missing"),
        (changed("species", 5, ""), {}, "^species of line 7 is missing"),
        ({"species": pets()["weight"]}, {}, r"^species of line 2 \(.*\) is no class; .*data=npz_regression"),
        ({"species": ["cat"] * ROWS}, {}, r"^species has 1 class \(cat\)"),
        ({"weight": None, "legs": None}, {}, "^features: .* has no columns of numbers besides species"),
        ({}, {"class_names": ["cat", "dog"]}, "^species of line 4 is rabbit, but the classes are cat, dog"),
        (
            {"part": ["train"] * 50 + ["test"] * 10, "species": ["cat", "dog"] * 29 + ["cat", "fox"]},
            {"split": "part"},
            "^species of test sample line 61 is fox, which no training sample has; name all classes in class_names",
        ),
        (
            {"noted": [row % 3 for row in range(ROWS)]},
            {"label": "noted", "clean_label": "species"},
            r"^noted is an integer \(0\) in one place and text \('dog'\) in another, .*; use one type",
        ),
        ({}, {"vocabulary": 2}, "^vocabulary must lie in"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        set_up(path, **options)


def test_too_many_categories(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("word,kind\n" + "".join(f"w{row},{row % 2}\n" for row in range(101)))
    with pytest.raises(ValueError, match=r"^features: word is text with 101 different values; .* may have 100"):
        set_up(path, label="kind", features=["word"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has no rows below its header"),
        (b"a,b\n1,2\n3\n", "line 3 of .* has 1 fields, its header 2"),
        (b"a,a\n1,2\n", "has two columns 'a'"),
        (b'a,b\n"1,2\n', r"line 2 of .* cannot be read \("),
        (b"a,b\n\xff\xfe,2\n", "is no text in UTF-8"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(ValueError, match=f"^path: .*{message}"):
        set_up(tmp_path / "bad.csv")


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^path: there is no file .*gone\.csv"):
        set_up(tmp_path / "gone.csv")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"^path must end in \.csv, \.tsv or \.parquet, got table\.xlsx"):
        set_up(tmp_path / "table.xlsx")


def test_quoted_lines_and_marks_of_other_programs(tmp_path: Path) -> None:
    # As spreadsheets save them: with a mark of the encoding, quoted line breaks and blank lines.
    lines = "\r\n".join(f'{row % 2},"line one\r\nof {row}",{row}' for row in range(20))
    (tmp_path / "sheet.csv").write_bytes(b"\xef\xbb\xbf" + f"kind,note,size\r\n{lines}\r\n\r\n".encode())
    data = set_up(tmp_path / "sheet.csv", label="kind")
    assert data.arrays.class_names == ("0", "1")
    assert data.arrays.train_ids is not None
    assert data.arrays.test_ids is not None
    assert sorted(int(name.split()[1]) for name in [*data.arrays.train_ids, *data.arrays.test_ids])[:3] == [2, 4, 6]


def test_damaged_parquet(tmp_path: Path) -> None:
    path = write(tmp_path, "pets.parquet")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"^path: .*pets\.parquet is no readable Parquet file"):
        set_up(path)


def test_parquet_without_values(tmp_path: Path) -> None:
    path = write(tmp_path, "pets.parquet", **changed("weight", 3, None))
    with pytest.raises(ValueError, match=r"^weight of row 3 is missing"):
        set_up(path)
    path = write(tmp_path, "pets.parquet", **changed("species", 3, None))
    with pytest.raises(ValueError, match=r"^species of row 3 is missing"):
        set_up(path)
