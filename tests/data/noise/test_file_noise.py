"""Labels of files that people publish, and their synthetic twins."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data import FileNoise, LabelNoise, NoisyLabels, TwinNoise
from noisylabels_pl.data.datasets.cifar10 import CLASS_NAMES
from tests.data.noise.noise_samples import ANNOTATED, CLEAN, EACH, TARGETS, counts, draw_labels, largest_deviation

WORSE = draw_labels("sym", rate=0.4, seed=1).observed
AGGRE = draw_labels("sym", rate=0.1, seed=2).observed


def cifar10n(folder: Path) -> Path:
    """A file in the layout of CIFAR-10N."""
    path = folder / "CIFAR-10_human.pt"
    labelings = {"clean_label": CLEAN, "worse_label": WORSE, "aggre_label": AGGRE}
    torch.save({name: labels.numpy() for name, labels in labelings.items()}, path)
    return path


def cifar100n(folder: Path) -> Path:
    """A file in the layout of CIFAR-100N, of ten classes in five superclasses."""
    path = folder / "CIFAR-100_human.pt"
    labelings = {
        "noisy_coarse_label": AGGRE // 2,
        "clean_coarse_label": CLEAN // 2,
        "noisy_label": WORSE,
        "clean_label": CLEAN,
    }
    torch.save({name: labels.numpy() for name, labels in labelings.items()}, path)
    return path


def read(path: Path, clean: Any = CLEAN, key: str | None = None) -> NoisyLabels:
    return FileNoise(path, key=key).apply(CLEAN, CLASS_NAMES, clean=clean)


# --- published files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "expected"), [("worse_label", WORSE), ("aggre_label", AGGRE)])
@pytest.mark.parametrize("clean", [None, CLEAN], ids=["true labels of the file", "of both"])
def test_cifar10n(tmp_path: Path, key: str, expected: Any, clean: Any) -> None:
    labels = read(cifar10n(tmp_path), clean, key)
    assert torch.equal(labels.observed, expected)
    assert labels.observed.dtype == torch.int64
    assert labels.rate == float((expected != CLEAN).double().mean())
    assert labels.T is None


def test_cifar100n(tmp_path: Path) -> None:
    labels = read(cifar100n(tmp_path), key="noisy_label")
    assert torch.equal(labels.observed, WORSE)
    coarse = FileNoise(cifar100n(tmp_path), key="noisy_coarse_label").apply(CLEAN // 2, CLASS_NAMES[:5])
    assert torch.equal(coarse.observed, AGGRE // 2)
    assert torch.equal(coarse.clean, CLEAN // 2)


def test_a_file_of_an_older_numpy(tmp_path: Path) -> None:
    path = cifar10n(tmp_path)
    old = tmp_path / "old.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(name, content)
    assert torch.equal(read(old, key="worse_label").observed, WORSE)


def test_a_file_without_a_zip_archive(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"clean_label": CLEAN.numpy(), "worse_label": WORSE.numpy()}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read(path, key="worse_label").observed, WORSE)


@pytest.mark.parametrize("value", [WORSE, WORSE.numpy().astype(np.uint8), WORSE.tolist(), list(WORSE.numpy())])
def test_arrays_tensors_and_lists(tmp_path: Path, value: Any) -> None:
    torch.save({"noisy": value, "description": "a text"}, tmp_path / "labels.pt")
    assert torch.equal(read(tmp_path / "labels.pt").observed, WORSE)


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("bomb"),)


def test_a_file_that_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"noisy": WORSE, "bomb": Bomb()}, "labels.pt")
    np.save("labels.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    for name in ("labels.pt", "labels.npy"):
        with pytest.raises(ValueError, match=rf"^path: {name} is not a readable .* numbers") as error:
            read(Path(name))
        assert "weights_only" not in str(error.value)
        assert "\n" not in str(error.value)
    assert not Path("bomb").exists()


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", WORSE.numpy())
    labels = read(tmp_path / "labels.npy")
    assert torch.equal(labels.observed, WORSE)
    assert labels.rate == pytest.approx(0.4, abs=0.05)  # by the true labels of the dataset
    assert read(tmp_path / "labels.npy", clean=None).rate is None


def test_npz_of_any_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", human=WORSE.numpy(), y_train_clean=CLEAN.numpy())
    assert torch.equal(read(tmp_path / "labels.npz").observed, WORSE)


@pytest.mark.parametrize("names", [True, False], ids=["names", "numbers"])
def test_csv(tmp_path: Path, names: bool) -> None:
    labels = [CLASS_NAMES[label] if names else str(label) for label in WORSE.tolist()]
    path = tmp_path / "labels.csv"
    rows = [f"{row}, {label}" for row, label in enumerate(labels)]
    path.write_text("\n".join(["file,label", *rows]) + "\n")
    assert torch.equal(read(path, key="label").observed, WORSE)
    path.write_text("\n".join(["file,7", *rows]))
    assert torch.equal(read(path, key=7).observed, WORSE)  # type: ignore[arg-type] # as the command line reads it
    path.write_text("\n".join(labels if not names else ["label", *labels]))
    assert torch.equal(read(path).observed, WORSE)


def test_a_saved_run_keeps_its_matrix_and_annotators(tmp_path: Path) -> None:
    labels = draw_labels("sym")
    saved = NoisyLabels(labels.observed, labels.clean, labels.T, 10, annotators=torch.stack([AGGRE, WORSE]))
    saved.save(tmp_path / "noise.npz")
    again = read(tmp_path / "noise.npz", clean=None)
    torch.testing.assert_close(again.T, labels.T)
    assert again.annotators is not None
    assert torch.equal(again.annotators, torch.stack([AGGRE, WORSE]))
    one = read(tmp_path / "noise.npz", key="observed")
    assert torch.equal(one.observed, labels.observed)


def test_true_labels_of_the_dataset_serve_a_run_without_them(tmp_path: Path) -> None:
    NoisyLabels(ANNOTATED, None, None, 10).save(tmp_path / "noise.npz")
    assert read(tmp_path / "noise.npz").rate == pytest.approx(0.25)
    assert read(tmp_path / "noise.npz", clean=None).rate is None


def test_targets_of_regression(tmp_path: Path) -> None:
    observed = TARGETS.clone()
    observed[3] += 1
    np.save(tmp_path / "targets.npy", observed.double().numpy())
    labels = FileNoise(tmp_path / "targets.npy").apply(TARGETS, ("a", "b", "c", "d"), clean=TARGETS)
    assert torch.equal(labels.observed, observed)
    assert labels.rate == pytest.approx(1 / len(TARGETS))
    np.save(tmp_path / "one.npy", observed[:, 0].numpy())
    one = FileNoise(tmp_path / "one.npy").apply(TARGETS[:, :1], ("a",))
    assert torch.equal(one.observed, observed[:, :1])


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_another_dataset_is_refused_with_the_row(tmp_path: Path) -> None:
    other = CLEAN.clone()
    other[41] = 7
    with pytest.raises(ValueError, match=r"another dataset: true label 41 is 1 there and 7 here"):
        read(cifar10n(tmp_path), other, "worse_label")


def test_a_missing_key_lists_the_others(tmp_path: Path) -> None:
    path = cifar10n(tmp_path)
    with pytest.raises(ValueError, match=r"^key: .*human\.pt has no 'worst'; it has clean_label, worse_label, aggre"):
        read(path, key="worst")
    with pytest.raises(
        ValueError, match=r"^path: .*human\.pt has the arrays clean_label, worse_label, aggre_label; name"
    ):
        read(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (WORSE.numpy()[1:], r"labels has shape \(599,\); it must hold one label for each of the 600"),
        (WORSE.numpy()[:, None].repeat(2, 1), r"labels has shape \(600, 2\)"),
        (np.where(np.arange(600) == 17, np.nan, WORSE.numpy()), r"labels\[17\] is nan; every sample needs a label"),
        (WORSE.numpy() + 0.5, r"labels has type float64"),
        (np.where(np.arange(600) == 17, 10, WORSE.numpy()), r"labels\[17\] is 10; labels must lie in 0\.\.9"),
        (np.where(np.arange(600) == 17, -1, WORSE.numpy()), r"labels\[17\] is -1; labels must not be negative"),
        (np.array(["horsefly"] * 600), r"labels\[0\] is 'horsefly', but the classes are airplane, "),
    ],
    ids=["short", "matrix", "NaN", "float", "too large", "negative", "names"],
)
def test_labels_that_are_refused(tmp_path: Path, labels: Any, message: str) -> None:
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match=rf"^path: .*labels\.npy: {message}"):
        read(tmp_path / "labels.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty"),
        ("a,b\n1,2\n3\n", r"line 3 has 1 values, but the first one has 2"),
        ("1,2\n3,4\n", r"has 2 columns without names"),
        ("label\n1\n\xff", r"not a readable \.csv"),
        ("label\n1\n" + "\n".join(["2"] * 598) + "\ncat dog\n", r"label\[0\] is '1', but the classes are"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^path: .*labels\.csv.*{message}"):
        read(path)


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".npz"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04half"])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^path: .*labels\{suffix} is not a readable") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^path: there is no file .*gone\.pt"):
        read(tmp_path / "gone.pt")
    with pytest.raises(ValueError, match=r"^path must be a file with the ending \.npz, .*got .*labels\.xlsx"):
        read(tmp_path / "labels.xlsx")


# --- twins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["bernoulli", "exact"])
def test_a_twin_has_the_matrix_of_the_labeling(tmp_path: Path, count: Any) -> None:
    twin = TwinNoise(cifar10n(tmp_path), key="worse_label", count=count, seed=3).apply(CLEAN, CLASS_NAMES)
    T = counts(CLEAN, WORSE).double() / EACH
    torch.testing.assert_close(twin.T, T)
    if count == "exact":
        assert torch.equal(counts(CLEAN, twin.observed), counts(CLEAN, WORSE))
        assert twin.rate == float((WORSE != CLEAN).double().mean())
    else:
        assert (EACH * (twin.realized_T - T).abs() <= largest_deviation(T, EACH)).all()
    assert not torch.equal(twin.observed, WORSE)


def test_a_twin_of_another_dataset(tmp_path: Path) -> None:
    other = torch.arange(10).repeat(7)
    twin = TwinNoise(cifar10n(tmp_path), key="worse_label").apply(other, CLASS_NAMES)
    torch.testing.assert_close(twin.T, counts(CLEAN, WORSE).double() / EACH)


def test_a_twin_of_labels_without_true_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", WORSE.numpy())
    twin = TwinNoise(tmp_path / "labels.npy", count="exact").apply(CLEAN, CLASS_NAMES)
    assert torch.equal(counts(CLEAN, twin.observed), counts(CLEAN, WORSE))
    with pytest.raises(ValueError, match=r"^path: .*labels\.npy: labels has shape \(600,\)"):
        TwinNoise(tmp_path / "labels.npy").apply(CLEAN[:50], CLASS_NAMES)


def test_a_twin_of_a_run(tmp_path: Path) -> None:
    """Its matrix is counted, not the one that the run's labels were drawn from."""
    labels = LabelNoise("sym", rate=0.4, seed=1).apply(CLEAN, CLASS_NAMES)
    labels.save(tmp_path / "noise.npz")
    twin = TwinNoise(tmp_path / "noise.npz").apply(CLEAN, CLASS_NAMES)
    torch.testing.assert_close(twin.T, labels.realized_T)


def test_numbers_name_classes_that_are_numbered_otherwise(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([1, 2, 3, 1]))
    labels = FileNoise(str(tmp_path / "labels.npy")).apply(torch.tensor([0, 1, 2, 1]), ("1", "2", "3"))
    assert labels.observed.tolist() == [0, 1, 2, 0]
