"""What cannot work is refused before it is trained, in an error that says what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerState
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from noisylabels_pl import ELR, SPL, Crust, GCELoss, PRLGradient, PRLLossLayer, RobustLoss, indexed
from noisylabels_pl.core import CriterionCallback, Needs, Scores, SelectionCallback
from noisylabels_pl.data import Batch, Digits, Selection
from tests.helpers import Tutorial, WithCriterion

Make = Callable[..., Any]


class Doubled(CriterionCallback):
    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        return 2 * losses


class Idle(CriterionCallback):
    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        return losses


class Chosen(SelectionCallback):
    """Chooses the given samples."""

    def __init__(self, *chosen: int, partner: int | None = None, **options: Any) -> None:
        super().__init__(warmup_epochs=0, **options)
        self.chosen = torch.tensor(chosen, dtype=torch.int64)
        self.partners = None if partner is None else torch.full_like(self.chosen, partner)

    def select(self, module: Any, scores: Scores, epoch: int) -> Selection:
        return Selection(self.chosen, partners=self.partners)


def by_hand(logits: Tensor, target: Tensor) -> Tensor:
    return -logits.log_softmax(1)[torch.arange(len(target)), target].mean()


class NoneEach(WithCriterion):
    """Its criterion reduces, whatever it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = type("Mean", (nn.CrossEntropyLoss,), {"forward": lambda self, x, y: by_hand(x, y)})()


class Never(WithCriterion):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Tutorial.training_step(self, batch, batch_idx)


