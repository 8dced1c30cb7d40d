"""Every method on every pattern: it acts, or it is refused before the first step."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl import (
    ELR,
    SOP,
    SPL,
    Crust,
    GCELoss,
    Mixup,
    PRLGradient,
    PRLLossLayer,
    RobustLoss,
    TruncatedGCE,
    indexed,
)
from noisylabels_pl.core.scoring import positions_of
from tests.dropin import modules
from tests.dropin.patterns import FORGET_RATE, METHODS, PATTERNS, Pattern, make_module, make_trainer

NUM_SAMPLES = 128
BATCH_SIZE = 32


class Watcher(L.Callback):
    """First in the list: sees each batch before the method does, and what the step made of it."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}
        self.losses: list[Tensor] = []
        self.kept: list[Tensor] = []
        self.num_changed_inputs = 0
        self._before: list[Tensor] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> Any:
        self._before = [values.clone() for values in tensors_of(batch)]

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self.losses.append(loss.detach().clone())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps[trainer.current_epoch] = self.steps.get(trainer.current_epoch, 0) + 1
        after = tensors_of(batch)
        is_changed = [not torch.equal(old, new) for old, new in zip(self._before, after, strict=True)]
        self.num_changed_inputs += any(is_changed)
        if isinstance(trainer.train_dataloader, type(indexed(modules.Project.loader()))):
            kept = positions_of(trainer, batch, batch_idx, required=False).kept
            self.kept += kept or ()


def tensors_of(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, modules.GraphBatch):
        return [batch.x, batch.y]
    if hasattr(batch, "values"):
        batch = batch.values()
    values = [tensors_of(value) for value in batch if not isinstance(value, (str, int))]
    return [tensor for tensors in values for tensor in tensors]


@lru_cache
def trained_plainly(pattern: Pattern) -> tuple[dict[str, Tensor], Tensor]:
    """Weights, and the loss of the first batch, without a method."""
    module = make_module(pattern)
    watcher = Watcher()
    make_trainer(watcher).fit(module, indexed(pattern.module.loader()))
    return module.state_dict(), watcher.losses[0]


def fit(pattern: Pattern, method: str, **options: Any) -> tuple[Any, Watcher, modules.Project]:
    module = make_module(pattern)
    callback = METHODS[method](**pattern.options)
    watcher = Watcher()
    make_trainer(watcher, callback, **options).fit(module, indexed(pattern.module.loader()))
    return callback, watcher, module


def check_elr(pattern: Pattern, callback: ELR, watcher: Watcher) -> None:
    """The table has a row for every sample, and no row is as it was."""
    rows = callback.targets.rows
    num_classes = 2 if issubclass(pattern.module, modules.Binary) else modules.NUM_CLASSES
    assert rows.shape == (NUM_SAMPLES, num_classes)
    torch.testing.assert_close(rows.sum(1), torch.full((NUM_SAMPLES,), 1 - 0.7 ** (3 * pattern.steps_per_batch)))


def check_sop(pattern: Pattern, callback: SOP, watcher: Watcher) -> None:
    """The tables have a row for every sample, and most of them have moved from their first values."""
    num_classes = 2 if issubclass(pattern.module, modules.Binary) else modules.NUM_CLASSES
    assert callback.v.rows.shape == (NUM_SAMPLES, num_classes)
    first_values = 1e-8 * torch.randn(NUM_SAMPLES, 1, generator=torch.Generator().manual_seed(0))
    assert (callback.u.rows != first_values).double().mean() > 0.9


