"""Tables with a row for every training sample."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import indexed
from noisylabels_pl.core import CriterionCallback, SampleTable, SampleTables
from noisylabels_pl.data import Batch
from tests.helpers import LargeTensors
from tests.processes import run_on_two_ranks

Trainer = Callable[..., L.Trainer]
half = [torch.float16, torch.bfloat16]


def started(num_samples: int, fill: float = 0.0) -> SampleTable:
    table = SampleTable(fill=fill)
    table.set_num_samples(num_samples)
    return table


@pytest.mark.parametrize("first", ["read", "write"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, *half])
def test_a_row_is_like_what_is_first_read_or_written(first: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    table, index = started(5, fill=-1), torch.tensor([3, 0])
    assert table.rows is None
    like = torch.full((2, *shape), 7).to(dtype)
    if first == "read":
        assert (table.read(index, like) == -1).all()
    table.write(index, like)
    kept = torch.float32 if dtype in half else dtype
    expected = torch.full((5, *shape), -1, dtype=kept)
    expected[[3, 0]] = 7
    torch.testing.assert_close(table.rows, expected, rtol=0, atol=0)
    torch.testing.assert_close(table.read(torch.tensor([0, 1, 0]), like), expected[[0, 1, 0]], rtol=0, atol=0)


writes = st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99)), min_size=1, max_size=8), max_size=5)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(writes)
def test_reading_gives_the_last_write_and_in_it_the_first_occurrence(writes: list[list[tuple[int, int]]]) -> None:
    table, expected = started(6, fill=-1), torch.full((6, 1), -1.0)
    for pairs in writes:
        table.write(torch.tensor([i for i, _ in pairs]), torch.tensor([[float(value)] for _, value in pairs]))
        for i, value in reversed(pairs):
            expected[i] = value
    index = torch.tensor([5, 0, 3, 1, 2, 4, 3])
    assert torch.equal(table.read(index, torch.zeros(7, 1)), expected[index])


@pytest.mark.parametrize("repeated", [False, True])
def test_writing_takes_no_more_memory_than_its_rows(repeated: bool) -> None:
    size = 2000
    index = torch.arange(size).flip(0) // (3 if repeated else 1)
    rows = torch.arange(2 * size).view(size, 2).float()
    table = started(size)
    with LargeTensors(3 * size) as large:
        table.write(index, rows)
    assert large.count == 0  # such as one number for each pair of rows
    expected = torch.zeros(size, 2)
    for position, row in zip(reversed(index.tolist()), rows.flip(0), strict=True):  # the first row is stored last
        expected[position] = row
    assert torch.equal(table.rows, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_a_row_that_is_not_finite_is_left_out(bad: float, shape: tuple[int, ...]) -> None:
    table, index = started(4), torch.tensor([1, 2])
    table.write(index, torch.full(shape, 0.5))
    new_rows = torch.full(shape, 0.25)
    new_rows.view(-1)[-1] = bad
    table.write(index, new_rows)
    assert table.read(index, new_rows).reshape(2, -1).amin(1).tolist() == [0.25, 0.5]


def test_rows_share_neither_graph_nor_memory() -> None:
    table, index = started(4), torch.tensor([1, 2])
    weight = torch.ones(2, 3, requires_grad=True)
    for factor in (2, 3):  # the write that makes the rows, and a later one
        table.write(index, factor * weight)
        assert table.rows is not None
        assert not table.rows.requires_grad
    source = torch.full((2, 3), 5.0)
    table.write(index, source)
    source.zero_()
    rows = table.read(index, source)
    rows.zero_()
    assert not rows.requires_grad
    assert torch.equal(table.read(index, source), torch.full((2, 3), 5.0))


@pytest.mark.parametrize("use", ["read", "write"])
def test_use_before_the_number_of_samples_is_known_is_refused(use: str) -> None:
    with pytest.raises(RuntimeError, match=r"needs set_num_samples\(num_samples\) before its first use"):
        getattr(SampleTable(), use)(torch.tensor([0]), torch.zeros(1, 2))


def filled(num_samples: int = 4) -> SampleTables:
    tables = SampleTables()
    probabilities, label = tables.add("probabilities"), tables.add("label", -1)
    tables.add("unused", 0.5)
    tables.set_num_samples(num_samples)
    probabilities.write(torch.tensor([2, 0]), torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64))
    label.write(torch.tensor([3]), torch.tensor([9]))
    return tables


def reloaded(tables: SampleTables, folder: Path) -> SampleTables:
    torch.save(tables.state_dict(), folder / "tables.pt")
    fresh = SampleTables()
    for name, fill in (("probabilities", 0.0), ("label", -1), ("unused", 0.5)):
        assert fresh.add(name, fill) is fresh[name]
    fresh.load_state_dict(torch.load(folder / "tables.pt", weights_only=True))
    return fresh


def test_the_state_survives_a_file(tmp_path: Path) -> None:
    tables = filled()
    fresh = reloaded(tables, tmp_path)
    fresh.set_num_samples(4)
    for name in ("probabilities", "label"):
        torch.testing.assert_close(fresh[name].rows, tables[name].rows, rtol=0, atol=0)
    assert fresh["unused"].rows is None
    fresh["label"].write(torch.tensor([0]), torch.tensor([5]))
    assert torch.equal(fresh["label"].read(torch.arange(4), torch.arange(4)), torch.tensor([5, -1, -1, 9]))
    assert torch.equal(fresh["unused"].read(torch.arange(2), torch.zeros(2)), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("num_samples", [3, 17])
def test_the_state_of_other_data_is_refused(tmp_path: Path, num_samples: int) -> None:
    message = rf"(?s)(?=.*\b4\b)(?=.*\b{num_samples}\b)(?=.*resume)(?=.*data)(?=.*checkpoint)"
    with pytest.raises(ValueError, match=message):
        reloaded(filled(), tmp_path).set_num_samples(num_samples)


@pytest.mark.parametrize("from_file", [False, True])
def test_clearing_forgets_rows_and_what_was_loaded(tmp_path: Path, from_file: bool) -> None:
    tables = reloaded(filled(), tmp_path) if from_file else filled()
    tables.empty()
    assert all(table.rows is None for table in tables.values())
    tables.set_num_samples(7)  # nor is the number of samples remembered, or the type
    assert torch.equal(tables["label"].read(torch.arange(7), torch.zeros(7, 2)), torch.full((7, 2), -1.0))


def write_on_two(folder: Path) -> Tensor:
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    tables = SampleTables()
    table = tables.add("rows", -1)
    tables.set_num_samples(7)
    sign = 1.0 - 2 * rank
    table.write(torch.tensor([[0, 3, 1], [4, 3, 4]][rank]), sign * torch.tensor([[1.0], [2.0], [3.0]]))
    table.write(torch.tensor([[5], [1]][rank]), sign * torch.tensor([[10.0]]))
    if rank == 0:  # the other one has left for good
        torch.save(tables.state_dict(), folder / "state.pt")
    return table.rows


@pytest.mark.processes
def test_two_processes_keep_the_same_rows(tmp_path: Path) -> None:
    both = run_on_two_ranks(write_on_two, tmp_path, folder=tmp_path)
    expected = torch.tensor([[1.0], [-10.0], [-1.0], [2.0], [-1.0], [10.0], [-1.0]])
    for rows in both:
        assert torch.equal(rows, expected)
    tables = SampleTables()
    table = tables.add("rows", -1)
    tables.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(table.rows, expected)


class Seen(CriterionCallback):
    """Sums up the predictions for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.tables.add("seen")

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        p = logits.softmax(1).detach()
        self.seen.write(batch.index, self.seen.read(batch.index, p) + p)
        return losses


