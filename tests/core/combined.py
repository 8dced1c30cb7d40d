"""A fit with several callbacks, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from noisylabels_pl import indexed
from tests.helpers import WithCriterion, foreign_loader

Make = Callable[..., Any]


def fit(digits: Make, make_trainer: Make, *callbacks: L.Callback, module: Any = WithCriterion) -> Any:
    torch.manual_seed(0)
    fitted = module()
    make_trainer(*callbacks, max_epochs=3).fit(fitted, indexed(foreign_loader(digits())))
    return fitted


def same_weights(modules: list[L.LightningModule]) -> bool:
    states = [module.state_dict() for module in modules]
    return all(torch.equal(value, other[name]) for other in states for name, value in states[0].items())
