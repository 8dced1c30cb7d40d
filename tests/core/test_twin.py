"""Two networks that learn from each other, in Lightning's loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl.core import Classifier, TwinModule
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import selected_mean
from noisylabels_pl.nets import mlp

Make = Callable[..., Any]
Losses = tuple[Tensor | None, Tensor | None]

PLAIN = partial(torch.optim.SGD, lr=0.1)
NESTEROV = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-3)
ADAMW = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
HALVING = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)


class Independent(TwinModule):
    def losses(self, batch: Batch) -> Losses:
        x, y = batch
        return F.cross_entropy(self.net.first(x), y), F.cross_entropy(self.net.second(x), y)


class Peers(TwinModule):
    """Each network is taught what the other finds easy."""

    def losses(self, batch: Batch) -> Losses:
        x, y = batch
        first, second = (F.cross_entropy(net(x), y, reduction="none") for net in pair(self))
        return selected_mean(first, easy(second)), selected_mean(second, easy(first))


def easy(losses: Tensor) -> Tensor:
    return losses.detach() <= losses.detach().median()


class Resting(Independent):
    """They take turns in the first epoch; from the second on only the second network rests."""

    def losses(self, batch: Batch) -> Losses:
        first, second = super().losses(batch)
        turn = self.trainer.fit_loop.epoch_loop.batch_idx % 2
        return (first if self.current_epoch or turn else None), (None if turn else second)


class Memory(TwinModule):
    """Both networks learn a running average of what they predict; keeps what each step read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.targets = self.tables.add("targets")
        self.read: list[Tensor] = []
        self.fails = False

    def losses(self, batch: Batch) -> Losses:
        x, y = batch
        first, second = self.net.first(x), self.net.second(x)
        probabilities = ((first + second) / 2).detach().softmax(1)
        self.read.append(self.targets.read(batch.index, probabilities))
        targets = 0.5 * self.read[-1] + 0.5 * probabilities
        self.targets.write(batch.index, targets)
        if self.fails:
            raise KeyError("in the step")
        soft = F.one_hot(y, 10) + targets
        return F.cross_entropy(first, soft), F.cross_entropy(second, soft)