def check_crust(pattern: Pattern, callback: Crust, watcher: Watcher) -> None:
    """After the warm-up an epoch is as long as its selection; mixing changes the inputs."""
    assert watcher.steps[0] == NUM_SAMPLES / BATCH_SIZE
    assert 0 < len(callback.selection.indices) <= NUM_SAMPLES / 2
    assert watcher.steps[2] == -(-len(callback.selection.indices) // BATCH_SIZE)
    assert (watcher.num_changed_inputs > 0) == (callback.partner != "none")


def check_filter(pattern: Pattern, callback: Any, watcher: Watcher) -> None:
    """Every batch drops its share."""
    assert len(watcher.kept) == 3 * NUM_SAMPLES / BATCH_SIZE
    for kept in watcher.kept:
        assert kept.sum() == (1 - FORGET_RATE) * BATCH_SIZE


def check_gce(pattern: Pattern, callback: RobustLoss, watcher: Watcher) -> None:
    """The loss is bounded as GCE is, by 1 / q, and is not the one without it."""
    first_loss = watcher.losses[0]
    assert first_loss != trained_plainly(pattern)[1]
    if "Mixup" not in pattern.name:
        assert 0 < first_loss < 1 / 0.7 + 0.3  # another head may add its part


def check_truncated_gce(pattern: Pattern, callback: TruncatedGCE, watcher: Watcher) -> None:
    """The table says for each sample whether it is trained on, and the first epoch trains by GCE on all of them."""
    assert callback.kept.rows.shape == (NUM_SAMPLES,)
    assert callback.kept.num_writes == 2 * pattern.steps_per_batch * NUM_SAMPLES / BATCH_SIZE
    check_gce(pattern, callback, watcher)


def check_mixup(pattern: Pattern, callback: Mixup, watcher: Watcher) -> None:
    """Every batch has other inputs than the loader's, for the time of its step."""
    assert watcher.num_changed_inputs == 3 * NUM_SAMPLES / BATCH_SIZE
    assert watcher.losses[0] != trained_plainly(pattern)[1]


CHECKS: dict[type, Any] = {
    ELR: check_elr,
    SOP: check_sop,
    Crust: check_crust,
    PRLLossLayer: check_filter,
    PRLGradient: check_filter,
    SPL: check_filter,
    TruncatedGCE: check_truncated_gce,
    Mixup: check_mixup,
    RobustLoss: check_gce,
}
WORKING = [(pattern, method) for pattern in PATTERNS for method in METHODS if method not in pattern.refusals]
REFUSED = [(pattern, method) for pattern in PATTERNS for method in pattern.refusals]


def ids(pairs: list[tuple[Pattern, str]]) -> list[str]:
    return [f"{pattern.name}-{method}" for pattern, method in pairs]


@pytest.mark.parametrize(("pattern", "method"), WORKING, ids=ids(WORKING))
def test_it_acts(pattern: Pattern, method: str) -> None:
    callback, watcher, module = fit(pattern, method)
    CHECKS[type(callback)](pattern, callback, watcher)
    plain = trained_plainly(pattern)[0]
    trained = module.state_dict()
    assert trained.keys() == plain.keys()
    assert any(not torch.equal(trained[name], plain[name]) for name in plain)
    assert all(values.isfinite().all() for values in trained.values())


@pytest.mark.parametrize("fast_dev_run", [False, True], ids=["fit", "fast_dev_run"])
@pytest.mark.parametrize(("pattern", "method"), REFUSED, ids=ids(REFUSED))
def test_it_is_refused_before_the_first_step(pattern: Pattern, method: str, fast_dev_run: bool) -> None:
    module = make_module(pattern)
    before = {name: values.clone() for name, values in module.state_dict().items()}
    trainer = make_trainer(METHODS[method](**pattern.options), fast_dev_run=fast_dev_run)
    with pytest.raises((TypeError, ValueError)) as error:
        trainer.fit(module, indexed(pattern.module.loader()))
    message = str(error.value)
    assert re.search(pattern.refusals[method].message, message), message
    assert "\n" not in message
    assert trainer.global_step == 0
    if pattern.module is not modules.SharpnessAware:  # which has climbed already
        assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())


UNINDEXED = ("PRLLossLayer", "PRLGradient", "SPL", "RobustLoss(GCELoss())")


@pytest.mark.parametrize("method", UNINDEXED)
@pytest.mark.parametrize("module", [modules.FunctionalLoss, modules.ImageDict, modules.GraphClassifier])
def test_indexed_is_not_asked_for_where_it_is_not_needed(module: type[modules.Project], method: str) -> None:
    states = []
    for callbacks in ([], [METHODS[method]()]):
        pattern = Pattern(module, "")
        example = make_module(pattern)
        torch.manual_seed(1)
        make_trainer(*callbacks, max_epochs=1).fit(example, module.loader())
        states.append(example.state_dict())
    assert any(not torch.equal(values, states[1][name]) for name, values in states[0].items())


@pytest.mark.parametrize("method", ["ELR", "Crust"])
def test_indexed_is_asked_for_before_the_first_step(method: str) -> None:
    trainer = make_trainer(METHODS[method]())
    with pytest.raises(TypeError, match=r"without sample positions.*trainer.fit\(module, noisylabels_pl.indexed"):
        trainer.fit(modules.ImageDict(), modules.ImageDict.loader())
    assert trainer.global_step == 0


