"""Learning with wrong labels, in PyTorch Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisylabels_pl.data import indexed as indexed
    from noisylabels_pl.methods import Crust as Crust

__version__ = "0.1.0"

# Imported when first used, so that `import noisylabels_pl` does not import torch.
_PUBLIC = {"Crust": "noisylabels_pl.methods", "indexed": "noisylabels_pl.data"}

__all__ = ["Crust", "__version__", "indexed"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
