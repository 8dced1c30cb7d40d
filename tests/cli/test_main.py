"""The command itself: what it composes and hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from noisylabels_pl.cli import report_run

Cli = Callable[..., Path]


def test_overrides_reach_the_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[DictConfig] = []
    monkeypatch.setattr(report_run, "run", configs.append)
    cli("method=elr", "data=mnist", "seed=5")
    (config,) = configs
    assert config.seed == config.noise.seed == config.data.seed == 5
    assert config.method._target_ == "noisylabels_pl.ELR"
    assert config.data._target_ == "noisylabels_pl.data.MNIST"
