"""The datasets of the papers from the command line, each trained for a step or two."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.datasets.paper_files import (
    write_animal10n,
    write_clothing1m,
    write_ilsvrc_folders,
    write_imdb,
    write_webvision,
)
from tests.data.datasets.vision_files import write_cifar100, write_mnist

Run = Callable[..., Path]
SMALL = ("trainer=cpu", "trainer.max_epochs=2", "checkpoint=false", "method=ce", "net=small_cnn", "net.width=4")
IMAGES = ("data.image_size=16", "data.crop_size=12", "data.num_workers=0", "data.batch_size=16")


def result(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return row


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("net", ["mlp", "small_cnn"])
def test_fashion_mnist(cli: Run, tmp_path: Path, net: str) -> None:
    write_mnist(tmp_path / "files", "FashionMNIST")
    run = cli("data=fashion_mnist", "data.root=files", *SMALL[:4], f"net={net}")
    assert result(run)["data"]["test_samples"] == 20


@pytest.mark.parametrize("net", ["small_cnn", "resnet32_cifar"])
def test_cifar100(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: str) -> None:
    write_cifar100(tmp_path / "files", monkeypatch)
    run = cli("data=cifar100", "data.root=files", "noise=asym", *SMALL[:4], f"net={net}")
    assert 0 < result(run)["noise"]["realized_rate"] < 1


@pytest.mark.parametrize("normalization", ["imagenet", "standardize", "unit"])
def test_mini_webvision_has_two_test_sets(cli: Run, tmp_path: Path, normalization: str) -> None:
    write_webvision(tmp_path / "web")
    write_ilsvrc_folders(tmp_path / "imagenet")
    run = cli(
        *("data=mini_webvision", "data.root=web", "data.imagenet=imagenet", "data.num_classes=3"),
        f"data.normalization={normalization}",
        *SMALL,
        *IMAGES,
    )
    history = rows(run)
    assert len(history) == 2
    for row in history:
        assert 0 <= float(row["imagenet/acc"]) <= 1
        assert float(row["imagenet/loss"]) > 0
        assert "val/acc" not in row
    assert result(run)["history"]["imagenet/acc"] == [float(row["imagenet/acc"]) for row in history]
    assert (run / "split.csv").read_text().splitlines()[1] == "train,google/q0000/0.jpg,tench"


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_clothing1m_knows_its_transition_matrix(cli: Run, tmp_path: Path, method: str) -> None:
    write_clothing1m(tmp_path / "files")
    options = ("data=clothing1m", "data.root=files", "data.max_per_class=2", "optim.lr=0.01")
    run = cli(*options, *SMALL, *IMAGES, f"method={method}", "method.T=known", "method.eps=0.01")
    row = result(run)
    assert row["data"]["val_samples"] == 14
    assert row["steps"] == 2 * 2  # 28 of 56 images in an epoch, 16 in a batch
    assert row["test_acc"]["best_val"] is not None
    assert row["noise"]["realized_rate"] is None


def test_clothing1m_is_fine_tuned_on_clean_labels(cli: Run, tmp_path: Path) -> None:
    write_clothing1m(tmp_path / "files")
    run = cli("data=clothing1m", "data.root=files", "data.train_set=clean", "data.max_per_class=null", *SMALL, *IMAGES)
    assert result(run)["noise"]["realized_rate"] == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_animal10n(cli: Run, tmp_path: Path, workers: int) -> None:
    write_animal10n(tmp_path / "files")
    run = cli("data=animal10n", "data.root=files", *SMALL, f"data.num_workers={workers}", "data.resident=false")
    assert result(run)["data"]["train_samples"] == 40


@pytest.mark.parametrize("data", ["fashion_mnist", "cifar100", "mini_webvision", "clothing1m", "animal10n"])
def test_missing_files_are_one_message(cli: Run, data: str) -> None:
    with pytest.raises(SystemExit, match="there is no"):
        cli(f"data={data}", *SMALL)


@pytest.mark.parametrize(
    "net",
    [
        ("net=embedding_flat",),
        ("net=embedding_mean",),
        ("net=embedding_lstm", "net.embedding_size=8", "net.hidden_size=8"),
    ],
    ids=["flat", "mean", "lstm"],
)
def test_imdb(cli: Run, tmp_path: Path, net: tuple[str, ...]) -> None:
    write_imdb(tmp_path / "files")
    run = cli("data=imdb", "data.root=files", "data.length=8", *SMALL[:4], *net)
    assert result(run)["data"]["train_samples"] == 18


@pytest.mark.parametrize("data", ["mini_webvision", "clothing1m", "animal10n"])
def test_networks_of_torchvision(cli: Run, tmp_path: Path, data: str) -> None:
    write = {"mini_webvision": write_webvision, "clothing1m": write_clothing1m, "animal10n": write_animal10n}[data]
    write(tmp_path / "files")
    options = ["data.image_size=40", "data.crop_size=32", "data.num_workers=0", "data.batch_size=32"]
    if data == "mini_webvision":
        options.append("data.num_classes=3")
    run = cli(f"data={data}", "data.root=files", *SMALL[:4], *options, "net=torchvision", "net.name=resnet18")
    assert result(run)["epochs"] == 2


@pytest.mark.parametrize("method", ["elr", "elr_plus", "crust", "prl_l"])
def test_methods_on_epochs_that_are_capped_by_class(cli: Run, tmp_path: Path, method: str) -> None:
    write_clothing1m(tmp_path / "files")
    options = ("data=clothing1m", "data.root=files", "data.max_per_class=2", "optim.lr=0.01", "trainer.max_epochs=3")
    warmup = ("method.warmup_epochs=1", "method.fraction=1.0") if method == "crust" else ()
    kept = [option for option in (*SMALL, *IMAGES) if not option.startswith("trainer.max_epochs")]
    steps = [row["step"] for row in rows(cli(*options, *kept, f"method={method}", *warmup))]
    # Two batches of 28 images in an epoch. After its warm-up, CRUST selects from all 56 images: four batches.
    assert steps == (["2", "6", "10"] if method == "crust" else ["2", "4", "6"])
