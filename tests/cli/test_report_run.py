"""The report of a run: its result row, its table, its figures, and its errors."""

from __future__ import annotations

import csv
import errno
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from noisylabels_pl.cli import report_run
from noisylabels_pl.cli.errors import error_message
from noisylabels_pl.data import Digits
from tests.helpers import composed

from .wandb_file import records

Cli = Callable[..., Path]
SHORT = ("trainer=cpu", "trainer.max_epochs=7", "data.train_size=400")


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_files_and_table(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli(*SHORT)
    row = result(folder)
    table = capsys.readouterr().out
    accuracy = row["history"]["test/acc"]
    assert row["test_acc"]["last"] == accuracy[-1]
    assert row["test_acc"]["best_oracle"] == max(accuracy)
    for line, value in [
        ("test accuracy, last epoch", accuracy[-1]),
        ("mean of the last 7 epochs", sum(accuracy) / 7),
        ("oracle", max(accuracy)),
        ("selected in the last epoch", row["history"]["selection/precision"][-1]),
        ("all training samples", row["pool_precision"]),
        ("realized noise rate", row["noise"]["training_rate"]),
    ]:
        printed = next(text for text in table.splitlines() if line in text)
        assert f"{100 * value:.1f} %" in printed
    assert f"Files: {folder}\n" in table

    assert [row["method"], row["data"]["name"], row["noise"]["name"], row["net"]] == ["crust", "digits", "sym", "mlp"]
    assert (row["method_options"]["selector"], row["method_options"]["fraction"]) == ("centrality", 0.5)
    assert not [name for name in row["method_options"] if name.startswith("_")]
    assert row["method_options"].items() <= row["config"]["method"].items()
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert config == row["config"]
    assert config["noise"]["seed"] == 0  # resolved
    with (folder / "metrics.csv").open() as file:
        assert [float(line["test/acc"]) for line in csv.DictReader(file)] == accuracy
    assert row["history"]["selection/size"][:5] == [None] * 5
    assert row["data"]["origin"] == "sklearn.datasets.load_digits"
    assert len(row["data"]["sha256"]) == 64
    assert row["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert row["peak_memory_mib"]["process"] > 50
    assert (row["epochs"], len(row["seconds_per_epoch"])) == (7, 7)
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    with Image.open(folder / "curves.png") as image:
        assert image.width > image.height > 400


def test_without_validation(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli(*SHORT, "method=ce", "data.val_fraction=0")
    assert result(folder)["test_acc"]["best_val"] is None
    line = next(text for text in capsys.readouterr().out.splitlines() if "noisy-validation" in text)
    assert "n/a: no validation split" in line
    assert not (folder / "checkpoints" / "best.ckpt").exists()


def test_unknown_true_labels(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    digits = Digits()
    digits.setup()
    arrays = digits.arrays
    x, y = arrays.x_train[:400, 0].numpy(), arrays.y_train[:400].numpy()
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    folder = cli("data=npz", "data.path=mine.npz", "trainer=cpu", "trainer.max_epochs=7")
    row = result(folder)
    assert row["noise"]["realized_rate"] is None
    assert row["noise"]["realized_T"] is None
    assert "selection/precision" not in row["history"]
    assert row["history"]["selection/size"][-1] > 100
    assert "n/a" in next(text for text in capsys.readouterr().out.splitlines() if "realized noise rate" in text)


def test_wandb_offline(cli: Cli) -> None:
    folder = cli(*SHORT, "logger=wandb")
    row = result(folder)
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 30  # W&B's own process writes the file
    while "exit" not in [record.WhichOneof("record_type") for record in records(file)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    config, summary, curves, artifacts, groups = {}, {}, [], [], []
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            groups.append(record.run.run_group)
        elif kind == "config":
            config |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
        elif kind == "summary":
            summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}
        elif kind == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            curves += [items["test/acc"]] if "test/acc" in items else []
        elif kind == "artifact":
            artifacts += [entry.path for entry in record.artifact.manifest.contents]
    assert groups == ["crust on digits, sym 0.4, train_size=400"]
    assert {name: config[name] for name in ("method", "noise", "seed")} == {
        name: row["config"][name] for name in ("method", "noise", "seed")
    }
    assert curves == pytest.approx(row["history"]["test/acc"])
    for name, value in row["test_acc"].items():
        assert summary[f"test_acc/{name}"] == pytest.approx(value)
    assert artifacts == ["result.json"]


def test_a_sweeper_gets_the_best_validation_accuracy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    returned = []
    run = report_run.run
    monkeypatch.setattr(report_run, "run", lambda config: returned.append(run(config)))
    folder = cli(*SHORT, "method=ce")
    assert returned == [max(result(folder)["history"]["val/acc"])]
    cli(*SHORT, "method=ce", "trainer.max_epochs=1", "data.val_fraction=0")
    assert returned[1] is None


def test_names_are_those_that_the_command_line_chose(cli: Cli) -> None:
    row = result(cli(*SHORT, "experiment=elr/cifar10_sym", "data=digits", "method=co_prl_l", "net=mlp", "optim=sgd"))
    assert [row["method"], row["data"]["name"], row["noise"]["name"]] == ["co_prl_l", "digits", "sym_inclusive"]
    assert row["net"] == "mlp"
    assert row["method_options"]["forget_rate"] == 0.2
    assert not [name for name in row["method_options"] if name.startswith("_")]


def test_a_name_tells_options_apart_but_not_seeds(cli: Cli, tmp_path: Path) -> None:
    options = ("method=crust", "method.warmup_epochs=0", "method.fraction=0.3", "trainer.max_epochs=1")
    folder = cli(*options, "trainer=cpu", "data.train_size=300", "seed=3", "method.seed=4", "data.num_workers=0")
    name = "crust on digits, sym 0.4, warmup_epochs=0, fraction=0.3, train_size=300"
    assert result(folder)["name"] == f"{name}, seed 3"
    assert result(folder)["config"]["name"] == name  # the group of W&B
    x = np.random.default_rng(0).normal(size=(60, 5))
    y = np.arange(60) % 3
    np.savez(tmp_path / "animals.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    folder = cli("data=npz", "data.path=animals.npz", "method=ce", "trainer=cpu", "trainer.max_epochs=1")
    assert result(folder)["name"] == "ce on animals, none, seed 0"
    assert result(folder)["data"]["name"] == "animals"


def test_a_name_tells_the_loss_inside_a_method(cli: Cli) -> None:
    options = ("method=spl", "method.loss=gce", "method.loss.q=0.5", "trainer.max_epochs=1", "data.train_size=300")
    row = result(cli(*options, "trainer=cpu"))
    assert row["name"] == "spl+gce on digits, sym 0.4, loss.q=0.5, train_size=300, seed 0"
    assert row["method"] == "spl+gce"
    assert row["method_options"]["loss"]["q"] == 0.5


def test_a_class_that_only_the_test_set_has(cli: Cli, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 5))
    y = np.arange(200) % 10
    np.savez(tmp_path / "ten.npz", x_train=x, y_train=np.where(y == 3, 4, y), x_test=x, y_test=y)
    names = "data.class_names=[a,b,c,d,e,f,g,h,i,j]"
    data = ("data=npz", "data.path=ten.npz", names, "trainer=cpu", "trainer.max_epochs=2")
    row = result(cli(*data, "method=crust_released", "method.warmup_epochs=1", "noise=sym", "noise.rate=0"))
    assert row["epochs"] == 2
    assert row["noise"]["realized_T"][3] in ([None] * 10, [0.0] * 3 + [1.0] + [0.0] * 6, [0.0] * 10)


def test_a_run_that_diverges_leaves_strict_json_and_fails(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^error: the run has diverged: the training loss is nan in epoch 0"):
        cli(*SHORT, "method=forward", "optim.lr=1e8")
    text = Path("run/result.json").read_text()
    row = json.loads(text, parse_constant=pytest.fail)
    assert row["diverged"]["epoch"] == 0
    assert "DIVERGED" in capsys.readouterr().out


def test_numbers_that_are_not_finite_are_null(cli: Cli) -> None:
    folder = cli(*SHORT, "method=norm_clip", "method.max_norm=inf", "trainer.max_epochs=1")
    row = json.loads((folder / "result.json").read_text(), parse_constant=pytest.fail)
    assert row["config"]["method"]["max_norm"] is None


def test_warnings_reach_the_result_and_the_table(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="train_size=9999 is more than the 354 samples"):
        folder = cli("data=diabetes", "method=co_prl_l", "trainer=cpu", "trainer.max_epochs=2", "data.train_size=9999")
    size, ramp = result(folder)["warnings"]
    assert size == "train_size=9999 is more than the 354 samples that there are"
    assert ramp.startswith("ramp_epochs=10 is longer than the fit of 2 epochs")
    assert "train_size=9999" in capsys.readouterr().out


@pytest.mark.parametrize(("progress", "lines"), [("auto", 2), ("lines", 2), ("bar", 0), ("false", 0)])
def test_a_line_an_epoch_without_a_terminal(
    cli: Cli, capsys: pytest.CaptureFixture[str], progress: str, lines: int
) -> None:
    cli(*SHORT, "method=ce", "trainer.max_epochs=2", f"progress={progress}")
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]) == lines


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("data=cifar10",),
            r"there is no cifar-10-batches-py/data_batch_1 and no cifar10.npz\nunder root=data.*data=digits",
        ),
        (("data=mnist", "data.root=here"), r"MNIST/raw/train-images-idx3-ubyte\nunder root=here.*data=digits"),
        (("data=npz",), "data.path has no value; set it: data.path=VALUE"),
        (("data=npz", "data.path=gone.npz"), "there is no file .*gone.npz"),
        (("noise.rate=1.5",), r"noise: rate must lie in \[0, 1\], got 1.5"),
        (("noise=matrix", "noise.matrix=[[1,0],[0,1]]"), r"T must be square with one row per class, \(10, 10\)"),
        (("noise=asym", "noise.map={cat: dog}"), "map names class 'cat', but the classes are 0, 1"),
        (("method.fraction=0",), r"method: fraction must lie in \(0, 1\], got 0"),
        (("+method.fractoin=0.3",), "method: .*unexpected keyword argument 'fractoin'"),
        (("noise=none", "+noise.rate=0.3"), r"noise: kind='none' takes no rate, got 0.3"),
        (("noise.rate=high",), r"noise: rate must be a number in \[0, 1\], got 'high'"),
        (("monitor=test/acc",), "monitor must be one of val/acc, val/loss, got 'test/acc'"),
        (
            ("method.fraction=0.001", "method.warmup_epochs=0", "data.train_size=300"),
            "keeps none in any class; raise it",
        ),
        (
            ("+trainer.strategy=ddp_spawn",),
            "trainer.strategy=ddp_spawn leaves the metrics in processes that end; use ddp",
        ),
        (("data.num_workers=-1",), r"data: num_workers must not be negative, got -1"),
        (("data.val_fraction=1",), r"data: val_fraction must lie in \[0, 1\), got 1"),
        (
            ("method=ce", "method.loss=gce"),
            "method.loss puts a loss inside .* but CrossEntropyLoss has a loss of its own",
        ),
        (("method=spl", "method.loss=huber"), "HuberLoss is for regression, but the data is for classification"),
        (("method=spl", "method.loss=gce", "method.loss.q=2"), r"q must lie in \(0, 1\], got 2"),
        (("data=diabetes",), "Crust is for classification, but the data is for regression; take .* mse, huber, prl_l"),
        (("resume=gone.ckpt",), "resume: there is no checkpoint .*gone.ckpt"),
    ],
)
def test_mistakes_are_told_in_a_few_lines(cli: Cli, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit, match="(?s)^error: .*" + message) as exit_with:
        cli(*overrides)
    assert len(str(exit_with.value)) < 600


