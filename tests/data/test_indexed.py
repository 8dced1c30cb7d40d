"""Loaders that know the positions of their samples."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from noisylabels_pl import ELR
from noisylabels_pl.data import Batch, IndexedDataset, IndexedLoader, Selection, SelectionSampler
from noisylabels_pl.data import indexed as indexed_unchanged
from tests.helpers import Tutorial

Make = Callable[..., Any]
N = 11


def features(index: Tensor) -> Tensor:
    """What sample ``index`` looks like: a row tells which sample it is."""
    return torch.stack([10.0 * index, 10.0 * index + 1], dim=1)


def tensors() -> TensorDataset:
    rows = torch.arange(N)
    return TensorDataset(features(rows), rows % 3)


class PerSample(Dataset[Any]):
    """A dataset of the plainest kind: one sample at a time, label as an int."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        if not 0 <= item < N:
            raise IndexError(item)
        return torch.tensor([10.0 * item, 10.0 * item + 1]), item % 3


class Fixed(Sampler[Any]):
    """A custom sampler."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def positions(loader: DataLoader[Any]) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader]


def flat(loader: DataLoader[Any]) -> list[int]:
    return [position for batch in positions(loader) for position in batch]


def indexed(loader: DataLoader[Any], **options: Any) -> IndexedLoader:
    """With the positions in the batches."""
    return indexed_unchanged(loader, as_batches=True, **options)


SUBSET = [9, 3, 5, 0, 10, 7]
DATASETS: dict[str, Callable[[], Any]] = {
    "tensors": tensors,
    "subset": lambda: Subset(tensors(), SUBSET),
    "subset of a subset": lambda: Subset(Subset(PerSample(), SUBSET), [2, 5, 0, 1]),
    "per sample": PerSample,
    "list": lambda: [(torch.tensor([10.0 * i, 10.0 * i + 1]), i % 3) for i in range(N)],
}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", DATASETS)
def test_index_is_the_position_in_the_dataset(kind: str, shuffle: bool) -> None:
    dataset = DATASETS[kind]()
    loader = indexed(DataLoader(dataset, batch_size=4, shuffle=shuffle))
    batches = list(loader)
    for batch in batches:
        assert isinstance(batch, Batch)
        assert batch.index.dtype == torch.int64
        assert batch.partner is None
        expected = [dataset[position] for position in batch.index.tolist()]
        assert torch.equal(batch.x, torch.stack([x for x, _ in expected]))
        assert batch.y.tolist() == [int(y) for _, y in expected]
    order = torch.cat([batch.index for batch in batches]).tolist()
    assert sorted(order) == list(range(len(dataset)))
    assert (order == sorted(order)) is not shuffle
    assert [len(batch.index) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    assert len(loader) == len(batches)


def test_batches_equal_those_of_the_plain_loader() -> None:
    plain = DataLoader(PerSample(), batch_size=4)
    for (x, y), batch in zip(plain, indexed(plain), strict=True):
        assert torch.equal(x, batch.x)
        assert torch.equal(y, batch.y)
        assert y.dtype == batch.y.dtype


def test_the_users_loader_stays_as_it_was() -> None:
    plain = DataLoader(tensors(), batch_size=4, shuffle=True)
    indexed(plain)
    assert isinstance(plain.sampler, RandomSampler)
    assert isinstance(plain.dataset, TensorDataset)
    assert isinstance(next(iter(plain)), list)


def test_custom_collate_function() -> None:
    def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return -torch.stack([x for x, _ in samples]), torch.tensor([y + 100 for _, y in samples])

    for batch in indexed(DataLoader(PerSample(), batch_size=4, shuffle=True, collate_fn=collate)):
        assert torch.equal(batch.x, -features(batch.index))
        assert torch.equal(batch.y, batch.index % 3 + 100)


def test_shuffle_follows_from_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, state: int) -> list[int]:
        loader = indexed(DataLoader(tensors(), batch_size=4, shuffle=True), seed=seed)
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        torch.manual_seed(state)
        return flat(loader)

    assert order(3, 1, state=0) == order(3, 1, state=99)
    assert order(3, 1, state=0) != order(3, 2, state=0)
    assert order(3, 1, state=0) != order(7, 1, state=0)


def test_drop_last() -> None:
    loader = indexed(DataLoader(tensors(), batch_size=4, shuffle=True, drop_last=True))
    assert len(loader) == 2
    assert [len(batch) for batch in positions(loader)] == [4, 4]
    kept = indexed(DataLoader(tensors(), batch_size=4, shuffle=True))
    assert flat(loader) == flat(kept)[:8]


@pytest.mark.parametrize("make", [tensors, PerSample])
def test_workers_give_the_same_batches(make: Callable[[], Any]) -> None:
    here, elsewhere = (
        list(indexed(DataLoader(make(), batch_size=4, shuffle=True, num_workers=workers), seed=5)) for workers in (0, 2)
    )
    assert len(here) == len(elsewhere) == 3
    for one, other in zip(here, elsewhere, strict=True):
        assert isinstance(other, Batch)
        for name in ("x", "y", "index"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_workers_bring_partners() -> None:
    keys = [(0, 9), (4, 4), (2, 1)]
    (batch,) = indexed(DataLoader(tensors(), batch_size=4, sampler=Fixed(keys), num_workers=1))
    assert batch.index.tolist() == [0, 4, 2]
    assert batch.partner.index.tolist() == [9, 4, 1]
    assert torch.equal(batch.partner.x, features(torch.tensor([9, 4, 1])))


def test_options_of_the_loader_are_kept() -> None:
    def init(worker: int) -> None: ...

    generator = torch.Generator()
    plain: DataLoader[Any] = DataLoader(
        tensors(),
        batch_size=3,
        num_workers=2,
        persistent_workers=True,
        prefetch_factor=5,
        timeout=60,
        worker_init_fn=init,
        generator=generator,
        multiprocessing_context="spawn",
        drop_last=True,
    )
    loader = indexed(plain)
    for name in ("batch_size", "num_workers", "persistent_workers", "prefetch_factor", "timeout", "drop_last"):
        assert getattr(loader, name) == getattr(plain, name), name
    assert loader.worker_init_fn is init
    assert loader.generator is generator
    assert loader.multiprocessing_context is plain.multiprocessing_context
    assert indexed(DataLoader(tensors(), pin_memory=True)).pin_memory


# --- samplers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_callbacks_can_choose_the_samples(shuffle: bool) -> None:
    loader = indexed(DataLoader(tensors(), batch_size=4, shuffle=shuffle))
    assert isinstance(loader.sampler, SelectionSampler)
    assert isinstance(loader.dataset, IndexedDataset)
    loader.sampler.selection = Selection(torch.tensor([8, 2, 5, 6, 1]))
    assert sorted(flat(loader)) == [1, 2, 5, 6, 8]
    assert len(loader) == 1  # the fifth sample is not left alone
    loader.sampler.selection = Selection(torch.arange(6))
    assert len(loader) == 2


def test_overfit_batches_keep_the_batch_size(make_trainer: Make) -> None:
    """Lightning makes the loader anew with another sampler."""
    samples = TensorDataset(torch.rand(N, 1, 8, 8), torch.arange(N) % 3)
    module, loader = Tutorial(), indexed_unchanged(DataLoader(samples, batch_size=4, shuffle=True))
    trainer = make_trainer(ELR(), max_epochs=1, overfit_batches=2)
    trainer.fit(module, loader)
    assert type(trainer.train_dataloader.sampler) is SequentialSampler
    assert trainer.train_dataloader.batch_size == 4
    assert trainer.global_step == 2


def test_selected_partners_come_with_the_batch() -> None:
    loader = indexed(DataLoader(tensors(), batch_size=2, shuffle=True))
    partner_of = {8: 3, 2: 2, 5: 8, 6: 0}
    selection = Selection(torch.tensor(list(partner_of)), partners=torch.tensor(list(partner_of.values())))
    loader.sampler.selection = selection  # type: ignore[attr-defined]
    batches = list(loader)
    assert sorted(position for batch in batches for position in batch.index.tolist()) == sorted(partner_of)
    for batch in batches:
        assert batch.partner.index.tolist() == [partner_of[position] for position in batch.index.tolist()]
        assert torch.equal(batch.partner.x, features(batch.partner.index))
        assert torch.equal(batch.partner.y, batch.partner.index % 3)


@pytest.mark.parametrize("shuffle", [False, True])
def test_distributed_sampler_becomes_one_that_can_select(shuffle: bool) -> None:
    theirs: DistributedSampler[Any] = DistributedSampler(tensors(), num_replicas=1, rank=0, shuffle=shuffle)
    loader = indexed(DataLoader(tensors(), batch_size=4, sampler=theirs))
    assert isinstance(loader.sampler, SelectionSampler)
    order = flat(loader)
    assert sorted(order) == list(range(N))
    assert (order == list(range(N))) is not shuffle


class Backwards(SequentialSampler):
    def __iter__(self) -> Iterator[int]:
        return iter(range(N - 1, -1, -1))


class OddOnes(DistributedSampler[Any]):
    def __init__(self) -> None:
        super().__init__(tensors(), num_replicas=1, rank=0)

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, N, 2))

    def __len__(self) -> int:
        return N // 2


CUSTOM_SAMPLERS: dict[str, Callable[[], Sampler[int]]] = {
    "weighted": lambda: WeightedRandomSampler(torch.ones(N), 20),
    "subset": lambda: SubsetRandomSampler([1, 4, 6]),
    "custom class": lambda: Fixed([5, 3, 3, 0]),
    "subclass of SequentialSampler": lambda: Backwards(tensors()),
    "subclass of DistributedSampler": OddOnes,
    "RandomSampler with replacement": lambda: RandomSampler(tensors(), replacement=True, num_samples=30),
    "RandomSampler of fewer samples": lambda: RandomSampler(tensors(), num_samples=5),
}


@pytest.mark.parametrize("kind", CUSTOM_SAMPLERS)
def test_a_custom_sampler_is_kept(kind: str) -> None:
    sampler = CUSTOM_SAMPLERS[kind]()
    loader = indexed(DataLoader(tensors(), batch_size=4, sampler=sampler))
    assert loader.sampler is sampler
    torch.manual_seed(0)
    order = flat(loader)
    assert len(order) == len(sampler)  # type: ignore[arg-type]
    for batch in loader:
        assert torch.equal(batch.x, features(batch.index))


def test_order_and_repetitions_of_a_custom_sampler_are_kept() -> None:
    assert flat(indexed(DataLoader(tensors(), batch_size=3, sampler=Fixed([5, 3, 3, 0])))) == [5, 3, 3, 0]


# --- refusals ---------------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter([(torch.zeros(2), 0)])


def custom_batches() -> DataLoader[Any]:
    return DataLoader(tensors(), batch_sampler=BatchSampler(SequentialSampler(tensors()), 4, drop_last=False))


@pytest.mark.parametrize(
    "make",
    [lambda: DataLoader(Stream(), batch_size=2), custom_batches, lambda: DataLoader(tensors(), batch_size=None)],
    ids=["iterable dataset", "custom batch sampler", "no batches"],
)
def test_loaders_without_positions_are_refused(make: Callable[[], DataLoader[Any]]) -> None:
    with pytest.raises(TypeError, match=r"(?s)indexed\(\) needs a map-style dataset.*batch_size"):
        indexed(make())


@pytest.mark.parametrize("wrong", [[1, 2], tensors(), None], ids=["list", "dataset", "None"])
def test_only_data_loaders(wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"takes a torch DataLoader, got {type(wrong).__name__}"):
        indexed(wrong)


@pytest.mark.parametrize(
    "sample",
    [torch.zeros(2), {"x": torch.zeros(2), "y": 1}, (torch.zeros(2),), (torch.zeros(2), 1, 2)],
    ids=["tensor", "dict", "one", "three"],
)
def test_samples_that_are_not_pairs(sample: Any) -> None:
    loader = indexed(DataLoader([sample] * 4, batch_size=2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"as_batches=True needs batches of \(x, y\).*return \(x, y\)"):
        next(iter(loader))


# --- in Lightning -----------------------------------------------------------------------------------------------------


class Foreign(L.LightningModule):
    """A user's module that knows nothing of this library."""

    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.inputs = inputs
        self.seen: list[torch.dtype] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if self.inputs > 1:
            x = sum(x)
        self.seen.append(x.dtype)
        loss = F.cross_entropy(self.layer(x), y)
        self.log("loss", loss, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.001)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64), ("bf16-true", torch.bfloat16)]
)
@pytest.mark.parametrize(
    "wrap", [lambda loader: loader, indexed, indexed_unchanged], ids=["plain", "indexed", "unchanged"]
)
def test_foreign_module_trains_at_any_precision(
    make_trainer: Make, wrap: Callable[[Any], Any], precision: str, dtype: torch.dtype
) -> None:
    module = Foreign()
    make_trainer(max_epochs=1, precision=precision).fit(module, wrap(DataLoader(tensors(), batch_size=4)))
    assert module.seen == [dtype] * 3


