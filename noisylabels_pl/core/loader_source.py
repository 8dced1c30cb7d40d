"""Preparing the loaders that a module or datamodule makes during a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L


class LoaderSource:
    """The module or datamodule of a fit, whose ``train_dataloader()`` is wrapped.

    Only public hooks are used, so loaders that were passed to ``fit()`` are out of reach.

    Args:
        trainer: before it loads.
        module: of the fit.
        prepare: returns the loader to use for one that was made.
    """

    def __init__(self, trainer: L.Trainer, module: L.LightningModule, prepare: Callable[[Any], Any]) -> None:
        datamodule: L.LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]
        source = module if datamodule is None else datamodule
        self._wrapped: Any = None
        # Lightning's own method only raises. Its is_overridden() does not take modules of pytorch_lightning.
        is_own = not type(source).train_dataloader.__module__.endswith("core.hooks")
        if "train_dataloader" in vars(source) or not is_own:  # as the callback before leaves it
            return
        make_loader = source.train_dataloader

        def train_dataloader() -> Any:
            return prepare(make_loader())

        source.train_dataloader = train_dataloader  # type: ignore[method-assign]
        self._wrapped = source

    def restore(self) -> None:
        """Take the wrapper off."""
        if self._wrapped is not None:
            del self._wrapped.train_dataloader  # of the instance; the class's is visible again
            self._wrapped = None
