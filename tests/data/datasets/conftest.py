"""No test of a dataset may use the network."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest
import torchvision.datasets


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every download fail, as without a network."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise URLError("no network")

    for module in (torchvision.datasets.mnist, torchvision.datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)
