"""Our callbacks in a configuration file of LightningCLI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("jsonargparse", reason="LightningCLI needs jsonargparse[signatures]")


class Module(L.LightningModule):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        x = torch.rand(96, 64, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, torch.arange(96) % 10), batch_size=32, shuffle=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ELR", "{lam: 2.0, beta: 0.9}"),
        ("Crust", "{fraction: 0.4, warmup_epochs: 1, selector: facility_location}"),
        ("PRLLossLayer", "{forget_rate: 0.2, ramp_epochs: 2, scope: global}"),
        ("PRLGradient", "{forget_rate: 0.2}"),
        ("SPL", "{forget_rate: 0.3, second_forward: true}"),
        ("RobustLoss", "{loss: {class_path: noisylabels_pl.GCELoss, init_args: {q: 0.5}}}"),
    ],
)
def test_a_callback_by_class_path(name: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "trainer:\n  accelerator: cpu\n  max_epochs: 2\n  logger: false\n  enable_checkpointing: false\n"
        "  enable_progress_bar: false\n  enable_model_summary: false\n  callbacks:\n"
        f"    - class_path: noisylabels_pl.{name}\n      init_args: {options}\n"
    )
    cli = LightningCLI(Module, Data, args=["fit", "--config=config.yaml"], save_config_callback=None)
    (callback,) = [one for one in cli.trainer.callbacks if type(one).__name__ == name]  # type: ignore[attr-defined]
    assert cli.trainer.current_epoch == 2
    if name == "ELR":
        assert (callback.lam, callback.beta) == (2.0, 0.9)
        assert callback.targets.rows.sum(1).min() > 0
    elif name == "Crust":
        assert callback.selection is not None
