"""ELR: its targets through a fit, and what it does to memorization on real digits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import ELR, indexed
from noisylabels_pl.callbacks import History, LabelQuality
from tests.helpers import WithCriterion, foreign_loader
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]


def fit(digits: Make, classifier: Make, make_trainer: Make, *callbacks: L.Callback, **options: Any) -> History:
    datamodule, history = digits(train_size=1000), History()
    quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
    trainer = make_trainer(*callbacks, quality, history, **({"max_epochs": 30} | options))
    trainer.fit(classifier(), datamodule=datamodule)
    return history


def test_it_keeps_wrong_labels_from_being_memorized(digits: Make, classifier: Make, make_trainer: Make) -> None:
    plain = fit(digits, classifier, make_trainer).rows[-1]
    regularized = fit(digits, classifier, make_trainer, ELR(lam=3.0, beta=0.7)).rows[-1]
    assert regularized["train/memorized"] < 0.5 * plain["train/memorized"]
    assert regularized["test/acc"] > plain["test/acc"] + 0.05
    assert regularized["train/loss"] < 0  # as in the paper: the penalty has no lower bound but the clamp's


def test_targets_say_which_labels_are_wrong(digits: Make, classifier: Make, make_trainer: Make) -> None:
    method, datamodule = ELR(lam=3.0, beta=0.7), digits(train_size=1000)
    make_trainer(method, max_epochs=30).fit(classifier(), datamodule=datamodule)
    targets: Tensor = method.targets.rows
    torch.testing.assert_close(targets.sum(1), torch.full((len(targets),), 1 - 0.7**30))
    right = targets.argmax(1) == datamodule.clean_targets
    observed = datamodule.labels.observed[datamodule.train_indices] == datamodule.clean_targets
    assert right.double().mean() > observed.double().mean() + 0.2


def test_without_a_penalty_it_is_cross_entropy(digits: Make, classifier: Make, make_trainer: Make) -> None:
    histories = [fit(digits, classifier, make_trainer, *callbacks, max_epochs=3) for callbacks in ([ELR(lam=0.0)], [])]
    for name in ("train/loss", "test/acc"):
        assert histories[0].column(name) == pytest.approx(histories[1].column(name), rel=1e-4)


def test_a_forward_pass_whose_step_is_skipped_leaves_no_trace(make_trainer: Make) -> None:
    class Skips(WithCriterion):
        """Returns no loss where that is NaN, as a GradScaler skips the step."""

        num_skipped = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            scale = float("nan") if (self.current_epoch, batch_idx) == (1, 0) else 1.0
            loss = self.criterion(scale * self(x), y)
            if loss.isfinite():
                return loss
            self.num_skipped += 1
            return None

    method, module = ELR(), Skips()
    loader = indexed(DataLoader(TensorDataset(torch.randn(60, 64), torch.arange(60) % 10), 20, shuffle=True))
    make_trainer(method, max_epochs=3).fit(module, loader)
    assert module.num_skipped == 1
    assert method.targets.rows is not None
    totals = method.targets.rows.sum(1)
    torch.testing.assert_close(totals.sort().values[[0, 19, 20, -1]], 1 - 0.7 ** torch.tensor([2.0, 2, 3, 3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "lam must not be negative, got -1.0"),
        ({"lam": float("nan")}, r"lam must be a number in \[0, inf\), got nan"),
        ({"beta": float("nan")}, r"beta must lie in \[0, 1\), got nan"),
        ({"beta": 1.0}, r"beta must lie in \[0, 1\), got 1.0"),
        ({"penalty": "l2"}, "penalty must be one of log, kl, got 'l2'"),
        ({"table_dtype": "int8"}, "table_dtype must be one of float32, float16, got 'int8'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ELR(**options)


def test_the_callback_is_the_released_loss(digits: Make, make_trainer: Make) -> None:
    torch.manual_seed(0)
    module, lam, beta = WithCriterion(), 3.0, 0.7
    module.net[-1].weight.data *= 20  # sure from the start, so that both ends of the clamp matter
    restated = deepcopy(module)
    make_trainer(ELR(lam=lam, beta=beta), max_epochs=3).fit(module, indexed(foreign_loader(digits()), as_batches=True))
    optimizer, targets = restated.configure_optimizers(), torch.zeros(300, 10)
    got, expected, clamped = [], [], torch.zeros(2)
    for recorded, loss, _ in module.losses:
        (x, y), rows = recorded, recorded.index
        logits = restated(x)
        p = logits.softmax(1)
        clamped += torch.stack([(p < 1e-4).sum(), (p > 1 - 1e-4).sum()])
        p = p.clamp(1e-4, 1 - 1e-4)
        seen = p.detach()
        targets[rows] = beta * targets[rows] + (1 - beta) * seen / seen.sum(1, keepdim=True)
        reg = (1 - (p * targets[rows]).sum(1)).log().mean()
        total = F.cross_entropy(logits, y) + lam * reg
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        got.append(loss)
        expected.append(total.detach())
    visits = torch.cat([recorded.index for recorded, _, _ in module.losses]).bincount()
    assert (visits == 3).all()
    assert (clamped > 5).all()
    torch.testing.assert_close(torch.stack(got), torch.stack(expected), rtol=1e-6, atol=1e-6)


def test_targets_in_float16_are_those_in_float32_to_a_thousandth(
    digits: Make, classifier: Make, make_trainer: Make
) -> None:
    tables = []
    for table_dtype in ("float32", "float16"):
        method = ELR(table_dtype=table_dtype)
        make_trainer(method, max_epochs=3).fit(classifier(), datamodule=digits())
        tables.append(method.targets.rows)
    assert tables[1].dtype == torch.float16
    torch.testing.assert_close(tables[1].float(), tables[0], rtol=0, atol=5e-3)
    assert float((tables[1].float() - tables[0]).abs().mean()) < 2e-4


def fit_on_two(folder: Path, table_dtype: Any, sharded: bool, options: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    method = ELR(table_dtype=table_dtype, sharded=sharded)
    module = WithCriterion()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    saves = ModelCheckpoint(folder, "last")
    callbacks = [method, saves, *([Fails()] if options.pop("fails", False) else [])]
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", callbacks=callbacks, **quiet, **options)
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.rand(31, 1, 8, 8, generator=generator), torch.arange(31) % 10)
    resume = folder / "last.ckpt"
    loader = indexed(DataLoader(data, batch_size=4, shuffle=True))
    with suppress(StoppedError):
        trainer.fit(module, loader, ckpt_path=resume if resume.exists() else None)
    return {"weights": module.state_dict(), "rows": method.targets.rows, "state": method.state_dict()}


class StoppedError(Exception):
    """Ends a fit."""


class Fails(L.Callback):
    """Raises in the third epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise StoppedError


@pytest.mark.processes
@pytest.mark.parametrize("table_dtype", ["float32", "float16"])
def test_two_processes_share_the_targets(tmp_path: Path, table_dtype: str) -> None:
    def run(name: str, sharded: bool, **options: Any) -> list[dict[str, Any]]:
        return run_on_two_ranks(fit_on_two, tmp_path / name, table_dtype, sharded, options, folder=tmp_path / name)

    whole = run("whole", False, max_epochs=4)[0]
    first, second = run("sharded", True, max_epochs=4)
    stopped, _ = run("resumed", True, max_epochs=4, fails=True)
    assert stopped["state"]["tables"]["targets"] == "part of a table"  # what one rank alone would write
    resumed, _ = run("resumed", True, max_epochs=4)
    assert len(first["rows"]) == len(second["rows"]) == 16
    for name, weight in whole["weights"].items():
        assert torch.equal(first["weights"][name], weight), name
        assert torch.equal(resumed["weights"][name], weight), name
    rows = torch.cat([first["rows"], second["rows"]])[:31]
    assert torch.equal(rows, whole["rows"])
    assert torch.equal(resumed["state"]["tables"]["targets"], whole["rows"])
