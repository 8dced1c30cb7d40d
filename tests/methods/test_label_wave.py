"""Label Wave: where it stops, what it brings back, and that the tables' number is the same epoch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import ELR, CoTeaching, Crust, LabelWave, indexed
from noisylabels_pl.callbacks import History, LabelQuality
from noisylabels_pl.nets import mlp
from tests.contract.methods import run
from tests.helpers import WithCriterion, foreign_loader
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]


class KeepsWeights(L.Callback):
    """The weights after each epoch, before they may be replaced."""

    def __init__(self) -> None:
        self.weights: list[Any] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.is_last_batch:
            self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def test_it_stops_at_the_minimum_and_brings_back_its_weights(
    digits: Make, classifier: Make, make_trainer: Make
) -> None:
    kept, method, history, module = KeepsWeights(), LabelWave(), History(), classifier()
    make_trainer(kept, method, history, max_epochs=40).fit(module, datamodule=digits())
    assert method.best_epoch is not None
    assert len(history.rows) == method.best_epoch + 2 < 40
    for name, value in module.state_dict().items():
        assert torch.equal(value, kept.weights[method.best_epoch][name])
    assert history.rows[-1]["test/acc"] == history.rows[method.best_epoch]["test/acc"]
    averages = [sum(method.changes[end - 3 : end]) / 3 for end in range(3, len(method.changes) + 1)]
    assert averages[-1] > averages[-2] == min(averages)


def test_the_number_of_plain_training_is_the_last_of_a_stopped_run(tmp_path: Path) -> None:
    longer = ("trainer.max_epochs=30", "schedule.milestones=[20]")
    plain = run("ce", tmp_path / "plain", *longer).history.five_numbers()
    stopped = run("label_wave", tmp_path / "stopped", *longer, "method.patience=1")
    assert len(stopped.history.rows) < 30
    assert stopped.history.five_numbers()["last"] == plain["label_wave"]


@pytest.mark.parametrize(
    "others",
    [
        lambda: [ELR()],
        lambda: [Crust(warmup_epochs=1)],
        lambda: [Crust(warmup_epochs=1, partner="none")],
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_it_works_beside_others(others: Any, order: int, digits: Make, make_trainer: Make) -> None:
    weights = []
    for watches in (False, True):
        torch.manual_seed(0)
        method, module = LabelWave(patience=9), WithCriterion()
        callbacks = [*others(), *([method] if watches else [])][::order]
        make_trainer(*callbacks, max_epochs=4).fit(module, indexed(foreign_loader(digits()), as_batches=True))
        weights.append(module.state_dict())
    assert len(method.changes) == 3
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])


def test_it_stops_twins(digits: Make, make_trainer: Make) -> None:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    pair = CoTeaching(partial(mlp, (1, 8, 8), 10, hidden=(32,)), 10, optimizer, forget_rate=0.2)
    method, history = LabelWave(), History()
    make_trainer(method, history, max_epochs=40).fit(pair, datamodule=digits())
    assert len(history.rows) == method.best_epoch + 2 < 40


def test_a_budget_that_is_too_short() -> None:
    assert LabelWave(window=3).check_budget(5, 100) == []
    assert "the first epoch that they may stop is number 5" in LabelWave(window=3).check_budget(4, 100)[0]
    with pytest.raises(ValueError, match="max_samples must"):
        LabelWave(max_samples=0)


def test_a_fit_that_was_stopped_stays_stopped(
    digits: Make, classifier: Make, make_trainer: Make, tmp_path: Path
) -> None:
    whole, resumed = LabelWave(), LabelWave()
    saves = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    first = classifier()
    make_trainer(whole, saves, enable_checkpointing=True, max_epochs=40).fit(first, datamodule=digits())
    path = tmp_path / f"epoch={whole.best_epoch}.ckpt"
    second = classifier()
    make_trainer(resumed, max_epochs=40).fit(second, datamodule=digits(), ckpt_path=path)
    assert resumed.changes == whole.changes
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def fit_on_two(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    method, module = LabelWave(), WithCriterion()
    module.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(61, 1, 8, 8, generator=generator), torch.randint(10, (61,), generator=generator)
    quality = LabelQuality(None, y)
    history = History()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=[method, quality, history],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        max_epochs=4,
    )
    trainer.fit(module, indexed(DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)))
    return {"changes": method.changes, "logged": history.column("train/changed")}


@pytest.mark.processes
def test_two_processes_agree(tmp_path: Path) -> None:
    first, second = run_on_two_ranks(fit_on_two, tmp_path, folder=tmp_path)
    assert first == second
    assert len(first["changes"]) == 3
    for change, logged in zip(first["changes"], first["logged"][1:], strict=True):
        assert change * 61 == pytest.approx(round(change * 61))
        assert logged == pytest.approx(change)
