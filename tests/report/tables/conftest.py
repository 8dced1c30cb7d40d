"""Small result files made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SaveRun = Callable[..., Path]


@pytest.fixture
def save_run(tmp_path: Path) -> SaveRun:
    """Return a function that writes the ``result.json`` of a run and returns its folder."""
    number = 0

    def save(
        method: str = "ce",
        seed: int = 0,
        value: float = 0.5,
        *,
        rate: float = 0.4,
        options: dict[str, Any] | None = None,
        changes: dict[str, Any] | None = None,
        data_hash: str = "0" * 64,
        metric: str = "acc",
        **fields: Any,
    ) -> Path:
        nonlocal number
        number += 1
        config: dict[str, Any] = {
            "seed": seed,
            "resume": None,
            "method": options or {},
            "noise": {"kind": "sym", "rate": rate, "seed": seed},
            "data": {"batch_size": 32, "root": "/somewhere", "seed": seed},
            "optim": {"lr": 0.1, "betas": [0.9, 0.99]},
            "trainer": {"max_epochs": 2, "accelerator": "cpu"},
            "logger": {"csv": "metrics.csv"},
        }
        for key, changed in (changes or {}).items():
            group, _, name = key.partition(".")
            config[group][name] = changed
        result = {
            "name": "a title",
            "method": method,
            "metric": metric,
            f"test_{metric}": {"last": value, "last_10": value, "best_val": None, "best_oracle": value + 0.1},
            "selection_precision": None,
            "pool_precision": 0.6,
            "noise": {"name": "sym", "sha256": "1" * 64, "realized_rate": 0.41, "realized_T": [[1.0]]},
            "data": {"name": "digits", "origin": "/somewhere/digits.npz", "sha256": data_hash},
            "epochs": 2,
            "steps": 18,
            "seconds": 3.0,
            "seconds_per_epoch": [2.0, 1.0],
            "peak_memory_mib": {"process": 100.0, "cuda": 200.0},
            "history": {"train/memorized": [0.1, 0.2]},
            "config": config,
            "versions": {"torch": "2.0", "lightning": "2.1", "python": "3.11"},
            "commit": "a" * 40,
        }
        folder = tmp_path / "runs" / f"{number:03}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result | fields))
        return folder

    return save
