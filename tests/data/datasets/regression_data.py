"""The regression datasets that need no files."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from noisylabels_pl.data import Diabetes, LabelNoise, NoisyDataModule, SyntheticRegression

SAMPLES = 500
MAKERS: dict[str, Any] = {
    "diabetes": Diabetes,
    "synthetic": partial(SyntheticRegression, num_samples=SAMPLES),
}
ROWS = {"diabetes": (354, 88, 10, 1), "synthetic": (400, 100, 512, 10)}  # training, test, features, targets
every_dataset = pytest.mark.parametrize("name", MAKERS)


def made(name: str, noise: LabelNoise | None = None, **options: Any) -> NoisyDataModule:
    data: NoisyDataModule = MAKERS[name](noise=noise, **options)
    data.setup()
    return data


def noisy(**options: Any) -> LabelNoise:
    return LabelNoise("signflip", **({"rate": 0.4, "count": "exact"} | options))
