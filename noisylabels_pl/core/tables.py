"""State of a method for every training sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.core.distributed import all_gather, is_distributed, rank_and_world_size
from noisylabels_pl.functional import at_least_float32

_CHUNK_SIZE = 2**24  # numbers of a sharded table that are gathered at a time
_PART_OF_A_TABLE = "part of a table"  # stands in a checkpoint that one rank alone has written


class SampleTable:
    """A table with one row for every training sample: running averages, weights, labels.

    The first read or write sets the shape, type and device of the rows. A table is state of a callback, not a buffer of
    the module: DDP broadcasts buffers, and weight averaging copies and averages them.

    Under DDP the table is the same on all ranks, because :meth:`write` gathers the rows that all ranks write. So all
    ranks must call it equally often and with the same number of samples, as the batches of
    :class:`~noisylabels_pl.data.SelectionSampler` have. A *sharded* table is divided among the ranks instead: of ``w``
    ranks, rank ``r`` holds the rows from ``r * ceil(n / w)`` on. The values are the same, but :meth:`read`
    communicates, too, so the same holds for its calls.

    **float16** halves the memory. Its numbers are about a thousandth of their value apart, and rounding to the nearest
    one would stop a running average whose steps are smaller than half of that. So :meth:`write` rounds at random, up
    with the probability that makes the expectation right: averages go on moving, with an error of the size of one
    spacing. (Numbers below 6e-5 are 6e-8 apart and round to the nearest.) The random numbers follow from the number of
    writes, so ranks and resumed runs draw the same ones.

    Args:
        fill: value of the rows that were never written.
        dtype: type in which rows are kept; that of the rows that are written, at least float32, if not given.
        sharded: divide the rows among the ranks.

    Attributes:
        rows: ``(n, ...)`` the table, or ``None`` before its first use. Of a sharded table, the rows of this rank:
            ``(ceil(n / w), ...)``, those after the last sample unused.
        num_samples: ``n``, or ``None`` outside of a fit.
        num_writes: number of calls of :meth:`write`.

    Example:
        >>> import torch
        >>> table = SampleTable()
        >>> table.set_num_samples(4)
        >>> table.write(torch.tensor([2, 0]), torch.tensor([0.5, 0.25]))
        >>> table.rows
        tensor([0.2500, 0.0000, 0.5000, 0.0000])
    """

    def __init__(self, fill: float = 0.0, *, dtype: torch.dtype | None = None, sharded: bool = False) -> None:
        self.fill = fill
        self.dtype = dtype
        self.sharded = sharded
        self.rows: Tensor | None = None
        self.num_samples: int | None = None
        self.num_writes = 0
        self._num_stored = 0  # samples that the rows of all ranks belong to
        self._shard = (0, 1)  # the rank whose rows these are, and the number of ranks
        self._device = torch.device("cpu")  # of training, on which ranks communicate

    def set_num_samples(self, num_samples: int) -> None:
        """Set the number of rows, before the first use.

        Raises:
            ValueError: a checkpoint brought another number of rows.
        """
        if self.rows is not None and self._num_stored != num_samples:
            raise ValueError(
                f"the checkpoint has state of {self._num_stored} training samples, but there are {num_samples}; resume "
                "with the data that it was made from"
            )
        self.num_samples = num_samples

    def read(self, index: Tensor, like: Tensor) -> Tensor:
        """Return the rows of some samples; a row that was never written holds ``fill``.

        Args:
            index: ``(B,)`` int64, positions in the training set.
            like: ``(B, ...)``, any tensor with the shape, type and device that rows have; its values are not used.

        Returns:
            ``(B, ...)``, at least float32 if floating point.
        """
        table = self._rows_like(like)
        rank, world_size = self._shard
        if world_size == 1:
            return self._wide(table[index])
        indices = all_gather(index)
        places = indices - rank * len(table)
        is_held = (places >= 0) & (places < len(table))
        rows = self._wide(table[places.clamp(0, len(table) - 1)])
        rows[~is_held] = 0  # each row is held by one rank, so the sum over ranks is the row
        torch.distributed.all_reduce(rows)
        return rows[rank * len(index) : (rank + 1) * len(index)]

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
        table = self._rows_like(rows)
        rows = rows[_first_occurrence(index)]
        if table.dtype == torch.float16:
            rows = _round_to_float16(rows.float(), seed=self.num_writes)
        rank, world_size = self._shard
        if world_size > 1:
            index = index - rank * len(table)
            held = ((index >= 0) & (index < len(table))).nonzero().squeeze(1)
            index = index[held]
            rows = rows[held]
        rows = rows.to(table.dtype)
        is_finite = rows.unsqueeze(-1).flatten(1).isfinite().all(1).view(-1, *(1,) * (rows.ndim - 1))
        table[index] = torch.where(is_finite, rows, table[index])
        self.num_writes += 1

    @property
    def world_size(self) -> int:
        """The number of ranks among which the rows are divided."""
        return self._shard[1]

    def empty(self) -> None:
        """Forget everything that was written."""
        self.rows = None
        self.num_samples = None
        self.num_writes = 0

    def all_rows(self) -> Tensor | None:
        """Return the rows of all samples; of a sharded table, on the CPU of the first rank, and ``None`` on others.

        All ranks must call it for a sharded table.
        """
        rank, world_size = self._shard
        if self.rows is None or world_size == 1:
            return self.rows
        shape = (world_size, *self.rows.shape) if rank == 0 else (0,)
        shards = torch.empty(shape, dtype=self.rows.dtype)
        chunk_length = max(1, _CHUNK_SIZE // max(1, self.rows[0].numel()))
        for start in range(0, len(self.rows), chunk_length):
            chunk = self.rows[start : start + chunk_length]
            gathered = all_gather(chunk.to(self._device))
            if rank == 0:
                shards[:, start : start + chunk_length] = gathered.view(world_size, *chunk.shape)
        return shards.flatten(0, 1)[: self._num_stored] if rank == 0 else None

    def load(self, rows: Tensor | None, num_writes: int) -> None:
        """Take the rows of all samples from a checkpoint, after a number of writes."""
        self.num_writes = num_writes
        self.rows = None
        if rows is not None:
            self.rows = self._new_rows(rows, len(rows))
            first = self._shard[0] * len(self.rows)
            held = rows[first : first + len(self.rows)]
            self.rows[: len(held)] = held

    def _rows_like(self, like: Tensor) -> Tensor:
        """Return the table on the device of ``like``, allocated if this is its first use."""
        if self.rows is None:
            self.rows = self._new_rows(like, self._size())
        self.rows = self.rows.to(like.device)  # rows of a checkpoint are on the CPU
        self._device = like.device
        return self.rows

    def _new_rows(self, like: Tensor, num_samples: int) -> Tensor:
        """Return the rows that this rank holds, filled, with the shape of the rows in ``like`` and on its device."""
        self._shard = rank_and_world_size() if self.sharded else (0, 1)
        self._num_stored = num_samples
        num_rows = -(-num_samples // self.world_size)
        dtype = self.dtype or self._wide(like[:0]).dtype  # half types are too coarse for running averages
        return like.new_full((num_rows, *like.shape[1:]), self.fill, dtype=dtype)

    def _wide(self, rows: Tensor) -> Tensor:
        """Return rows in at least float32 if they are floating point."""
        return at_least_float32(rows) if rows.is_floating_point() else rows

    def _size(self) -> int:
        if self.num_samples is None:
            raise RuntimeError("a SampleTable needs set_num_samples(num_samples) before its first use")
        return self.num_samples


def _first_occurrence(index: Tensor) -> Tensor:
    """Return the place of the first equal entry for each entry of an index, ``(B,)``, without a wait for the device."""
    order = index.argsort(stable=True)  # equal values stay in the order of their places
    return order[torch.searchsorted(index[order], index)]


def _round_to_float16(rows: Tensor, seed: int) -> Tensor:
    """Round float32 at random to one of the two neighbors in float16, so that the expectation is the number itself."""
    generator = torch.Generator(rows.device).manual_seed(seed)
    # float32 has 13 bits more than float16. A random number of 13 bits, added to these, carries over with the right
    # probability.
    draws = torch.randint(2**13, rows.shape, generator=generator, dtype=torch.int32, device=rows.device)
    is_normal = (rows.abs() >= torch.finfo(torch.float16).tiny) & rows.isfinite()
    bits = (rows.view(torch.int32) + draws).bitwise_and_(-(2**13))
    return torch.where(is_normal, bits.view(torch.float32), rows).half()


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

    def __init__(self) -> None:
        super().__init__()
        self._is_alone = False

    def add(
        self, name: str, fill: float = 0.0, *, dtype: torch.dtype | None = None, sharded: bool = False
    ) -> SampleTable:
        """Add a new, empty table, see :class:`SampleTable`; called in the constructor of a method.

        Raises:
            ValueError: there is a table of this name.
        """
        if name in self:
            raise ValueError(f"there is a table named {name!r} already; give each table a different name")
        self[name] = SampleTable(fill, dtype=dtype, sharded=sharded)
        return self[name]

    def set_num_samples(self, num_samples: int) -> None:
        """Set the number of rows of all tables; see :meth:`SampleTable.set_num_samples`."""
        for table in self.values():
            table.set_num_samples(num_samples)

    def empty(self) -> None:
        """Forget everything that was written."""
        self._is_alone = False
        for table in self.values():
            table.empty()

    def stop_communicating(self) -> None:
        """Do not communicate any more: after an exception, this rank may be the only one that writes a checkpoint."""
        self._is_alone = True

    def to_cpu(self) -> None:
        """Free the device; the rows stay readable."""
        for table in self.values():
            table.rows = None if table.rows is None else table.rows.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of all tables, on the first rank.

        Only sharded tables communicate, which needs all ranks. After :meth:`stop_communicating` and outside of a
        process group they do not, and their state cannot be loaded.
        """
        state: dict[str, Any] = {}
        for name, table in self.items():
            is_whole = table.rows is None or table.world_size == 1
            if not is_whole and (self._is_alone or not is_distributed()):
                state[name] = _PART_OF_A_TABLE
                continue
            state[name] = table.all_rows()
            if table.dtype == torch.float16:
                state[_writes_key(name)] = table.num_writes
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned on the first rank.

        Raises:
            ValueError: the checkpoint lacks the rows of other ranks.
        """
        for name, table in self.items():
            rows = state_dict[name]
            if isinstance(rows, str):
                raise ValueError(
                    f"the checkpoint lacks the rows of other ranks in the sharded table {name!r}, because one rank "
                    "wrote it after an exception; resume from the checkpoint before it"
                )
            table.load(rows, state_dict.get(_writes_key(name), 0))


def _writes_key(name: str) -> str:
    return f"{name}, number of writes"
