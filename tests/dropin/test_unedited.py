"""A callback that changes nothing leaves no trace: the module trains, logs and counts as without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from noisylabels_pl import ELR, SPL, indexed
from noisylabels_pl.core import CriterionCallback, Needs, Scores, SelectionCallback
from noisylabels_pl.core.loss_call import ALL_KINDS
from noisylabels_pl.data import Batch, Positions, Selection
from tests.dropin import modules
from tests.dropin.patterns import PATTERNS, Pattern, make_module, make_trainer


class Nothing(CriterionCallback):
    """Changes nothing; the product is a new tensor, so that the loss is put together again."""

    needs = Needs(kinds=ALL_KINDS, positions=False)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        return losses * 1


class Protocol(L.Callback):
    """What can be seen of a run from outside."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.losses: list[Tensor] = []
        self.metric_states: list[Tensor] = []
        self.logged: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(structure(batch))

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
        self.losses.append(loss.detach().clone())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        for metric in pl_module.modules():
            if isinstance(metric, Metric):
                self.metric_states += [values.clone() for values in metric.metric_state.values()]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.logged.append({name: value.clone() for name, value in trainer.callback_metrics.items()})


def structure(batch: Any) -> Any:
    """Types and values of a batch."""
    if isinstance(batch, Tensor):
        return (batch.dtype, tuple(batch.shape), float(batch.double().sum()))
    if isinstance(batch, (str, int)):
        return batch
    if hasattr(batch, "items"):
        return (type(batch), [(key, structure(value)) for key, value in batch.items()])
    if isinstance(batch, (list, tuple)):
        return (type(batch), [structure(value) for value in batch])
    return (type(batch), [(key, structure(value)) for key, value in vars(batch).items()])


def run(pattern: Pattern, *callbacks: L.Callback) -> tuple[modules.Project, Protocol, list[Any]]:
    """Train, validate, test and predict."""
    module = make_module(pattern)
    protocol = Protocol()
    trainer = make_trainer(protocol, *callbacks, max_epochs=2, num_sanity_val_steps=1)
    torch.manual_seed(1)
    evaluation = pattern.module.loader("test", 64)
    trainer.fit(module, pattern.module.loader(), evaluation)
    if pattern.module is modules.Segmentation:
        return module, protocol, trainer.predict(module, evaluation)
    results = [trainer.validate(module, evaluation, verbose=False), trainer.test(module, evaluation, verbose=False)]
    return module, protocol, results + trainer.predict(module, evaluation)


REFUSED = ("AuxiliaryLoss", "LoggedCriterion", "OwnFormula", "LogsCrossEntropy")
UNREFUSED = [pattern for pattern in PATTERNS if pattern.name not in REFUSED]


@pytest.mark.parametrize("pattern", UNREFUSED, ids=lambda pattern: pattern.name)
def test_unedited_means_unedited(pattern: Pattern) -> None:
    plain, expected, expected_results = run(pattern)
    module, protocol, results = run(pattern, Nothing(**pattern.options))

    def check(actual: Tensor, wanted: Tensor) -> None:
        if pattern.is_exact:
            assert torch.equal(actual, wanted)
        else:
            torch.testing.assert_close(actual, wanted)

    assert protocol.batches == expected.batches
    assert list(module.state_dict()) == list(plain.state_dict())
    for name, values in plain.state_dict().items():
        check(module.state_dict()[name], values)
    assert len(protocol.metric_states) == len(expected.metric_states)
    for states in zip(protocol.metric_states, expected.metric_states, strict=True):
        check(*states)
    # The callback's sum may differ from torch's in the last bit; nothing else that is logged comes from it.
    torch.testing.assert_close(protocol.losses, expected.losses)
    assert len(protocol.logged) == len(expected.logged)
    for logged, wanted in zip(protocol.logged, expected.logged, strict=True):
        assert logged.keys() == wanted.keys()
        for name, value in wanted.items():
            is_loss = name.startswith("train_loss") or name in ("train/nll", "train/plain")
            compare = torch.testing.assert_close if is_loss else check
            compare(logged[name], value)
    for result, wanted in zip(results, expected_results, strict=True):
        if isinstance(wanted, Tensor):
            check(result, wanted)
        else:
            assert result == wanted
    assert not hooks_of(module)
    assert not callbacks_left(module)


