"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's Rich progress bar, with a bar for passes over the training set outside training.

    Example:
        >>> from lightning import Trainer
        >>> trainer = Trainer(callbacks=[ProgressBar()], logger=False, enable_checkpointing=False)
    """

    def track(self, batches: Iterable[Any], description: str, num_batches: int) -> Iterator[Any]:
        """Return the batches, and show a bar while they are used.

        Args:
            batches: to iterate over.
            description: the text in front of the bar.
            num_batches: their number.
        """
        progress = self.progress if self.is_enabled else None
        if progress is None:
            yield from batches
            return
        task = progress.add_task(description, total=num_batches)
        try:
            for batch in batches:
                yield batch
                progress.update(task, advance=1)
        finally:
            # Hidden, not removed: Lightning finds its own bars by their position in the list.
            progress.update(task, visible=False)