@pytest.mark.parametrize(
    "wrap", [lambda loader: loader, indexed, indexed_unchanged], ids=["plain", "indexed", "unchanged"]
)
def test_foreign_module_of_two_inputs(make_trainer: Make, wrap: Callable[[Any], Any]) -> None:
    # The remedy in the error message about samples that are not pairs.
    dataset: Any = [((torch.rand(2), torch.rand(2)), i % 3) for i in range(8)]
    module = Foreign(inputs=2)
    make_trainer(max_epochs=1).fit(module, wrap(DataLoader(dataset, batch_size=4)))
    assert len(module.seen) == 2


# --- batches as they are ----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    features: Tensor
    label: Tensor


def collate_dict(samples: list[Any]) -> dict[str, Tensor]:
    return {"image": torch.stack([x for x, _ in samples]), "label": torch.tensor([y for _, y in samples])}


def collate_named(samples: list[Any]) -> Pair:
    return Pair(*collate_dict(samples).values())


def collate_tensor(samples: list[Any]) -> Tensor:
    return torch.stack([x for x, _ in samples])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate", [None, collate_dict, collate_named, collate_tensor])
def test_batches_are_those_of_the_loader(collate: Any, workers: int) -> None:
    plain = DataLoader(PerSample(), batch_size=4, collate_fn=collate, num_workers=workers)
    for step, (batch, expected) in enumerate(zip(loader := indexed_unchanged(plain), plain, strict=True)):
        assert type(batch) is type(expected)
        torch.testing.assert_close(batch, expected)
        index = loader.positions((0, step), torch.device("cpu")).index
        assert index.tolist() == list(range(4 * step, min(4 * step + 4, N)))


def test_positions_are_those_of_the_same_step_until_the_next() -> None:
    loader = indexed_unchanged(DataLoader(tensors(), batch_size=4, shuffle=True))
    cpu, iterator = torch.device("cpu"), iter(loader)
    for step in range(3):
        x, _ = next(iterator)
        if step:  # a whole pass in the middle of another one, as weight averaging makes it
            list(loader)
        first = loader.positions((0, step), cpu)
        assert loader.positions((0, step), cpu) is first
        assert torch.equal(features(first.index), x)


def test_a_batch_from_elsewhere() -> None:
    loader = indexed_unchanged(DataLoader(tensors(), batch_size=4))
    with pytest.raises(RuntimeError, match=r"does not come from this loader; pass the indexed loader itself"):
        loader.positions((0, 0), torch.device("cpu"))


def test_attributes_of_the_dataset_stay_reachable() -> None:
    dataset = PerSample()
    dataset.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    loader = indexed_unchanged(DataLoader(dataset, batch_size=4, num_workers=1))
    assert isinstance(loader, IndexedLoader)
    assert loader.dataset.classes == ["cat", "dog"]
    assert pickle.loads(pickle.dumps(loader.dataset)).classes == ["cat", "dog"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = loader.dataset.nonsense
