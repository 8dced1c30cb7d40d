"""Methods that a user brings to the command line by ``--config-dir``."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.core import Artifacts, Stage, StagedMethod, TwinModule, score, training_loader
from noisylabels_pl.data import Batch
from tests.helpers import ROOT

Cli = Callable[..., Path]
SHORT = ("trainer=cpu", "optim=sgd_momentum", "optim.lr=0.05", "data.train_size=300", "trainer.max_epochs=4")
STEPS = 9  # of an epoch


class ToyTwin(TwinModule):
    """Each network learns on its own, as much as ``scale`` says."""

    def __init__(self, *args: Any, scale: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scale = scale

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x, y = batch
        return self.scale * F.cross_entropy(self.net.first(x), y), F.cross_entropy(self.net.second(x), y)


class Log:
    """What the stages of this process did, and where the next one fails."""

    fitted: ClassVar[list[str]] = []
    fails_at: ClassVar[tuple[str, int] | None] = None


class Corrected(nn.Module):
    """Cross-entropy, of the labels that predictions turn into by ``transition`` if given; pulls the plug if told to."""

    def __init__(self, name: str, transition: Tensor | None = None) -> None:
        super().__init__()
        self.name, self.transition, self.steps = name, transition, 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.steps += self.training
        if self.training and Log.fails_at == (self.name, self.steps):
            raise RuntimeError("pulled the plug")
        if self.transition is None:
            return F.cross_entropy(logits, target)
        return F.nll_loss((logits.softmax(1) @ self.transition).log(), target)


class TwoStages(StagedMethod):
    """Counts which labels come with which predictions, then trains with what it counted."""

    def __init__(self, epochs: int, warm_start: bool = False) -> None:
        self.epochs = epochs
        self.warm_start = warm_start

    def stages(self) -> list[Stage]:
        return [
            Stage("count", self.plain, self.count, max_epochs=self.epochs),
            Stage("correct", self.corrected, initialize=self.initialize),
        ]

    def plain(self, artifacts: Artifacts) -> nn.Module:
        Log.fitted.append("count")
        assert not artifacts
        return Corrected("count")

    def count(self, trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
        scores = score(trainer, module, training_loader(trainer))
        counts = torch.ones(10, 10).index_put(
            (scores.logits.argmax(1), scores.targets), torch.ones(()), accumulate=True
        )
        return {"transition": counts / counts.sum(1, keepdim=True), "bias": module.net[-1].bias.detach() + 1}

    def corrected(self, artifacts: Artifacts) -> nn.Module:
        Log.fitted.append("correct")
        return Corrected("correct", artifacts["transition"])

    def initialize(self, module: L.LightningModule, artifacts: Artifacts) -> None:
        if self.warm_start:
            module.net[-1].bias.data.copy_(artifacts["bias"])


@pytest.fixture
def own(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with both classes as methods."""
    folder = tmp_path / "conf" / "method"
    folder.mkdir(parents=True)
    (folder / "toy_twin.yaml").write_text(f"_target_: {__name__}.ToyTwin\n_partial_: true\nscale: 1.0\n")
    (folder / "two_stages.yaml").write_text(f"_target_: {__name__}.TwoStages\nepochs: 3\nwarm_start: false\n")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*overrides: str, folder: str = "run", fails_at: tuple[str, int] | None = None) -> Path:
        monkeypatch.setattr(Log, "fitted", [])
        monkeypatch.setattr(Log, "fails_at", fails_at)
        return cli(f"--config-dir={tmp_path / 'conf'}", *SHORT, *overrides, folder=folder)

    return run


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same(one: Path, other: Path) -> None:
    """The two runs ended with the same weights and the same curves."""
    weights = checkpoint(other)["state_dict"]
    for name, value in checkpoint(one)["state_dict"].items():
        assert torch.equal(value, weights[name]), name
    histories = [result(folder)["history"] for folder in (one, other)]
    assert len({len(history.pop("seconds")) for history in histories}) == 1
    assert histories[0] == histories[1]


def test_a_twin_of_ones_own(own: Cli) -> None:
    folder = own("method=toy_twin", "method.scale=0")
    row = result(folder)
    assert math.isfinite(row["test_acc"]["last"])
    assert row["epochs"] == 4
    assert row["config"]["method"]["scale"] == 0
    history = row["history"]
    assert history["train/loss_first"] == [0.0] * 4
    assert history["train/loss_second"][-1] < history["train/loss_second"][0]