def test_elr_sees_the_scaled_logits_that_the_loss_sees() -> None:
    torch.manual_seed(0)
    module = modules.CosineHead()
    module.lr = 1.0
    elr = ELR(beta=0.0)
    make_trainer(elr, max_epochs=8).fit(module, indexed(modules.CosineHead.loader()))
    # Cosines lie in [-1, 1], so that ten of them give no probability above e / (e + 9 / e).
    assert elr.targets.rows.max() > 0.9


@pytest.mark.parametrize("method", [method for method in METHODS if method != "Crust without mixing"])
def test_a_named_criterion_that_is_replaced_is_noticed(method: str) -> None:
    trainer = make_trainer(METHODS[method](criterion="criterion"))
    with pytest.raises(TypeError, match=r"replaced its criterion during the fit.*make all criteria in __init__"):
        trainer.fit(modules.ReplacedCriterion(), indexed(modules.ReplacedCriterion.loader()))
    assert trainer.current_epoch == 1


def test_manual_optimization_without_a_loss_is_noticed_after_an_epoch() -> None:
    class ManualFormula(modules.TwoOptimizers):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            x, y = batch
            self.manual_backward(-self(x).log_softmax(1).gather(1, y.unsqueeze(1)).mean())
            for optimizer in self.optimizers():
                optimizer.step()

    for options in ({}, {"fast_dev_run": True}):
        with pytest.raises(TypeError, match="computes no loss that RobustLoss"):
            make_trainer(RobustLoss(GCELoss()), **options).fit(ManualFormula(), ManualFormula.loader())


def test_scoring_does_not_augment_where_the_hook_asks_the_trainer() -> None:
    shifted: list[bool] = []

    class Recorded(modules.AugmentedInTraining):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            shifted.append(self.trainer.training and not self.training)
            return super().on_after_batch_transfer(batch, dataloader_idx)

    make_trainer(Crust(warmup_epochs=1)).fit(Recorded(), indexed(Recorded.loader()))
    assert shifted
    assert not any(shifted)


@pytest.mark.parametrize(
    "module", [modules.ImageDict, modules.MappedLabels, modules.OneHotLabels, modules.NormalizedAfterTransfer]
)
def test_crust_mixes_the_inputs_and_the_losses_of_both_labels(module: type[modules.Project]) -> None:
    crust = Crust(warmup_epochs=0)
    seen: list[tuple[Tensor, ...]] = []

    class Recorder(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            positions = positions_of(trainer, batch, batch_idx, required=True)
            inputs = batch["image"] if isinstance(batch, dict) else batch[0]
            with torch.no_grad():
                self.seen = positions.index, inputs.clone(), pl_module(inputs)

        def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
            seen.append((*self.seen, loss.detach()))

    example = make_module(Pattern(module, ""))
    loader = indexed(module.loader())
    make_trainer(crust, Recorder(), max_epochs=1).fit(example, loader)
    images = loader.dataset.images
    if module is modules.NormalizedAfterTransfer:
        images = (images * 16).to(torch.uint8).float() / 16
    labels = example.table[loader.dataset.observed] if module is modules.MappedLabels else loader.dataset.observed
    selection = crust.selection
    place = {position: row for row, position in enumerate(selection.indices.tolist())}
    assert seen
    for index, inputs, logits, loss in seen:
        rows = torch.tensor([place[position] for position in index.tolist()])
        partners = selection.partners[rows]
        lam = selection.lam[rows].masked_fill(partners == index, 1.0)
        mixed = lam.view(-1, 1, 1, 1) * images[index] + (1 - lam).view(-1, 1, 1, 1) * images[partners]
        torch.testing.assert_close(inputs, mixed)
        own = F.cross_entropy(logits, labels[index], reduction="none")
        others = F.cross_entropy(logits, labels[partners], reduction="none")
        torch.testing.assert_close(loss, (lam * own + (1 - lam) * others).mean())


def test_smoothed_binary_labels_are_trained_as_they_are() -> None:
    class Smoothed(modules.Binary):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return self.criterion(self(x).squeeze(1), 0.9 * y + 0.05)

    states = []
    for callbacks in ([], [SPL(0.0)]):
        module = make_module(Pattern(Smoothed, ""))
        make_trainer(*callbacks, max_epochs=1).fit(module, indexed(Smoothed.loader()))
        states.append(module.state_dict())
    for name, values in states[0].items():
        torch.testing.assert_close(values, states[1][name])