def hooks_of(module: modules.Project) -> list[Any]:
    hooks = [(child._forward_hooks, child._forward_pre_hooks) for child in module.modules()]
    return [pair for pair in hooks if pair[0] or pair[1]]


def callbacks_left(module: modules.Project) -> list[str]:
    """Names that a callback set on the instance."""
    return [name for name in ("log", "training_step", "train_dataloader") if name in vars(module)]


@pytest.mark.parametrize("name", REFUSED)
def test_the_same_modules_are_refused_with_a_callback_that_does_nothing(name: str) -> None:
    pattern = next(pattern for pattern in PATTERNS if pattern.name == name)
    with pytest.raises((TypeError, ValueError)):
        run(pattern, Nothing())


class CountsBeforeItsLoss(modules.FunctionalLoss):
    """Everything that leaves a trace, before the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, torch.nn.BatchNorm1d(64))
        self.num_logs = 0

    def log(self, name: str, *args: Any, **options: Any) -> None:
        self.num_logs += not name.startswith("selection/")
        super().log(name, *args, **options)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("mean_input", batch[0].mean())
        return super().training_step(batch, batch_idx)


class Everything(SelectionCallback):
    """Selects all samples, in their order, after a pass over them."""

    needs = replace(SelectionCallback.needs, criterion=False)

    def __init__(self) -> None:
        super().__init__(warmup_epochs=0)

    def select(self, module: L.LightningModule, scores: Scores, epoch: int) -> Selection:
        return Selection(torch.arange(len(scores.targets)))


@pytest.mark.parametrize(
    "callback", [Everything, lambda: SPL(0.0, second_forward=True)], ids=["selection", "second forward pass"]
)
def test_scoring_leaves_no_trace(callback: Any) -> None:
    """A selection of everything, and a filter that drops nothing, run the step to score; training is as without."""

    def train(*callbacks: L.Callback) -> tuple[CountsBeforeItsLoss, Protocol]:
        torch.manual_seed(0)
        module = CountsBeforeItsLoss()
        protocol = Protocol()
        make_trainer(protocol, *callbacks).fit(module, indexed(module.loader()))
        return module, protocol

    plain, expected = train()
    module, protocol = train(callback())
    assert module.num_logs == plain.num_logs
    torch.testing.assert_close(protocol.metric_states, expected.metric_states)
    assert protocol.logged[-1]["train_acc"] == expected.logged[-1]["train_acc"]
    running = [name for name in plain.state_dict() if "num_batches" in name]
    assert running
    if callback is Everything:  # a filter scores in training mode, as its documentation says
        for name, values in plain.state_dict().items():
            assert torch.equal(module.state_dict()[name], values)


def test_hooks_are_removed_after_an_exception() -> None:
    module = modules.ImageDict()
    with pytest.raises(TypeError, match="without sample positions"):
        make_trainer(ELR()).fit(module, module.loader())
    assert not hooks_of(module)
    assert torch._C._len_torch_function_stack() == 0


def test_a_loss_outside_of_the_step_is_left_alone() -> None:
    """The mode ends with the step: a loss in a hook of the module is as torch computes it."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Hooked(modules.FunctionalLoss):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            logits = torch.eye(10)
            loss = torch.nn.functional.cross_entropy(logits.requires_grad_(), torch.arange(10))
            seen.append((loss, -logits.log_softmax(1).diagonal().mean()))

    class Double(Nothing):
        def adjust_losses(self, losses: Tensor, *args: Any) -> Tensor:
            return 2 * losses

    make_trainer(Double(), max_epochs=1).fit(Hooked(), Hooked.loader())
    assert seen
    for loss, wanted in seen:
        torch.testing.assert_close(loss, wanted)