def make(kind: type[TwinModule], optimizer: Any = NESTEROV, scheduler: Any = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return kind(partial(mlp, (1, 8, 8), 10, hidden=(32,)), 10, optimizer, scheduler)


def pair(module: TwinModule) -> list[nn.Module]:
    return [module.net.first, module.net.second]


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


class Watch(L.Callback):
    """The batches, and after each of them which of the two networks changed."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.changed: list[tuple[bool, bool]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append((batch.x.clone(), batch.y.clone()))
        self.before = [weights(net) for net in pair(pl_module)]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = [weights(net) for net in pair(pl_module)]
        self.changed.append((not same(self.before[0], now[0]), not same(self.before[1], now[1])))


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "options"),
    [
        (NESTEROV, None, {}),
        (ADAMW, None, {}),
        (NESTEROV, HALVING, {}),
        (NESTEROV, None, {"accumulate_grad_batches": 4}),
        (ADAMW, None, {"precision": "bf16-mixed"}),
        (PLAIN, None, {"gradient_clip_val": 0.05}),
        (PLAIN, None, {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}),
    ],
    ids=["nesterov", "adamw", "scheduler", "accumulated", "bf16", "clipped by norm", "clipped by value"],
)
def test_independent_losses_train_as_two_fits_do(
    digits: Make, make_trainer: Make, optimizer: Any, scheduler: Any, options: dict[str, Any]
) -> None:
    twin = make(Independent, optimizer, scheduler)
    nets = deepcopy(pair(twin))
    trainer = make_trainer(max_epochs=2, **options)
    trainer.fit(twin, datamodule=digits())
    assert len(trainer.optimizers) == 1
    for net, trained in zip(nets, pair(twin), strict=True):
        start = weights(net)
        single = make_trainer(max_epochs=2, **options)
        single.fit(Classifier(net, 10, optimizer, scheduler), datamodule=digits())
        assert same(weights(net), weights(trained))
        assert not same(start, weights(trained))
        assert trainer.optimizers[0].param_groups[0]["lr"] == single.optimizers[0].param_groups[0]["lr"]


def test_peers_train_as_in_a_loop_with_two_optimizers(digits: Make, make_trainer: Make) -> None:
    module, watch = make(Peers), Watch()
    nets = deepcopy(pair(module))
    trainer = make_trainer(watch, max_epochs=5)
    trainer.fit(module, datamodule=digits())
    optimizers = [NESTEROV(net.parameters()) for net in nets]
    for x, y in watch.batches:
        own = [F.cross_entropy(net(x), y, reduction="none") for net in nets]
        for losses, peer, optimizer in zip(own, reversed(own), optimizers, strict=True):
            optimizer.zero_grad()
            selected_mean(losses, easy(peer)).backward()
            optimizer.step()
    assert all(map(same, map(weights, nets), map(weights, pair(module))))
    (metrics,) = trainer.test(module, datamodule=digits(), verbose=False)
    assert metrics["test/acc"] > 0.6  # of labels of which 40 % were wrong in training


@pytest.mark.parametrize("optimizer", [NESTEROV, ADAMW])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_network_without_loss_rests(digits: Make, make_trainer: Make, optimizer: Any, clip: float | None) -> None:
    watch = Watch()
    trainer = make_trainer(watch, max_epochs=2, limit_train_batches=4, gradient_clip_val=clip)
    trainer.fit(make(Resting, optimizer), datamodule=digits())
    assert watch.changed == [(False, True), (True, False)] * 2 + [(True, True), (True, False)] * 2


def test_a_method_without_losses_is_refused() -> None:
    with pytest.raises(TypeError, match="losses"):
        make(TwinModule)


def test_neither_network_has_a_loss(digits: Make, make_trainer: Make) -> None:
    idle = type("Idle", (TwinModule,), {"losses": lambda self, batch: (None, None)})
    with pytest.raises(ValueError, match=r"None.*selected_mean"):
        make_trainer(max_epochs=1).fit(make(idle), datamodule=digits())


def test_a_loader_without_positions_is_refused(make_trainer: Make) -> None:
    loader = DataLoader(TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 10), batch_size=8)
    module = make(Independent)
    start = weights(module)
    with pytest.raises(TypeError, match=r"indexed\(train_loader\)"):
        make_trainer(max_epochs=1).fit(module, loader)
    assert same(start, weights(module))


def test_an_empty_selection_changes_nothing(digits: Make, make_trainer: Make) -> None:
    def losses(self: TwinModule, batch: Batch) -> Losses:
        x, y = batch
        each = F.cross_entropy(self.net.first(x), y, reduction="none")
        return selected_mean(each, y < 0), F.cross_entropy(self.net.second(x), y)

    module, watch = make(type("Picky", (TwinModule,), {"losses": losses}), PLAIN), Watch()
    make_trainer(watch, max_epochs=1, limit_train_batches=3).fit(module, datamodule=digits())
    assert watch.changed == [(False, True)] * 3


def test_metrics_are_those_of_each_loss_and_of_the_mean_logits(digits: Make, make_trainer: Make) -> None:
    datamodule, module, watch = digits(), make(Independent, PLAIN), Watch()
    first, second = deepcopy(pair(module))
    assert not same(weights(first), weights(second))
    trainer = make_trainer(watch, max_epochs=1, limit_train_batches=1)
    trainer.fit(module, datamodule=datamodule)
    (x, y), metrics = watch.batches[0], trainer.callback_metrics
    losses = F.cross_entropy(first(x), y), F.cross_entropy(second(x), y)
    torch.testing.assert_close((metrics["train/loss_first"], metrics["train/loss_second"]), losses)
    torch.testing.assert_close(metrics["train/loss"], sum(losses) / 2)  # on the scale of one network's
    arrays, rows = datamodule.arrays, datamodule.val_indices
    x, y = (arrays.x_train[rows].float() - arrays.mean) / arrays.std, datamodule.labels.observed[rows]
    logits = ((module.net.first(x) + module.net.second(x)) / 2).detach()
    torch.testing.assert_close(module(x).detach(), logits)
    assert metrics["val/acc"] == (logits.argmax(1) == y).float().mean()
    torch.testing.assert_close(metrics["val/loss"], F.cross_entropy(logits, y))


def test_tables_resume_with_the_weights(digits: Make, make_trainer: Make, tmp_path: Path) -> None:
    def fit(folder: str, max_epochs: int, seed: int, resume: Path | None = None) -> Memory:
        module = make(Memory, scheduler=HALVING, seed=seed)
        checkpoint = ModelCheckpoint(tmp_path / folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        trainer = make_trainer(checkpoint, enable_checkpointing=True, max_epochs=max_epochs)
        trainer.fit(module, datamodule=digits(), ckpt_path=resume)
        return module

    whole = fit("whole", max_epochs=3, seed=0)
    fit("half", max_epochs=2, seed=0)
    resumed = fit("rest", max_epochs=3, seed=1, resume=tmp_path / "half" / "epoch=1.ckpt")
    assert same(weights(whole), weights(resumed))
    assert whole.targets.rows is not None
    assert torch.equal(whole.targets.rows, resumed.targets.rows)
    assert (whole.targets.rows.sum(1) - (1 - 0.5**3)).abs().max() < 1e-5
    assert whole.state_dict().keys() == make(Independent).state_dict().keys()


@pytest.mark.parametrize("fails", [False, True])
def test_every_fit_starts_with_empty_tables(digits: Make, make_trainer: Make, fails: bool) -> None:
    module = make(Memory)
    module.fails = fails
    with pytest.raises(KeyError, match="in the step") if fails else nullcontext():
        make_trainer(max_epochs=2).fit(module, datamodule=digits())
    assert module.targets.rows.any()
    module.read, module.fails = [], False
    make_trainer(max_epochs=1).fit(module, datamodule=digits(train_size=200))
    assert len(module.read) == 6  # 180 samples in batches of 32
    assert not torch.cat(module.read).any()


def test_what_else_is_trained_is_clipped_too(digits: Make, make_trainer: Make) -> None:
    class Shifted(Independent):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.shift = nn.Parameter(torch.zeros(10))

        def losses(self, batch: Batch) -> Losses:
            x, y = batch
            return 1000 * F.cross_entropy(self.net.first(x) + self.shift, y), None

    torch.manual_seed(0)
    module = Shifted(partial(mlp, (1, 8, 8), 10, hidden=(16,)), 10, partial(torch.optim.SGD, lr=1.0))
    make_trainer(max_steps=1, gradient_clip_val=0.01).fit(module, datamodule=digits())
    assert float(module.shift.detach().norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("returned", [torch.ones(()), (torch.ones(()), torch.ones(3)), (torch.ones(()),)])
def test_anything_but_two_scalars_is_refused(digits: Make, make_trainer: Make, returned: Any) -> None:
    class Wrong(Independent):
        def losses(self, batch: Batch) -> Any:
            return returned

    with pytest.raises(TypeError, match=r"Wrong.losses must return two scalars, one for each network"):
        make_trainer(max_epochs=1).fit(Wrong(partial(mlp, (1, 8, 8), 10), 10, PLAIN), datamodule=digits())
