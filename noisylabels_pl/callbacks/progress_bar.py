"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch.callbacks import RichProgressBar
from torch.utils.data import DataLoader


class ProgressBar(RichProgressBar):
    """Lightning's Rich progress bar, with a bar for passes over the training set outside training.

    Example:
        >>> from lightning import Trainer
        >>> trainer = Trainer(callbacks=[ProgressBar()], logger=False, enable_checkpointing=False)
    """

    def track(self, loader: DataLoader[Any], description: str) -> Iterator[Any]:
        """Return the loader's batches, and show a bar while they are used.

        Args:
            loader: has a length.
            description: the text in front of the bar.
        """
        progress = self.progress if self.is_enabled else None
        if progress is None:
            yield from loader
            return
        task = progress.add_task(description, total=len(loader))
        try:
            for batch in loader:
                yield batch
                progress.update(task, advance=1)
        finally:
            # Hidden, not removed: Lightning finds its own bars by their position in the list.
            progress.update(task, visible=False)