class ByHand(Tutorial):
    """Its loss is a formula."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return by_hand(self(x), y)


class Replaces(WithCriterion):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.criterion = type("Own", (nn.CrossEntropyLoss,), {"forward": lambda self, x, y: ByHand.training_step})()
        return by_hand(self(x), y)


class Focal(Tutorial):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        losses = F.cross_entropy(self(x), y, reduction="none")
        return ((1 - (-losses).exp()) ** 2 * losses).mean()


class TwoLosses(Tutorial):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y) + F.nll_loss(self(-x).log_softmax(1), y)


class Twice(WithCriterion):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y) + self.criterion(self(-x), y)


class ThreeArguments(WithCriterion):
    def __init__(self) -> None:
        super().__init__()
        self.criterion.forward = lambda x, y, weights: by_hand(x, y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y, None)


class Weighted(WithCriterion):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss(**options)


class Summed(Doubled):
    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        return losses.sum()


class TwoViews(WithCriterion):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(torch.cat([x, -x])), torch.cat([y, y]))


class Records(Doubled):
    def __init__(self) -> None:
        super().__init__()
        self.tables.add("losses")


class Loses(WithCriterion):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch.x, batch.y]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


def samples(n: int = 40) -> TensorDataset:
    return TensorDataset(torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10)


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(samples(), **({"batch_size": 8, "shuffle": True} | options))


CASES = {
    "loader not indexed": (
        lambda: (Doubled(), WithCriterion(), loader()),
        TypeError,
        r"the training loader is a DataLoader without sample positions; pass one loader, wrapped: "
        r"trainer.fit\(module, noisylabels_pl.indexed\(train_loader\)\)",
    ),
    "two training loaders": (
        lambda: (Doubled(), WithCriterion(), [indexed(loader()), indexed(loader())]),
        TypeError,
        r"the training loader is a list without sample positions; pass one loader, wrapped",
    ),
    "positions lost on the way": (
        lambda: (Doubled(), Loses(), indexed(loader(), as_batches=True)),
        TypeError,
        "let batch transfer hooks set batch.x in place and return batch",
    ),
    "iterable dataset": (
        lambda: indexed(DataLoader(Stream(), batch_size=8)),
        TypeError,
        r"indexed\(\) needs a map-style dataset and a loader with batch_size",
    ),
    "no loss": (
        lambda: (Doubled(), ByHand(), indexed(loader())),
        TypeError,
        r"training_step of ByHand computes no loss that Doubled could change; compute it by F.cross_entropy or",
    ),
    "no loss, and a way without one": (
        lambda: (Crust(warmup_epochs=1), ByHand(), indexed(loader())),
        TypeError,
        r"training_step of ByHand computes no loss that Crust could score; compute it by F.cross_entropy or",
    ),
    "a formula on a loss function": (
        lambda: (Doubled(), Focal(), indexed(loader())),
        ValueError,
        "F.cross_entropy is called with reduction='none', and what the step makes of it may be another loss.*; let it",
    ),
    "a loss that is never changed": (
        lambda: (Idle(), WithCriterion(), indexed(loader())),
        RuntimeError,
        r"Idle changed no loss in epoch 0; if that is meant, return losses.clone\(\) from adjust_losses",
    ),
    "named criterion never called": (
        lambda: (Doubled(criterion="criterion"), Never(), indexed(loader())),
        TypeError,
        "training_step of Never never called its CrossEntropyLoss, whose loss Doubled changes; compute the loss",
    ),
    "criterion replaced": (
        lambda: (Doubled(), Replaces(), indexed(loader())),
        TypeError,
        "Replaces replaced its criterion during the fit, whose loss Doubled changes; make all criteria in __init__",
    ),
    "trained with two losses": (
        lambda: (Doubled(), TwoLosses(), indexed(loader())),
        ValueError,
        "a step is trained with F.cross_entropy and F.nll_loss, but Doubled changes one loss",
    ),
    "criterion called twice, and a record of each sample": (
        lambda: (Records(), Twice(), indexed(loader())),
        ValueError,
        "CrossEntropyLoss is called several times in a step.*use two criteria, and name the one",
    ),
    "criterion with more arguments": (
        lambda: (Doubled(), ThreeArguments(), indexed(loader())),
        TypeError,
        r"called with 3 arguments, but only the loss of \(logits, target\) can be changed",
    ),
    "another number of losses": (
        lambda: (Summed(), WithCriterion(), indexed(loader())),
        TypeError,
        r"Summed.adjust_losses must return one loss a sample, \(8,?\), got \(\)",
    ),
    "another number of rows": (
        lambda: (Doubled(), TwoViews(), indexed(loader())),
        TypeError,
        "CrossEntropyLoss is called with 16 rows for a batch of 8 samples.*one row a sample",
    ),
    "a loss class": (lambda: RobustLoss(GCELoss), TypeError, r"such as RobustLoss\(GCELoss\(\)\), got <class"),
    "two tables of a name": (lambda: Records().tables.add("losses"), ValueError, "a table named 'losses' already"),
    "an unknown role": (
        lambda: Needs(role="losses"),  # type: ignore[arg-type]
        ValueError,
        "role must be one of loss, mixing, weights, samples, got 'losses'",
    ),
    "class weights": (
        lambda: (RobustLoss(GCELoss()), Weighted(weight=torch.ones(10)), indexed(loader())),
        ValueError,
        "CrossEntropyLoss has class weights or an ignore_index, which GCELoss would ignore; make the loss the",
    ),
    "ignored labels": (
        lambda: (RobustLoss(GCELoss()), Weighted(ignore_index=3), loader()),
        ValueError,
        "class weights or an ignore_index",
    ),
    "no loss per sample": (
        lambda: (Doubled(), NoneEach(), indexed(loader())),
        TypeError,
        r"criterion Mean gives no loss per sample: \(\) for a batch of 8; let it obey self.reduction = 'none'",
    ),
    "index beyond n": (
        lambda: (Chosen(3, 40), WithCriterion(), indexed(loader())),
        ValueError,
        r"indices reach from 3 to 40, but the training set has 40 samples; select among those",
    ),
    "negative index": (
        lambda: (Chosen(3, -1), WithCriterion(), indexed(loader())),
        ValueError,
        "indices reach from -1 to 3",
    ),
    "partner beyond n": (
        lambda: (Chosen(3, 4, partner=99), WithCriterion(), indexed(loader())),
        ValueError,
        "partners reach from 99 to 99",
    ),
    "no sample selected": (
        lambda: (Chosen(), WithCriterion(), indexed(loader())),
        ValueError,
        r"select\(\) chose no samples; let it choose some",
    ),
    "overfit_batches": (
        lambda: (Chosen(1), WithCriterion(), indexed(loader()), {"overfit_batches": 2}),
        ValueError,
        "with overfit_batches Lightning visits the same batches in every epoch; use limit_train_batches",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(case: str, make_trainer: Make) -> None:
    def attempt() -> None:
        callback, module, train, *options = build()
        make_trainer(callback, max_epochs=2, **(options[0] if options else {})).fit(module, train)

    build, error, message = CASES[case]
    with pytest.raises(error, match=message) as refusal:
        attempt()
    assert "\n" not in str(refusal.value)


def test_a_selection_from_a_checkpoint_of_other_data(make_trainer: Make, tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    make_trainer(Chosen(30, 39), saved, enable_checkpointing=True, max_epochs=2).fit(WithCriterion(), indexed(loader()))
    fewer = indexed(DataLoader(samples(20), batch_size=8, shuffle=True))
    trainer = make_trainer(Chosen(1, 2), max_epochs=2)
    with pytest.raises(ValueError, match=r"30 to 39, but the training set has 20 .*resume with the data"):
        trainer.fit(WithCriterion(), fewer, ckpt_path=tmp_path / "epoch=0.ckpt")


class Relabeled(TensorDataset):
    """A dataset whose labels somebody changes."""

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        return self.tensors[0][item], self.tensors[1][item]


@pytest.mark.parametrize("persistent", [True, False])
def test_persistent_workers_and_a_changing_dataset(make_trainer: Make, persistent: bool) -> None:
    class Relabels(Chosen):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            super().on_train_epoch_start(trainer, module)
            dataset.tensors[1][:7] = 9

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch.y[batch.index == 3])

    dataset, seen = Relabeled(*samples().tensors), []
    train = indexed(
        DataLoader(dataset, batch_size=8, num_workers=1, persistent_workers=persistent, multiprocessing_context="fork"),
        as_batches=True,
    )
    trainer = make_trainer(Relabels(1, 2, 3, 4), max_epochs=3)
    if persistent:
        with pytest.raises(
            ValueError, match=r"7 labels of the dataset changed.*persistent_workers=False, or .*batch.y"
        ):
            trainer.fit(WithCriterion(), train)
    else:
        trainer.fit(WithCriterion(), train)
        assert [int(y) for y in seen] == [9, 9, 9]


def test_persistent_workers_and_a_changing_selection(make_trainer: Make) -> None:
    class Moves(Chosen):
        def select(self, module: Any, scores: Scores, epoch: int) -> Selection:
            return Selection(torch.arange(8 + 8 * epoch) + epoch)

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            visited.setdefault(trainer.current_epoch, []).extend(batch.index.tolist())

    visited: dict[int, list[int]] = {}
    train = indexed(loader(num_workers=2, persistent_workers=True), as_batches=True)
    make_trainer(Moves(), max_epochs=3).fit(WithCriterion(), train)
    assert {epoch: sorted(indices) for epoch, indices in visited.items()} == {
        epoch: list(range(epoch, 8 + 9 * epoch)) for epoch in range(3)
    }


def test_an_interval_of_validation_that_a_selection_falls_below(make_trainer: Make) -> None:
    class Shrinks(Chosen):
        def select(self, module: Any, scores: Scores, epoch: int) -> Selection:
            return Selection(torch.arange(40 if epoch == 0 else 16))

    trainer = make_trainer(Shrinks(), max_epochs=3, val_check_interval=4)
    with pytest.raises(ValueError, match=r"`val_check_interval` \(4\) must be .*`check_val_every_n_epoch=None`"):
        trainer.fit(WithCriterion(), indexed(loader()), loader())


def test_a_batch_size_that_does_not_divide() -> None:
    class Three:
        world_size = 3
        state = TrainerState()

    datamodule = Digits(batch_size=32)
    datamodule.setup()
    datamodule.trainer = Three()
    with pytest.raises(ValueError, match=r"batch_size=32 .* does not divide by 3 devices; take 30"):
        datamodule.train_dataloader()


@pytest.mark.parametrize("callback", [lambda: ELR(), lambda: RobustLoss(GCELoss()), lambda: Crust(warmup_epochs=0)])
def test_methods_for_classes_in_a_regression(callback: Any, make_trainer: Any) -> None:
    class Regression(WithCriterion):
        def __init__(self) -> None:
            super().__init__()
            self.criterion = nn.MSELoss()  # type: ignore[assignment]

    loader = indexed(DataLoader(TensorDataset(torch.randn(8, 64), torch.randn(8, 10)), batch_size=4))
    with pytest.raises(TypeError, match=r"MSELoss is called with real-valued targets, but .* is for one class"):
        make_trainer(callback(), max_epochs=1).fit(Regression(), loader)


@pytest.mark.parametrize("method", [PRLLossLayer, PRLGradient, SPL])
def test_targets_that_would_be_broadcast(method: Any, make_trainer: Any) -> None:
    class Regression(WithCriterion):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(64, 1)  # type: ignore[assignment]
            self.criterion = nn.MSELoss()  # type: ignore[assignment]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return self.criterion(self(x), y)

    loader = DataLoader(TensorDataset(torch.randn(8, 64), torch.randn(8)), batch_size=4)
    with pytest.raises(TypeError, match=r"outputs \(4, 1\) and targets \(4,\), which it would broadcast"):
        make_trainer(method(0.2), max_epochs=1).fit(Regression(), loader)
