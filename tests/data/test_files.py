"""Files that are read and written."""

from __future__ import annotations

import errno
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data.files import (
    load_npz,
    read_transition_matrix,
    remove_partial_files,
    save_tensors,
    write_atomically,
)

T = [[0.5, 0.5], [0.0, 1.0]]
ARRAYS = {"x_train": np.random.default_rng(0).normal(size=(60, 5)), "y_train": np.arange(60) % 4}

# --- npz files --------------------------------------------------------------------------------------------------------


def test_all_arrays_of_an_npz_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **ARRAYS)
    arrays = load_npz(tmp_path / "mine.npz", "path")
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_no_such_npz_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^features: there is no file .*absent\.npz; make it$"):
        load_npz(tmp_path / "absent.npz", "features", hint="make it")


def write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 2)))


def write_half(path: Path) -> None:
    np.savez(path, **ARRAYS)
    path.write_bytes(path.read_bytes()[:1500])


def write_damaged(path: Path) -> None:
    np.savez_compressed(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(60)
    path.write_bytes(bytes(content))


def write_text(path: Path) -> None:
    path.write_text("x,y\n1,0\n")


NOT_NPZ = {"text": write_text, "npy": write_npy, "half": write_half, "damaged": write_damaged, "empty": Path.touch}


@pytest.mark.parametrize("kind", NOT_NPZ)
def test_not_an_npz_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.npz"
    NOT_NPZ[kind](path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^path: .*mine\.npz is not a readable npz"):
        load_npz(path, "path")


class Trap:
    """Something that acts when it is unpickled."""

    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(Trap())) is None  # the trap works
    assert Trap.sprung
    Trap.sprung = False
    np.savez(tmp_path / "mine.npz", **ARRAYS, traps=np.array([Trap()] * 60))
    with pytest.raises(ValueError, match=r"^path: .*mine\.npz is not a readable npz file of numbers"):
        load_npz(tmp_path / "mine.npz", "path")
    assert not Trap.sprung


# --- transition matrices ----------------------------------------------------------------------------------------------


def write_matrix(path: Path) -> Path:
    if path.suffix == ".npy":
        np.save(path, np.array(T))
    elif path.suffix == ".npz":
        np.savez(path, T=np.array(T))
    else:
        path.write_text("0.5,0.5\n0,1\n")
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".txt"])
def test_transition_matrix_of_every_format(tmp_path: Path, suffix: str) -> None:
    matrix = read_transition_matrix(str(write_matrix(tmp_path / f"T{suffix}")), "matrix")
    assert matrix.dtype == torch.float64
    assert matrix.tolist() == T


def test_transition_matrix_counted_from_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", clean=[0, 0, 1, 1], observed=[0, 1, 1, 1])
    assert read_transition_matrix(tmp_path / "labels.npz", "matrix").tolist() == T


def test_files_without_a_transition_matrix(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^matrix: there is no file .*absent\.npy"):
        read_transition_matrix(tmp_path / "absent.npy", "matrix")
    np.savez(tmp_path / "clean.npz", clean=[0, 1])
    with pytest.raises(ValueError, match=r"^matrix: .*clean\.npz must hold T, or clean and observed; it holds clean$"):
        read_transition_matrix(tmp_path / "clean.npz", "matrix")
    (tmp_path / "T.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"^matrix must be a \.npy, \.csv or \.npz file of numbers, got .*T\.csv"):
        read_transition_matrix(tmp_path / "T.csv", "matrix")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with write_atomically(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail() -> None:
        with write_atomically(path) as partial:
            partial.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("exists", "kept"), [(True, "the old one is still whole"), (False, "nothing was written")])
def test_an_error_of_the_disk_names_the_file(exists: bool, kept: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    if exists:
        path.write_text("old")

    def fail() -> None:
        with write_atomically(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"^cannot write .*/result.json: No space left on device; {kept}$") as raised:
        fail()
    assert raised.value.errno == errno.ENOSPC
    assert path.exists() is exists


# --- tensors ----------------------------------------------------------------------------------------------------------


class Interrupted(io.FileIO):
    """A file whose writing fails after a while, as on a full disk or by Ctrl-C."""

    error: BaseException

    def write(self, content: Any) -> int:
        if self.tell() > 1000:
            raise self.error
        return super().write(content)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), r"^cannot write .*T\.pt: No space left on device; .*still whole$"),
        (KeyboardInterrupt(), "^$"),
    ],
    ids=["full disk", "Ctrl-C"],
)
def test_what_interrupts_a_write_is_raised_and_leaves_the_old_file(
    error: BaseException, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not torch's error about positions in the file."""
    path = tmp_path / "T.pt"
    save_tensors({"T": torch.eye(2)}, path)
    monkeypatch.setattr(Interrupted, "error", error, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: Interrupted(path, mode))
        with pytest.raises(type(error), match=message):
            save_tensors({"T": torch.zeros(9000)}, path)
    assert torch.equal(torch.load(path)["T"], torch.eye(2))
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_matter_of_files_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="pickle"):
        save_tensors({"T": lambda: None}, tmp_path / "T.pt")
    assert not list(tmp_path.iterdir())


def test_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in (".last.ckpt.12.partial", "a/.result.json.7.partial", "a/kept.partial", "kept"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["kept", "kept.partial"]
