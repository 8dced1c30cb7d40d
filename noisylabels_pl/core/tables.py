"""State of a method for every training sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.core.distributed import all_gather


class SampleTable:
    """A row for every training sample: running averages, weights, labels.

    The shape of a row, the type and the device are those of what is first read or written. A table is state of a
    callback, not a buffer of the module: DDP broadcasts buffers, and weight averaging copies and averages them.

    Under DDP it is the same on all ranks: :meth:`write` gathers what all ranks write, so all must call it equally often
    and with as many samples, as the batches of :class:`~noisylabels_pl.data.SelectionSampler` are.

    Args:
        fill: value of the rows that were never written.
    """

    def __init__(self, fill: float = 0.0) -> None:
        self.fill = fill
        self.rows: Tensor | None = None
        self.num_samples: int | None = None

    def start(self, num_samples: int) -> None:
        """Say how many rows there are, before the first use.

        Raises:
            ValueError: a checkpoint brought another number of rows.
        """
        if self.rows is not None and len(self.rows) != num_samples:
            raise ValueError(
                f"the checkpoint has state of {len(self.rows)} training samples, but there are {num_samples}; resume "
                "with the data that it was made from"
            )
        self.num_samples = num_samples

    def read(self, index: Tensor, like: Tensor) -> Tensor:
        """``(B, ...)``: the rows of the samples ``index``; ``fill`` for those that were never written.

        ``like`` says the shape, type and device of rows, as a tensor of a batch has them; its values are not used.
        """
        return self._rows(like)[index]

    def write(self, index: Tensor, rows: Tensor) -> None:
        """Replace the rows of the samples ``index`` ``(B,)``; of a sample that comes twice, the first counts."""
        index, rows = all_gather(index), all_gather(rows.detach())
        if not index.is_cuda and len(index) and not 0 <= int(index.min()) <= int(index.max()) < self._size():
            raise IndexError(
                f"the samples {int(index.min())} to {int(index.max())} are not all among {self._size()}; index by "
                "batch.index"
            )
        first = (index.unsqueeze(1) == index).int().argmax(1)
        table = self._rows(rows)
        table[index] = rows[first].to(table.dtype)

    def _rows(self, like: Tensor) -> Tensor:
        size = self._size()
        if self.rows is None:
            # Half types are too coarse for running averages.
            dtype = torch.promote_types(like.dtype, torch.float32) if like.is_floating_point() else like.dtype
            shape = (size, *like.shape[1:])
            self.rows = torch.full(shape, self.fill, dtype=dtype, device=like.device)
        self.rows = self.rows.to(like.device)  # from a checkpoint
        return self.rows

    def _size(self) -> int:
        if self.num_samples is None:
            raise RuntimeError("a SampleTable needs start(num_samples) before its first use")
        return self.num_samples


class SampleTables(dict[str, SampleTable]):
    """The tables of a method by name, which live and are saved together."""

    def add(self, name: str, fill: float = 0.0) -> SampleTable:
        """A new, empty table, in the constructor of a method."""
        if name in self:
            raise ValueError(f"there is a table named {name!r} already; give each its own name")
        self[name] = SampleTable(fill)
        return self[name]

    def start(self, num_samples: int) -> None:
        """See :meth:`SampleTable.start`."""
        for table in self.values():
            table.start(num_samples)

    def clear_rows(self) -> None:
        """Forget everything that was written."""
        for table in self.values():
            table.rows = table.num_samples = None

    def to_cpu(self) -> None:
        """Free the device; what was written stays readable."""
        for table in self.values():
            table.rows = None if table.rows is None else table.rows.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Without any communication, because a checkpoint on an exception is written by one rank alone."""
        return {name: table.rows for name, table in self.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What :meth:`state_dict` returned."""
        for name, table in self.items():
            rows = state_dict[name]
            table.rows = None if rows is None else rows.clone()