class Module(L.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.criterion, self.lr = nn.Linear(4, 3), nn.CrossEntropyLoss(), lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self.layer(x), y)

    validation_step = test_step = training_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loader(num_samples: int = 12) -> DataLoader[Any]:
    x = torch.randn(num_samples, 4, generator=torch.Generator().manual_seed(0))
    return indexed(DataLoader(TensorDataset(x, torch.arange(num_samples) % 3), batch_size=4, shuffle=True))


def test_a_fit_fills_the_table_and_other_loops_leave_it_alone(make_trainer: Trainer) -> None:
    callback, module, data = Seen(), Module(lr=0.0), loader()
    trainer = make_trainer(callback, max_epochs=3)
    trainer.fit(module, data, loader())
    x, _ = data.dataset.dataset[:]
    for loop in (None, trainer.validate, trainer.test):
        if loop is not None:
            loop(module, loader(), verbose=False)
        torch.testing.assert_close(callback.seen.rows, 3 * module.layer(x).softmax(1).detach())


@pytest.mark.parametrize("num_samples", [12, 8])
def test_a_second_fit_starts_from_an_empty_table(make_trainer: Trainer, num_samples: int) -> None:
    callback = Seen()
    for epochs, samples in ((3, 12), (1, num_samples)):
        make_trainer(callback, max_epochs=epochs).fit(Module(), loader(samples))
        assert callback.seen.rows is not None
        torch.testing.assert_close(callback.seen.rows.sum(1), torch.full((samples,), float(epochs)))


def test_resuming_continues_the_table(make_trainer: Trainer, tmp_path: Path) -> None:
    whole = Seen()
    saves = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    make_trainer(whole, saves, max_epochs=3, enable_checkpointing=True).fit(Module(), loader())
    assert whole.seen.rows is not None
    expected = whole.seen.rows.clone()
    for callback in (Seen(), whole):  # in a new process, or in the one that has trained on
        make_trainer(callback, max_epochs=3).fit(Module(), loader(), ckpt_path=tmp_path / "epoch=1.ckpt")
        torch.testing.assert_close(callback.seen.rows, expected)
    with pytest.raises(ValueError, match=r"(?s)(?=.*\b12\b)(?=.*\b8\b)(?=.*resume)(?=.*checkpoint)"):
        make_trainer(Seen(), max_epochs=3).fit(Module(), loader(8), ckpt_path=tmp_path / "epoch=1.ckpt")


# --- float16 ---