# --- errors -----------------------------------------------------------------------------------------------------------


def raised_by(action: Callable[[], Any]) -> BaseException:
    with pytest.raises((InstantiationException, OmegaConfBaseException)) as info:
        action()
    return info.value


@pytest.mark.parametrize("fails", ["metrics", "figure"])
def test_a_full_disk_is_told_with_the_file_and_the_remedy(
    fails: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"

    def write(original: Callable[..., Any]) -> Callable[..., Any]:
        def fail_if_full(*args: Any, **options: Any) -> Any:
            if last.exists():
                raise OSError(errno.ENOSPC, "No space left on device")  # names no file
            return original(*args, **options)

        return fail_if_full

    target = (csv.DictWriter, "writerows") if fails == "metrics" else (report_run, "draw_curves")
    monkeypatch.setattr(*target, write(getattr(*target)))
    with pytest.raises(SystemExit) as error:
        cli(*SHORT)
    name = "cannot write .*/run/metrics.csv" if fails == "metrics" else ".*/run"
    assert re.match(
        f"error: {name}: No space left on device(; the old one is still whole)?; make room", str(error.value)
    )
    command = f"python -m noisylabels_pl.resume {tmp_path / 'run'}"
    assert capsys.readouterr().err.splitlines()[-1].strip() == command


def test_errors_say_in_which_group_they_were_raised() -> None:
    config = composed("method.fraction=0", "data.num_workers=-1")
    error = raised_by(lambda: instantiate(config.method))
    assert isinstance(error, InstantiationException)
    assert error_message(error) == f"method: {error.__cause__}"
    assert error_message(error.__cause__) == str(error.__cause__)
    assert error_message(raised_by(lambda: instantiate(config.data))).startswith("data: ")


def test_errors_of_nested_classes_say_where_they_were_raised() -> None:
    noise = {"_target_": "noisylabels_pl.data.LabelNoise", "rate": 2}
    config = OmegaConf.create({"data": {"_target_": "noisylabels_pl.data.Digits", "noise": noise}})
    assert error_message(raised_by(lambda: instantiate(config.data))).startswith("data.noise: ")


def test_errors_of_the_configuration_take_one_line() -> None:
    config = OmegaConf.create({"data": {"path": "???"}, "method": {"rate": "${noise.rate}"}, "noise": {}})
    assert error_message(raised_by(lambda: config.data.path)) == "data.path has no value; set it: data.path=VALUE"
    message = error_message(raised_by(lambda: config.method.rate))
    assert message == "method.rate: Interpolation key 'noise.rate' not found"
    config = OmegaConf.create({"net": {"_target_": "noisylabels_pl.nets.missing"}})
    message = error_message(raised_by(lambda: instantiate(config.net)))
    assert message.startswith("net: ")
    assert "missing" in message