def test_a_method_of_two_stages(own: Cli) -> None:
    folder = own("method=two_stages")
    assert Log.fitted == ["count", "correct"]
    transition = torch.load(folder / "count.pt", weights_only=True)["transition"]
    torch.testing.assert_close(transition.sum(1), torch.ones(10))
    for own_folder, epochs in ((folder / "count", 3), (folder, 4)):
        assert len((own_folder / "metrics.csv").read_text().splitlines()) == 1 + epochs
        assert checkpoint(own_folder)["epoch"] == epochs - 1
        assert (own_folder / "checkpoints" / "best.ckpt").exists()
    row = result(folder)
    assert (row["epochs"], len(row["history"]["test/acc"])) == (4, 4)
    assert row["history"]["train/loss"][-1] < row["history"]["train/loss"][0]
    assert not (folder / "count" / "result.json").exists()


def test_a_stage_starts_from_what_it_was_given(own: Cli) -> None:
    folder = own("method=two_stages", "method.warm_start=true", "optim.lr=0", "trainer.max_epochs=1")
    bias = torch.load(folder / "count.pt", weights_only=True)["bias"]
    (name,) = (name for name, value in checkpoint(folder)["state_dict"].items() if value.shape == (10,))
    assert torch.equal(checkpoint(folder)["state_dict"][name], bias)
    assert torch.equal(checkpoint(folder / "count")["state_dict"][name] + 1, bias)


@pytest.mark.parametrize(
    ("fails_at", "resume", "fitted"),
    [
        (("count", STEPS + 3), "count", ["count", "correct"]),
        (("correct", 3), "count", ["correct"]),
        (("correct", 2 * STEPS + 3), ".", ["correct"]),
    ],
    ids=["in the first stage", "before the second stage's first checkpoint", "in the second stage"],
)
def test_resumed_equals_uninterrupted(own: Cli, fails_at: tuple[str, int], resume: str, fitted: list[str]) -> None:
    whole = own("method=two_stages", folder="whole")
    with pytest.raises(RuntimeError, match="pulled the plug"):
        own("method=two_stages", fails_at=fails_at)
    folder = whole.parent / "run"
    metrics = folder / "count" / "metrics.csv"
    before = metrics.read_text(), metrics.stat().st_mtime_ns
    assert (folder / "count.pt").exists() == ("count" not in fitted)
    own("method=two_stages", f"resume={folder / resume / 'checkpoints' / 'last.ckpt'}")
    assert Log.fitted == fitted
    assert_same(whole, folder)
    assert torch.equal(*(torch.load(run / "count.pt")["transition"] for run in (whole, folder)))
    assert len(metrics.read_text().splitlines()) == 1 + 3
    if "count" not in fitted:
        assert (metrics.read_text(), metrics.stat().st_mtime_ns) == before


def test_another_runs_checkpoint_is_refused(own: Cli) -> None:
    folder = own("method=two_stages")
    with pytest.raises(ValueError, match=r"goes on in its own folder: resume=FOLDER.* hydra.run.dir=FOLDER"):
        own("method=two_stages", f"resume={folder / 'checkpoints' / 'last.ckpt'}", folder="elsewhere")


@pytest.mark.processes
def test_two_stages_on_two_processes(own: Cli, tmp_path: Path) -> None:
    """The second Trainer must not start processes again, and all must get the first rank's artifacts."""
    config = tmp_path / "conf" / "method" / "two_stages.yaml"
    config.write_text(config.read_text().replace(__name__, "tests.cli.test_own_methods"))
    command = [sys.executable, "-m", "noisylabels_pl", f"--config-dir={tmp_path / 'conf'}", *SHORT, "method=two_stages"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, "trainer=ddp_cpu", "hydra.run.dir=two"], cwd=tmp_path, env=environment, check=True, timeout=120
    )
    one = own("method=two_stages", folder="one")
    a, b = (torch.load(folder / "count.pt")["transition"] for folder in (one, tmp_path / "two"))
    torch.testing.assert_close(a, b, atol=0.05, rtol=0)  # a tipped prediction moves a count
    assert result(tmp_path / "two")["history"]["test/acc"] == pytest.approx(
        result(one)["history"]["test/acc"], abs=0.02
    )
