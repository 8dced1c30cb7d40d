"""The command line, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Runs ``python -m noisylabels_pl`` with the given overrides in an empty folder; returns the run's folder."""
    from noisylabels_pl.cli.run import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*overrides: str, folder: str = "run") -> Path:
        arguments = ["noisylabels_pl", *overrides, f"hydra.run.dir={folder}"]
        monkeypatch.setattr("sys.argv", arguments)
        main()
        return tmp_path / folder

    return run
