"""Regression from the command line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from noisylabels_pl.data import Diabetes
from tests.helpers import composed

Cli = Callable[..., Path]
DIABETES = ("data=diabetes", "trainer=cpu", "trainer.max_epochs=3")
SYNTHETIC = ("data=synthetic_regression", "data.num_samples=300", "trainer=cpu", "trainer.max_epochs=2")
NUMBERS = {"last", "last_10", "best_val", "label_wave", "best_oracle"}


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_files_and_table(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli(*DIABETES, "method=mse")
    row, table = result(folder), capsys.readouterr().out
    assert row["metric"] == "r2"
    assert row["monitor"] == "val/r2"
    assert "test_acc" not in row
    r2, validation = row["history"]["test/r2"], row["history"]["val/r2"]
    assert len(r2) == row["epochs"] == 3
    assert row["test_r2"] == pytest.approx(
        {
            "last": r2[-1],
            "last_10": sum(r2) / 3,
            "best_val": r2[validation.index(max(validation))],
            "label_wave": None,
            "best_oracle": max(r2),
        }
    )
    assert not [name for name in row["history"] if "acc" in name]
    assert not [name for name in row["history"] if "r2_" in name]  # one output
    assert "accuracy" not in table
    for line, shown in [
        ("test R², last epoch", f"{r2[-1]:.3f}"),
        ("mean of the last 3 epochs", f"{sum(r2) / 3:.3f}"),
        ("noisy-validation", f"{row['test_r2']['best_val']:.3f}"),
        ("oracle", f"{max(r2):.3f}"),
        ("all training samples", f"{100 * row['pool_precision']:.1f} %"),
        ("realized noise rate", f"{100 * row['noise']['training_rate']:.1f} %"),
    ]:
        assert shown in next(text for text in table.splitlines() if line in text)
    assert "mse on diabetes, signflip 0.4" in table
    assert row["noise"]["realized_rate"] == round(0.4 * 354) / 354
    assert row["noise"]["realized_T"] is None
    assert row["selection_precision"] is None
    assert row["data"]["origin"] == "sklearn.datasets.load_diabetes"
    assert (row["data"]["train_samples"], row["data"]["val_samples"], row["data"]["test_samples"]) == (319, 35, 88)
    assert OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")) == row["config"]
    with (folder / "metrics.csv").open() as file:
        assert [float(line["test/r2"]) for line in csv.DictReader(file)] == r2
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == validation.index(max(validation))
    with Image.open(folder / "curves.png") as image:
        assert image.width > image.height > 400
        assert len(image.convert("RGB").getcolors(10**6) or []) > 20  # something is drawn


def test_several_outputs_without_validation(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    row = result(cli(*SYNTHETIC, "method=mse", "noise=uninoise"))
    history = row["history"]
    assert set(row["test_r2"]) == NUMBERS
    assert row["test_r2"]["best_val"] is None
    assert "n/a: no validation split" in capsys.readouterr().out
    each = [history[f"test/r2_{i}"][-1] for i in range(10)]
    assert "test/r2_10" not in history
    assert row["test_r2"]["last"] == history["test/r2"][-1] == pytest.approx(sum(each) / 10, abs=1e-5)


@pytest.mark.parametrize("noise", ["linadv", "pairflip", "mixture", "none"])
def test_other_noise(cli: Cli, noise: str) -> None:
    overrides = ["noise.count=exact", "noise.rate=0.25"] if noise != "none" else []
    row = result(cli(*SYNTHETIC, "method=huber", f"noise={noise}", *overrides, "trainer.max_epochs=1"))
    assert row["noise"]["realized_rate"] == (0.25 if noise != "none" else 0.0)
    assert row["pool_precision"] == (0.75 if noise != "none" else 1.0)


@pytest.mark.parametrize("features", [0, 1.5])
def test_noise_is_saved_and_reloadable(cli: Cli, features: float) -> None:
    first = cli(*DIABETES, "method=mse", "seed=3", f"noise.features={features}")
    saved = np.load(first / "noise.npz")
    row = result(first)
    data = Diabetes()
    data.setup()
    assert np.array_equal(saved["clean"], data.arrays.y_train.numpy())
    wrong = (saved["observed"] != saved["clean"]).any(1)
    assert row["noise"]["realized_rate"] == wrong.mean()
    assert ("features" in saved) == (features > 0)
    if features:
        assert (saved["features"] != data.arrays.x_train.numpy()[wrong]).any(1).all()
    reload = ("noise=file", f"noise.path={first / 'noise.npz'}")
    again = result(cli(*DIABETES, "method=mse", "seed=3", *reload, folder="again"))
    assert again["noise"] == row["noise"] | {"name": "file"}
    assert again["history"]["train/loss"] == row["history"]["train/loss"]
    assert again["history"]["val/loss"] == row["history"]["val/loss"]


def test_corrupted_features_are_trained_on(cli: Cli) -> None:
    plain, corrupted = (
        result(cli(*DIABETES, "method=mse", f"noise.features={features}", folder=f"run{features}"))
        for features in (0.0, 3.0)
    )
    assert plain["noise"]["sha256"] != corrupted["noise"]["sha256"]
    assert plain["noise"]["realized_rate"] == corrupted["noise"]["realized_rate"]
    assert plain["data"] == corrupted["data"]
    assert plain["history"]["train/loss"] != corrupted["history"]["train/loss"]


WITHIN_BATCHES = ("prl_l", "spl", "min_sgd", "prl_g", "co_prl_l", "co_teaching")


@pytest.mark.parametrize("method", [*WITHIN_BATCHES, "huber", "norm_clip", "individual_clip"])
def test_methods(cli: Cli, capsys: pytest.CaptureFixture[str], method: str) -> None:
    row = result(cli(*DIABETES, f"method={method}", "trainer.max_epochs=2"))
    assert row["metric"] == "r2"
    assert set(row["test_r2"]) == NUMBERS
    assert row["test_r2"].pop("label_wave") is None  # predicted numbers always change
    assert all(-100 < value < 1 for value in row["test_r2"].values())
    assert all(np.isfinite(row["history"]["train/loss"]))
    table = capsys.readouterr().out
    if method in WITHIN_BATCHES:
        assert 0 < row["selection_precision"] <= 1
        assert f"{100 * row['selection_precision']:.1f} %" in next(
            line for line in table.splitlines() if "selected in the last epoch" in line
        )
    else:
        assert row["selection_precision"] is None
        assert "selected" not in table


@pytest.mark.parametrize("method", ["prl_l", "spl", "prl_g"])
def test_selection_finds_right_targets(cli: Cli, method: str) -> None:
    row = result(cli(*DIABETES, f"method={method}", "noise=linadv", "method.forget_rate=0.4"))
    assert row["pool_precision"] == pytest.approx(0.6, abs=0.05)
    assert row["selection_precision"] > 0.85  # linadv's targets are 15 standard deviations away


def test_a_run_repeats(cli: Cli) -> None:
    one, other = (result(cli(*DIABETES, "method=co_prl_l", folder=folder)) for folder in ("one", "other"))
    assert one["history"]["test/r2"] == other["history"]["test/r2"]


# --- what does not fit together ---------------------------------------------------------------------------------------


def refused(cli: Cli, *overrides: str) -> str:
    with pytest.raises(SystemExit) as exit_with:
        cli("trainer=cpu", "trainer.max_epochs=1", *overrides)
    message = str(exit_with.value)
    assert message.startswith("error: ")
    assert "Traceback" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    "method",
    [
        "crust",
        "elr",
        "elr_plus",
        "forward",
        "backward",
        "ce",
        "gce",
    ],
)
def test_methods_for_classes_are_refused_for_numbers(cli: Cli, method: str) -> None:
    assert "regression" in refused(cli, "data=diabetes", f"method={method}")


@pytest.mark.parametrize("method", ["mse", "huber"])
def test_methods_for_numbers_are_refused_for_classes(cli: Cli, method: str) -> None:
    assert "classification" in refused(cli, "data=digits", f"method={method}")


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("method", ["mse", "huber"])
def test_methods_for_numbers_are_refused_for_three_classes(cli: Cli, method: str) -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert "classification" in refused(
        cli, "data=npz", "data.path=mine.npz", f"method={method}", "trainer.max_epochs=1"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("monitor=val/acc",), "monitor must be one of val/r2, val/loss, got 'val/acc'"),
        (("monitor=test/r2",), "monitor must be one of val/r2, val/loss, got 'test/r2'"),
        (("noise=sym",), r"kind='sym' is not for .* linadv, signflip, uninoise, pairflip"),
        (("noise=asym",), r"kind='asym' is not for "),
        (("noise=pairflip",), "at least two coordinates"),
        (("noise.features=-1",), r"noise: features must not be negative.* -1"),
        (("noise.rate=1.5",), r"noise: rate must lie in \[0, 1\], got 1.5"),
        (("noise=file", "noise.path=gone.npz"), "path: there is no file .*gone.npz"),
        (
            ("data=synthetic_regression", "data.num_samples=3"),
            r"data: num_samples must lie in \[10, inf\), got 3",
        ),
        (("data=synthetic_regression", "data.unpredictable=1"), r"data: unpredictable must lie in \[0, 1\), got 1"),
        (("data=digits", "noise=signflip", "method=ce"), r"kind='signflip' is not for .* sym"),
        (("data=digits", "monitor=val/r2", "method=ce"), "monitor must be one of val/acc, val/loss, got 'val/r2'"),
    ],
)
def test_mistakes_are_told_in_a_few_lines(cli: Cli, overrides: tuple[str, ...], message: str) -> None:
    given = {item.split("=")[0] for item in overrides}
    usual = [item for item in ("data=diabetes", "method=mse") if item.split("=")[0] not in given]
    assert re.search("(?s)" + message, refused(cli, *usual, *overrides))


def test_noise_of_another_dataset(cli: Cli) -> None:
    first = cli(*DIABETES, "method=mse", "trainer.max_epochs=1")
    reload = ("noise=file", f"noise.path={first / 'noise.npz'}")
    assert "path: " in refused(cli, *SYNTHETIC, "method=mse", *reload)
    assert "path: " in refused(cli, "data=digits", "method=ce", *reload)


# --- composition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "monitor"),
    [
        ((), "val/acc"),
        (("data=diabetes",), "val/r2"),
        (("data=synthetic_regression",), "val/r2"),
        (("experiment=loss_correction/mnist_asym",), "val/loss"),
        (("experiment=elr/cifar10_sym",), "val/acc"),
        (("data=diabetes", "monitor=val/loss"), "val/loss"),
        (("monitor=val/loss", "data=diabetes"), "val/loss"),
        (("experiment=loss_correction/mnist_asym", "monitor=val/acc"), "val/acc"),
    ],
)
def test_what_chooses_the_best_epoch(overrides: tuple[str, ...], monitor: str) -> None:
    assert composed(*overrides).monitor == monitor


def test_monitor_of_the_command_line_is_that_of_the_run(cli: Cli) -> None:
    folder = cli(*DIABETES, "method=mse", "monitor=val/loss")
    row = result(folder)
    losses = row["history"]["val/loss"]
    assert row["monitor"] == "val/loss"
    assert row["test_r2"]["best_val"] == row["history"]["test/r2"][losses.index(min(losses))]


@pytest.mark.parametrize("method", ["prl_l_paper", "prl_g_paper", "co_prl_l_paper"])
def test_the_papers_methods_are_told_the_rate(method: str) -> None:
    assert composed("data=diabetes", f"method={method}", "noise.rate=0.3").method.forget_rate == 0.3
    assert composed("data=diabetes", f"method={method}", "noise.rate=0.45").method.forget_rate == 0.45


@pytest.mark.parametrize("method", ["prl_l", "spl", "prl_g", "co_prl_l", "co_teaching"])
def test_the_others_are_not(method: str) -> None:
    rates = {composed("data=diabetes", f"method={method}", f"noise.rate={r}").method.forget_rate for r in (0.3, 0.45)}
    assert len(rates) == 1
    assert rates.isdisjoint({0.3, 0.45})
