"""State of a method for every training sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.core.distributed import all_gather
from noisylabels_pl.functional import at_least_float32


class SampleTable:
    """A table with one row for every training sample: running averages, weights, labels.

    The first read or write sets the shape, type and device of the rows. A table is state of a callback, not a buffer of
    the module: DDP broadcasts buffers, and weight averaging copies and averages them.

    Under DDP the table is the same on all ranks, because :meth:`write` gathers the rows that all ranks write. So all
    ranks must call it equally often and with the same number of samples, as the batches of
    :class:`~noisylabels_pl.data.SelectionSampler` have.

    Args:
        fill: value of the rows that were never written.

    Attributes:
        rows: ``(n, ...)`` the table, or ``None`` before its first use.
        num_samples: ``n``, or ``None`` outside of a fit.

    Example:
        >>> import torch
        >>> table = SampleTable()
        >>> table.set_num_samples(4)
        >>> table.write(torch.tensor([2, 0]), torch.tensor([0.5, 0.25]))
        >>> table.rows
        tensor([0.2500, 0.0000, 0.5000, 0.0000])
    """

    def __init__(self, fill: float = 0.0) -> None:
        self.fill = fill
        self.rows: Tensor | None = None
        self.num_samples: int | None = None

    def set_num_samples(self, num_samples: int) -> None:
        """Set the number of rows, before the first use.

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
        """Return the rows of some samples; a row that was never written holds ``fill``.

        Args:
            index: ``(B,)`` int64, positions in the training set.
            like: ``(B, ...)``, any tensor with the shape, type and device that rows have; its values are not used.

        Returns:
            ``(B, ...)``.
        """
        return self._rows_like(like)[index]

    def write(self, index: Tensor, rows: Tensor) -> None:
        """Replace the rows of some samples; where a sample occurs twice, its first row is stored.

        A row with a number that is not finite is left out: a forward pass whose step is skipped, as under mixed
        precision, must not stay in a running average.

        Args:
            index: ``(B,)`` int64, positions in the training set.
            rows: ``(B, ...)``; no gradient flows into the table.

        Raises:
            IndexError: a position lies outside of the table. Not checked on CUDA, where it would wait for the device.
        """
        index = all_gather(index)
        rows = all_gather(rows.detach())
        if not index.is_cuda and len(index) and not 0 <= int(index.min()) <= int(index.max()) < self._size():
            raise IndexError(
                f"the samples {int(index.min())} to {int(index.max())} are not all among {self._size()}; index by "
                "batch.index"
            )
        # The argmax of each row of the equality matrix finds the first occurrence of a position.
        first_occurrence = (index.unsqueeze(1) == index).int().argmax(1)
        table = self._rows_like(rows)
        new_rows = rows[first_occurrence].to(table.dtype)
        is_finite = new_rows.unsqueeze(-1).flatten(1).isfinite().all(1)
        is_finite = is_finite.view(-1, *(1,) * (new_rows.ndim - 1))
        table[index] = torch.where(is_finite, new_rows, table[index])

    def _rows_like(self, like: Tensor) -> Tensor:
        """Return the table on the device of ``like``, allocated if this is its first use."""
        if self.rows is None:
            example = like[:0].detach()
            if example.is_floating_point():
                example = at_least_float32(example)  # half types are too coarse for running averages
            self.rows = example.new_full((self._size(), *like.shape[1:]), self.fill)
        self.rows = self.rows.to(like.device)  # rows of a checkpoint are on the CPU
        return self.rows

    def _size(self) -> int:
        if self.num_samples is None:
            raise RuntimeError("a SampleTable needs set_num_samples(num_samples) before its first use")
        return self.num_samples


class SampleTables(dict[str, SampleTable]):
    """The tables of a method by name, which live and are saved together.

    Example:
        >>> import torch
        >>> tables = SampleTables()
        >>> averages = tables.add("averages")
        >>> tables.set_num_samples(3)
        >>> averages.read(torch.tensor([1]), like=torch.zeros(1, 2))
        tensor([[0., 0.]])
    """

    def add(self, name: str, fill: float = 0.0) -> SampleTable:
        """Add a new, empty table; called in the constructor of a method.

        Raises:
            ValueError: there is a table of this name.
        """
        if name in self:
            raise ValueError(f"there is a table named {name!r} already; give each table a different name")
        self[name] = SampleTable(fill)
        return self[name]

    def set_num_samples(self, num_samples: int) -> None:
        """Set the number of rows of all tables; see :meth:`SampleTable.set_num_samples`."""
        for table in self.values():
            table.set_num_samples(num_samples)

    def empty(self) -> None:
        """Forget everything that was written."""
        for table in self.values():
            table.rows = None
            table.num_samples = None

    def to_cpu(self) -> None:
        """Free the device; the rows stay readable."""
        for table in self.values():
            table.rows = None if table.rows is None else table.rows.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of all tables, without communication: one rank alone writes a checkpoint on an exception."""
        return {name: table.rows for name, table in self.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        for name, table in self.items():
            rows = state_dict[name]
            table.rows = None if rows is None else rows.clone()
