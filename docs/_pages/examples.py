"""The example on a method's page: a whole program, around one line that differs."""

from __future__ import annotations

import re

import lightning as L

from noisylabels_pl.core import TwinModule

_PROGRAM = """\
from functools import partial

import lightning as L
import torch
from torch import nn

{imports}

data = Digits(LabelNoise("sym", rate=0.4), batch_size=32)
optimizer = partial(torch.optim.SGD, lr=0.1)


def make_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))


{method}
trainer.fit(module, datamodule=data)
trainer.test(module, datamodule=data)"""

_CALLBACK = """\
module = Classifier(make_network(), 10, optimizer)
trainer = L.Trainer(max_epochs=60, callbacks=[{call}])"""

_CRITERION = """\
criterion = {call}
module = Classifier(make_network(), 10, optimizer, criterion=criterion)
trainer = L.Trainer(max_epochs=60)"""

_TWIN = """\
module = {call}
trainer = L.Trainer(max_epochs=60)"""


def example(cls: type, call: str) -> str:
    """Return a program that trains with a method on digits.

    Args:
        cls: of the method.
        call: makes the method, such as ``"ELR(lam=3.0)"``.
    """
    names = set(re.findall(r"\b([A-Z]\w+)\(", call))
    if issubclass(cls, TwinModule):
        template = _TWIN
    else:
        template = _CALLBACK if issubclass(cls, L.Callback) or "RobustLoss" in names else _CRITERION
        names.add("Classifier")
    imports = [f"from noisylabels_pl import {', '.join(sorted(names, key=_import_order))}"]
    imports.append("from noisylabels_pl.data import Digits, LabelNoise")
    if "transition_matrix(" in call:
        imports.append("from noisylabels_pl.functional import transition_matrix")
    return _PROGRAM.format(imports="\n".join(imports), method=template.format(call=call))


def _import_order(name: str) -> tuple[bool, str]:
    """Sort as ruff does: constants such as ELR first."""
    return not name.isupper(), name
