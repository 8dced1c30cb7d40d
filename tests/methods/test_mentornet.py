"""MentorNet's predefined curriculum: its threshold, its burn-in, and processes that agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import MentorNet, indexed
from tests.helpers import WithCriterion, foreign_loader
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]


class Watches(MentorNet):
    """Keeps the losses, the kept samples and the threshold of each step."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        adjusted = super().adjust_losses(losses, logits, target, batch)
        self.steps.append((losses.detach(), batch.kept[0], self.threshold))
        torch.testing.assert_close(adjusted.mean(), losses[batch.kept[0]].mean())
        return adjusted


def test_the_threshold_follows_the_percentile(digits: Make, make_trainer: Make) -> None:
    method = Watches(percentile=0.7, decay=0.8, burn_in_epochs=2)
    torch.manual_seed(0)
    loader = indexed(foreign_loader(digits()), as_batches=True)
    make_trainer(method, max_epochs=5).fit(WithCriterion(), loader)
    expected = None
    for number, (losses, kept, threshold) in enumerate(method.steps):
        percentile = losses.quantile(0.7)
        expected = percentile if expected is None else 0.8 * expected + 0.2 * percentile
        torch.testing.assert_close(threshold, expected)
        if number >= 2 * len(loader):
            assert torch.equal(kept, losses <= expected)
    burn_in = torch.cat([kept for _, kept, _ in method.steps[: 2 * len(loader)]])
    assert float(burn_in.float().mean()) == pytest.approx(0.7, abs=0.06)


def test_a_loss_that_is_not_finite_does_not_spoil_the_threshold() -> None:
    method = MentorNet(percentile=0.5, decay=0.5)
    for losses in (
        [torch.nan, torch.nan],
        [torch.inf, torch.inf],
        [1.0, torch.nan],
        [3.0, 3.0],
        [torch.inf, torch.inf],
    ):
        method._follow(torch.tensor(losses))
    assert float(method.threshold) == 2.0


@pytest.mark.parametrize(
    "options", [{"percentile": 0.0}, {"decay": 1.0}, {"burn_in_epochs": -1}, {"seed": -1}], ids=lambda o: next(iter(o))
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
        MentorNet(**options)


def test_a_budget_that_is_too_short() -> None:
    assert MentorNet(burn_in_epochs=2).check_budget(3, 10) == []
    assert "all of it drops samples at random" in MentorNet(burn_in_epochs=3).check_budget(3, 10)[0]


def fit_on_ranks(folder: Path, devices: int) -> dict[str, Any]:
    torch.manual_seed(0)
    method, module = MentorNet(burn_in_epochs=0), WithCriterion()
    module.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.rand(64, 1, 8, 8, generator=generator), torch.arange(64) % 10)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        callbacks=[method],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        max_epochs=4,
    )
    trainer.fit(module, indexed(DataLoader(data, batch_size=16 // devices, shuffle=True)))
    return {"threshold": method.threshold, "weights": module.state_dict()}


@pytest.mark.processes
def test_two_processes_agree(tmp_path: Path) -> None:
    first, second = run_on_two_ranks(fit_on_ranks, tmp_path, 2, folder=tmp_path)
    alone = fit_on_ranks(tmp_path, 1)
    assert torch.equal(first["threshold"], second["threshold"])
    torch.testing.assert_close(first["threshold"], alone["threshold"], rtol=0.05, atol=0.05)
