"""Measures against the true labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import indexed
from noisylabels_pl.callbacks import History, LabelQuality
from tests.helpers import LargeTensors, WithCriterion
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]


def test_label_quality_against_its_definition(digits: Make, classifier: Make, make_trainer: Make) -> None:
    datamodule, module, kept = digits(), classifier(), History()
    observed, clean = datamodule.labels.observed[datamodule.train_indices], datamodule.clean_targets
    make_trainer(LabelQuality(clean, observed), kept, max_epochs=3).fit(module, datamodule=datamodule)
    x = datamodule.arrays.x_train[datamodule.train_indices].float()
    predicted = module((x - datamodule.arrays.mean) / datamodule.arrays.std).argmax(1)
    wrong = observed != clean
    expected = {
        "train/clean_acc": (predicted == clean)[~wrong].double().mean(),
        "train/memorized": (predicted == observed)[wrong].double().mean(),
        "train/recovered": (predicted == clean)[wrong].double().mean(),
    }
    for name, value in expected.items():
        assert kept.rows[-1][name] == pytest.approx(float(value))
    assert "selection/precision" not in kept.rows[-1]


def test_label_quality_on_a_subset(digits: Make, classifier: Make, make_trainer: Make) -> None:
    datamodule = digits()
    observed = datamodule.labels.observed[datamodule.train_indices]
    quality = LabelQuality(datamodule.clean_targets, observed, max_samples=50)
    assert len(quality.measured_indices.unique()) == 50
    kept = History()
    make_trainer(quality, kept, max_epochs=1).fit(classifier(), datamodule=datamodule)
    right = int(quality.is_clean[quality.measured_indices].sum())
    assert kept.rows[0]["train/clean_acc"] * right == pytest.approx(round(kept.rows[0]["train/clean_acc"] * right))


def small_fit(callbacks: list[Any], make_trainer: Make) -> tuple[History, int]:
    """Fit a linear network of 50 classes; return the history and the number of tensors with a row for each sample."""
    torch.manual_seed(0)
    module, history = Wide(), History()
    trainer = make_trainer(*callbacks, history, max_epochs=1)
    with LargeTensors(300 * 50) as large:
        trainer.fit(module, indexed(DataLoader(TensorDataset(*wide_data()), batch_size=32, shuffle=True)))
    return history, large.count


class Wide(WithCriterion):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 50)


def wide_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(300, 4, generator=generator), torch.randint(50, (300,), generator=generator)


def test_no_table_of_outputs_is_held(make_trainer: Make) -> None:
    _, labels = wide_data()
    history, num_tables = small_fit([LabelQuality(labels.roll(7), labels)], make_trainer)
    assert "train/memorized" in history.rows[0]
    assert num_tables == 0


def fit_on_two(folder: Path, max_samples: int) -> list[dict[str, Any]]:
    _, labels = wide_data()
    quality = LabelQuality(labels.roll(7), labels, max_samples=max_samples)

    def make_trainer(*callbacks: Any, **options: Any) -> L.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        ddp = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "default_root_dir": folder}
        return L.Trainer(callbacks=list(callbacks), **quiet, **ddp, **options)

    history, _ = small_fit([quality], make_trainer)
    return history.rows


@pytest.mark.processes
@pytest.mark.parametrize("max_samples", [300, 31])
def test_two_processes_add_their_counts(tmp_path: Path, max_samples: int) -> None:
    first, second = run_on_two_ranks(fit_on_two, tmp_path, max_samples, folder=tmp_path)
    assert first[0]["train/memorized"] == second[0]["train/memorized"]
    # Each sample counts once: the fractions are whole numbers of samples.
    _, labels = wide_data()
    quality = LabelQuality(labels.roll(7), labels, max_samples=max_samples)
    num_wrong = int((~quality.is_clean[quality.measured_indices]).sum())
    for name in ("train/memorized", "train/recovered"):
        number = first[0][name] * num_wrong
        assert number == pytest.approx(round(number), abs=1e-4)
