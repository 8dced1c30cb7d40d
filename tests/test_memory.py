"""The free memory of a device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from noisylabels_pl import memory
from noisylabels_pl.memory import free_memory


def test_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)  # no container
    free = free_memory(cpu)
    if free is None:
        pytest.skip("this system does not say")
    assert free > 2**20
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 700\nfile 300\ninactive_file 200\n")
    assert free_memory(cpu) == 4200
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(cpu) > 2**20  # type: ignore[operator]
    assert free_memory(torch.device("meta")) is None