def test_an_average_in_float16_does_not_stop() -> None:
    """Rounding to the nearest number would stop it 50 spacings away, where its steps are half a spacing."""
    table = SampleTable(dtype=torch.float16)
    table.set_num_samples(20)
    index = torch.arange(20)
    value = torch.linspace(0.1, 0.9, 50).expand(20, 50)
    for _ in range(1500):
        table.write(index, 0.99 * table.read(index, value) + 0.01 * value)
    assert table.rows is not None
    assert table.rows.dtype == torch.float16
    assert table.read(index, value).dtype == torch.float32
    spacing = 2.0**-10 * value
    assert ((table.rows.float() - value).abs() <= 8 * spacing).all()
    assert ((table.rows.float() - value).mean(0).abs() <= 2.5 * spacing[0]).all()


def test_rounding_to_float16_gives_a_neighbor_and_the_right_mean() -> None:
    numbers = torch.cat([torch.randn(3000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 1.0, 6e-8])])
    table = SampleTable(dtype=torch.float16)
    table.set_num_samples(len(numbers))
    index = torch.arange(len(numbers))
    mean = torch.zeros(len(numbers), dtype=torch.float64)
    for _ in range(400):
        table.write(index, numbers)
        error = table.read(index, numbers) - numbers
        assert (error.abs() <= 2.0**-10 * numbers.abs() + 3e-8).all()
        mean += error.double() / 400
    assert (mean.abs() <= 2.0**-10 * numbers.abs() * 0.15 + 3e-8).all()  # the standard error is 0.025 of a spacing


def test_a_resumed_table_in_float16_rounds_alike(tmp_path: Path) -> None:
    index = torch.arange(4)
    rows = torch.rand(6, 4, 30, generator=torch.Generator().manual_seed(0))

    def make() -> SampleTables:
        tables = SampleTables()
        tables.add("rows", dtype=torch.float16)
        return tables

    whole = make()
    whole.set_num_samples(4)
    for number, written in enumerate(rows):
        whole["rows"].write(index, written)
        if number == 2:
            torch.save(whole.state_dict(), tmp_path / "tables.pt")
    resumed = make()
    resumed.load_state_dict(torch.load(tmp_path / "tables.pt", weights_only=True))
    resumed.set_num_samples(4)
    for written in rows[3:]:
        resumed["rows"].write(index, written)
    assert torch.equal(resumed["rows"].rows, whole["rows"].rows)


# --- sharded ---


def random_rows(step: int) -> tuple[list[Tensor], list[Tensor]]:
    """Positions and rows that two ranks write."""
    generator = torch.Generator().manual_seed(step)
    index = torch.randint(7, (2, 5), generator=generator)
    return list(index), list(torch.rand(2, 5, 3, generator=generator))


def use_shards(folder: Path, dtype: torch.dtype | None) -> dict[str, Any]:
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    tables = SampleTables()
    whole, sharded = tables.add("whole", -1, dtype=dtype), tables.add("sharded", -1, dtype=dtype, sharded=True)
    tables.set_num_samples(7)
    equal = []
    for step in range(8):
        index, rows = (values[rank] for values in random_rows(step))
        before = [table.read(index, rows) for table in (whole, sharded)]
        for table in (whole, sharded):
            table.write(index, 0.5 * before[0] + rows)
        equal.append(torch.equal(*before))
    state = tables.state_dict()
    tables.stop_communicating()
    alone = tables.state_dict() if rank == 1 else None
    if rank == 0:
        torch.save(state, folder / "state.pt")
    distributed.barrier()
    loaded = SampleTables()
    loaded.add("whole", dtype=dtype)
    loaded.add("sharded", dtype=dtype, sharded=True)
    loaded.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    loaded.set_num_samples(7)
    everything = torch.arange(7)
    read_again = loaded["sharded"].read(everything, torch.zeros(7, 3))
    return {
        "equal": equal,
        "rows": sharded.rows,
        "whole": whole.rows,
        "state": state["sharded"],
        "alone": alone,
        "read again": torch.equal(read_again, whole.read(everything, torch.zeros(7, 3))),
    }


@pytest.mark.processes
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_sharded_table_is_the_whole_table_in_parts(tmp_path: Path, dtype: torch.dtype | None) -> None:
    first, second = run_on_two_ranks(use_shards, tmp_path, dtype, folder=tmp_path)
    whole = first["whole"]
    for rank in (first, second):
        assert all(rank["equal"])
        assert rank["read again"]
    assert torch.equal(first["rows"], whole[:4])
    assert torch.equal(second["rows"][:3], whole[4:])
    assert len(second["rows"]) == 4
    assert torch.equal(first["state"], whole)
    assert second["state"] is None  # the first rank writes checkpoints
    tables = SampleTables()  # one process goes on with what two have saved
    tables.add("whole", dtype=dtype)
    tables.add("sharded", dtype=dtype, sharded=True)
    tables.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(tables["sharded"].rows, whole)
    with pytest.raises(ValueError, match="lacks the rows of other ranks in the sharded table 'sharded'"):
        tables.load_state_dict(second["alone"])
