"""The page of networks lists all of them, with their numbers of parameters."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from tests.helpers import ROOT, composed, options

TABLE = (ROOT / "docs" / "networks.md").read_text().split("\n\n")[2]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines()[2:]]
SIZES = [(name, row) for row in ROWS if row[3] for name in re.findall(r"`(\w+)`", row[0])]


def test_all_networks_are_listed() -> None:
    assert sorted(name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])) == options("net")


@pytest.mark.parametrize(("name", "row"), SIZES, ids=[name for name, _ in SIZES])
def test_parameters(name: str, row: list[str]) -> None:
    if name == "inception_resnet_v2" and find_spec("timm") is None:
        pytest.skip("needs timm")
    net: Any = composed(f"net={name}").net
    if name == "resnet50_pretrained":
        net.weights = None
    shapes = {"texts": (400,), "512 features": (512,), "images from 75x75": (3, 299, 299)}
    shape = shapes.get(row[4], (3, 32, 32))
    with torch.device("meta"):
        made = instantiate(net, input_shape=shape, num_classes=2 if row[4] == "texts" else 10)
    assert f"{sum(parameter.numel() for parameter in made.parameters()):,}" == row[3]
