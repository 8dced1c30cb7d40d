"""The example for loops of one's own runs, and its methods resist wrong labels."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fabric_and_manual.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def test_kernels_in_a_fabric_loop_and_losses_in_manual_optimization(example: dict[str, Any]) -> None:
    train, test = example["digits_with_wrong_labels"]()
    plain = example["accuracy"](example["train_with_fabric"](train, 30, lam=0.0), test)
    elr = example["accuracy"](example["train_with_fabric"](train, 30), test)
    gce = example["accuracy"](example["train_with_sam"](train, 30), test)
    assert elr > plain + 0.05
    assert gce > plain + 0.05


def test_each_loop_is_short() -> None:
    source = EXAMPLE.read_text()
    loop = source[source.index("def train_with_fabric") : source.index("class SharpnessAwareGCE")]
    assert len([line for line in loop.splitlines() if line.strip()]) <= 25
