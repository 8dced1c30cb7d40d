"""The command ``python -m noisylabels_pl.noise``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisylabels_pl.cli.noise import main

Preview = Callable[..., str]


@pytest.fixture
def preview(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Preview:
    """Runs the command in an empty folder, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> str:
        main(arguments)
        return capsys.readouterr().out

    return run


def cells(printed: str) -> dict[str, list[str]]:
    """The lines of all tables, by their first cell."""
    lines = [line.split("│")[1:-1] for line in printed.splitlines() if "│" in line]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_it_shows_counts_rates_and_T(preview: Preview, tmp_path: Path) -> None:
    printed = preview("data=digits", "noise=asym", "noise.rate=0.3", "noise.count=exact", "--output", "shown")
    shown = cells(printed)
    assert printed.splitlines()[0].strip() == "asym 0.3 on digits, seed 0"
    assert shown["training samples"] == ["1348"]
    assert shown["wrong labels"] == ["203"]
    assert shown["realized noise rate"] == ["15.1 %"]
    assert shown["expected by T of the noise"] == ["15.1 %"]
    assert shown["2"] == ["132", ".", ".", "70", ".", ".", ".", ".", "30", ".", "."]
    assert shown["0"] == ["133", "100", *["."] * 9]
    assert "…" not in printed
    with Image.open(tmp_path / "shown" / "noise.png") as image:
        assert image.width > 1.5 * image.height
    with np.load(tmp_path / "shown" / "noise.npz") as file:
        assert (file["observed"] != file["clean"]).sum() == 203


def test_the_labels_are_those_of_a_run(preview: Preview, tmp_path: Path, cli: Callable[..., Path]) -> None:
    noise = ("data=digits", "noise=instance", "noise.rate=0.4", "seed=3")
    preview(*noise, "--output=shown")
    folder = cli(*noise, "method=ce", "trainer=cpu", "trainer.max_epochs=1")
    with np.load(tmp_path / "shown" / "noise.npz") as shown, np.load(folder / "noise.npz") as trained:
        assert (shown["observed"] == trained["observed"]).all()


def test_nothing_is_written_unless_asked(preview: Preview, tmp_path: Path) -> None:
    assert "0.2 on digits" in preview("noise.rate=0.2")
    assert list(tmp_path.iterdir()) == []


def test_many_classes_have_their_most_frequent_mistakes(preview: Preview, tmp_path: Path) -> None:
    y, x = np.arange(400) % 20, np.zeros((400, 2))
    x[:, 0] = y
    np.savez(tmp_path / "twenty.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    printed = preview("data=npz", "data.path=twenty.npz", "noise=asym", "noise.map=blocks", "noise.count=exact")
    assert "│ 4          │      20 │    60 │ 0 40                   │" in printed
    printed = preview("data=npz", "data.path=twenty.npz", "noise=sym", "noise.rate=0.95")
    assert "more │" in printed


def test_annotators_and_targets(preview: Preview, tmp_path: Path) -> None:
    assert "of annotator 2" in preview("noise=annotators")
    printed = preview("data=diabetes", "noise=signflip", "noise.rate=0.5", "--output=shown")
    assert "│ realized noise rate │ 50.0 % │" in printed
    assert (tmp_path / "shown" / "noise.png").stat().st_size > 5000


def test_labels_without_true_ones(preview: Preview, tmp_path: Path) -> None:
    x, y = np.eye(6), np.arange(6) % 2
    np.savez(tmp_path / "two.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert "unknown: the dataset has no true labels" in preview("data=npz", "data.path=two.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["noise=asyn"], r"error: there is no noise=asyn; the options, the nearest first: asym, "),
        (["noise.rat=0.3"], r"error: nothing reads noise\.rat; the nearest key is noise\.rate"),
        (["noise.rate=1.5"], r"error: noise: rate must lie in \[0, 1\], got 1\.5"),
        (["noise=file"], r"error: noise\.path has no value; set it: noise\.path=VALUE"),
        (["noise=confusions", "noise.probabilities=gone.npy"], r"error: probabilities: there is no file .*/gone\.npy"),
        (["noise=binary"], r"error: num_classes must lie in \[2, 2\], got 10; kind='binary' is for two classes"),
        (["data=npz", "data.path=two.npz", "--output=shown"], r"error: the true labels of this dataset are unknown"),
        (["--output=run"], r"error: --output: run is the folder of a run"),
    ],
)
def test_mistakes(arguments: list[str], message: str, preview: Preview, tmp_path: Path) -> None:
    x, y = np.eye(6), np.arange(6) % 2
    np.savez(tmp_path / "two.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(SystemExit, match=f"^{message}") as error:
        preview(*arguments)
    assert "\n" not in str(error.value)


def test_ones_own_noise(preview: Preview, tmp_path: Path) -> None:
    (tmp_path / "mine" / "noise").mkdir(parents=True)
    (tmp_path / "mine" / "noise" / "swap.yaml").write_text(
        "_target_: noisylabels_pl.data.LabelNoise\nkind: asym\nrate: 1.0\nmap: {3: 8, 8: 3}\n"
    )
    printed = preview("noise=swap", "--config-dir=mine")
    assert "swap 1.0 on digits" in printed
    assert cells(printed)["3"] == ["138", *["."] * 8, "100", "."]


def test_developers_get_the_traceback(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="rate must lie in"):
        preview("noise.rate=1.5")
