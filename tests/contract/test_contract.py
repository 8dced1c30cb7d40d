"""What every method owes its users, checked for each file of ``conf/method`` without a line of its own.

One method of each mechanism runs by default, all with ``-m ''``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from experiments.reliability.compare import differences
from noisylabels_pl import indexed
from noisylabels_pl.core import CriterionCallback, SelectionCallback, StagedMethod, bad_samples
from noisylabels_pl.data import LabelNoise, Noise
from tests.helpers import Recorder, WithCriterion, foreign_loader, options

from .methods import (
    EPOCHS,
    NEEDED,
    SAMPLES,
    STATE,
    as_callbacks,
    assert_same,
    composed_method,
    make,
    mechanism,
    one_of_each_mechanism,
    run,
    state,
    without_times,
)

Make = Callable[..., Any]
every_method = pytest.mark.parametrize("method", one_of_each_mechanism())


def raw(config: DictConfig) -> Any:
    """With interpolations as they are written: some noise has no rate."""
    return OmegaConf.to_container(config, resolve=False)


@every_method
def test_it_composes_with_every_dataset_and_noise(method: str) -> None:
    plain = raw(composed_method(method).method)
    for group in ("data", "noise"):  # which do not know of each other
        for name in options(group):
            config = composed_method(method, f"{group}={name}")
            assert raw(config.method) == plain
            if name not in ("confusions", "file", "matrix", "twin"):  # which need a file or a matrix
                assert isinstance(instantiate(config.noise, _convert_="all"), Noise)


@every_method
def test_worker_processes_change_nothing(method: str, plain_record: Make, tmp_path: Path) -> None:
    plain = plain_record(method)
    recorder = Recorder()
    experiment = run(method, tmp_path, "data.num_workers=2", callbacks=[recorder])
    assert_same(state(experiment), {key: plain[key] for key in STATE})
    assert_same([recorder.visited, recorder.validated], [plain["visited"], plain["validated"]])
    assert recorder.validated[-EPOCHS:] == list(range(EPOCHS))
    assert torch.tensor(experiment.history.column("train/loss")).isfinite().all()


@every_method
@pytest.mark.parametrize("when", ["at the epoch's end", "after validation"])
def test_resumed_equals_uninterrupted(method: str, when: str, plain_record: Make, interrupted_run: Make) -> None:
    if when == "after validation" and isinstance(make(method), StagedMethod):
        pytest.skip("a staged run resumes from its own last.ckpt, which is written at the epoch's end")
    whole = plain_record(method)
    folder = interrupted_run(method)
    # Workers prefetch, so a wrong order of the first batches would show.
    recorder = Recorder()
    resume = "auto" if when == "at the epoch's end" else folder / "validated.ckpt"
    resumed = run(method, folder / "run", f"resume={resume}", "data.num_workers=2", callbacks=[recorder])
    if when == "after validation":
        # Lightning does not save what it had averaged of the epoch's steps.
        rows = whole["callbacks"]["History"]["rows"]
        expected, row = rows[6], resumed.history.rows[6]
        rows[6] = {name: value for name, value in expected.items() if name in row}
        logged = {name for name in expected if name.startswith(("val/", "test/")) or name == "train/memorized"}
        assert {"epoch", "step", "seconds", "val/loss"} | logged <= row.keys()
    assert_same(state(resumed), {key: whole[key] for key in STATE})
    for epoch in (7, 8):
        assert recorder.visited[epoch] == whole["visited"][epoch]
    if when == "at the epoch's end":
        # The interrupted run had one callback more, whose state is in the checkpoint of a stage that was finished.
        ignored = ["num_workers", ModelCheckpoint(mode="max").state_key]
        assert differences(whole["folder"], folder / "run", ignored) == []


@every_method
def test_resumed_in_the_middle_of_an_epoch_equals_uninterrupted(
    method: str, plain_record: Make, interrupted_run: Make
) -> None:
    if isinstance(make(method), StagedMethod):
        pytest.skip("a staged run resumes from its own last.ckpt, which is written at the epoch's end")
    whole = plain_record(method)
    folder = interrupted_run(method)
    recorder = Recorder()
    resume = f"resume={folder / 'middle.ckpt'}"
    resumed = run(method, folder / "run", resume, "data.num_workers=2", callbacks=[recorder])
    # What is averaged over the steps of epoch 7 lacks the first of them.
    of_steps = ("train/loss", "selection/")
    rows = [whole["callbacks"]["History"]["rows"], resumed.history.rows]
    for row in (rows[0][7], rows[1][7]):
        for name in [name for name in row if name.startswith(of_steps)]:
            del row[name]
    assert_same(state(resumed), {key: whole[key] for key in STATE})
    assert recorder.batches == {7: whole["batches"][7] - 1, 8: whole["batches"][8]}
    assert recorder.visited[8] == whole["visited"][8]
    assert recorder.visited[7] == whole["visited"][7][-len(recorder.visited[7]) :]
    assert recorder.given[7] == whole["given"][7]


@every_method
def test_clean_labels_are_never_read(
    method: str, plain_record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = plain_record(method)
    apply = LabelNoise.apply

    def garbage(self: LabelNoise, *args: Any, **kwargs: Any) -> Any:
        labels = apply(self, *args, **kwargs)
        args[0].random_(0, 10, generator=torch.Generator().manual_seed(1))  # the dataset's own labels
        labels.clean.copy_(args[0])
        return labels

    monkeypatch.setattr(LabelNoise, "apply", garbage)
    blind = run(method, tmp_path)
    assert not torch.equal(blind.datamodule.clean_targets, plain["clean_targets"])
    left = [state(blind), {key: plain[key] for key in STATE}]
    for either in left:
        del either["callbacks"]["History"]  # whose memorization is measured by clean labels
    assert_same(*left)


class Watch(L.Callback):
    """How far plain SGD went in its longest step, the optimizer's steps by epoch, and how often a callback acted."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.longest, self.steps, self.adjusted = 0.0, dict[int, int](), 0
        self.before: dict[str, Tensor] = {}
        for callback in trainer.callbacks:
            if isinstance(callback, CriterionCallback):
                callback.adjust_losses = self.counted(callback.adjust_losses)

    def counted(self, adjust: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapped(*args: Any) -> Tensor:
            self.adjusted += 1
            return adjust(*args)

        return wrapped

    def on_before_zero_grad(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        now = {name: value.detach().clone() for name, value in module.named_parameters()}
        for half in ("net.first", "net.second") if hasattr(module.net, "first") else ("",):
            parts = [now[name] - value for name, value in self.before.items() if name.startswith(half)]
            if parts:
                self.longest = max(self.longest, float(torch.cat([part.flatten() for part in parts]).norm()))
        self.before = now

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.steps[trainer.current_epoch] = trainer.global_step - sum(self.steps.values())


# Options of the Trainer, and how many batches of so many they leave to an epoch.
TRAINER: dict[str, Callable[[int], int]] = {
    "precision=bf16-mixed": lambda batches: batches,
    "accumulate_grad_batches=2": lambda batches: batches,
    "gradient_clip_val=0.01": lambda batches: batches,
    "limit_train_batches=2": lambda batches: min(2, batches),
    "limit_train_batches=0.5": lambda batches: batches // 2,
    "overfit_batches=2": lambda batches: 2,
    "fast_dev_run=true": lambda batches: 1,
}


@every_method
@pytest.mark.parametrize("option", TRAINER)
def test_options_of_the_trainer(method: str, option: str, tmp_path: Path) -> None:
    overrides = ("optim=sgd", "optim.lr=0.1", f"++trainer.{option}")
    made = make(method)
    chooses = isinstance(made, SelectionCallback)
    acts = isinstance(made, CriterionCallback) and made.needs.criterion
    if option == "overfit_batches=2" and chooses:
        with pytest.raises(ValueError, match=r"with overfit_batches .*; use limit_train_batches"):
            run(method, tmp_path, *overrides)
        return
    recorder, watch = Recorder(), Watch()
    experiment = run(method, tmp_path, *overrides, callbacks=[recorder, watch])
    visits = 0
    for epoch, given in recorder.given.items():
        batches = TRAINER[option](-(-len(given) // 32))
        assert recorder.batches[epoch] == batches
        assert watch.steps[epoch] == (-(-batches // 2) if "accumulate" in option else batches)
        visits += batches
    if "fast" not in option:
        assert list(recorder.given) == recorder.validated[-EPOCHS:] == list(range(EPOCHS))
        assert chooses == (len(given) < SAMPLES)  # still in the last epoch
    if acts:
        assert watch.adjusted >= visits
    assert torch.tensor(experiment.history.column("train/loss")).isfinite().all()
    assert {parameter.dtype for parameter in experiment.module.parameters()} == {torch.float32}
    if "clip" in option:
        assert 0.5e-3 < watch.longest <= 1.0001e-3  # lr times the norm


def fit_foreign(method: str, digits: Make, make_trainer: Make, **options: Any) -> tuple[Any, Any, L.Trainer]:
    torch.manual_seed(0)
    module, loader = options.pop("module", WithCriterion)(), indexed(foreign_loader(digits()), as_batches=True)
    val, wrap = options.pop("val", None), options.pop("wrap", lambda module: module)
    trainer = make_trainer(*options.pop("callbacks", as_callbacks(method)), **({"max_epochs": 7} | options))
    trainer.fit(wrap(module), loader, val)
    return module, loader, trainer


def hooks(module: torch.nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return [hook for child in module.modules() for kind in kinds for hook in getattr(child, kind).values()]


def assert_untouched(module: Any, loader: Any, trainer: L.Trainer, plain: Any) -> None:
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert vars(module).keys() == vars(plain).keys()
    assert dict(module.named_modules()).keys() == dict(plain.named_modules()).keys()
    assert module.criterion.reduction == "mean"
    assert not hooks(module)
    assert loader.sampler.selection is None
    assert trainer.reload_dataloaders_every_n_epochs == 0


class SeesKeys(L.Callback):
    """The keys that a checkpoint in the middle of training would have."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.keys = pl_module.state_dict().keys()


@every_method
def test_a_foreign_module_is_left_as_it_was(method: str, digits: Make, make_trainer: Make) -> None:
    callbacks = as_callbacks(method)
    plain, _, _ = fit_foreign(method, digits, make_trainer, callbacks=[])
    during = SeesKeys()
    once = fit_foreign(method, digits, make_trainer, callbacks=[*callbacks, during])
    again = fit_foreign(method, digits, make_trainer, callbacks=callbacks)  # nothing is left of the first fit
    assert during.keys == plain.state_dict().keys()
    for fitted in (once, again):
        assert_untouched(*fitted, plain)
    assert_same(again[0].state_dict(), once[0].state_dict())


@every_method
def test_a_foreign_module_that_fails_is_left_as_it_was(method: str, digits: Make, make_trainer: Make) -> None:
    class Fails(WithCriterion):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            failed.append(self)
            if self.trainer.current_epoch == 5 and batch_idx == 1:
                raise KeyError("in the step")
            return super().training_step(batch, batch_idx)

    failed: list[Any] = []
    callbacks = as_callbacks(method)
    loader = indexed(foreign_loader(digits()), as_batches=True)
    trainer = make_trainer(*callbacks, max_epochs=7)
    with pytest.raises(KeyError, match="in the step"):
        trainer.fit(Fails(), loader)
    plain, _, _ = fit_foreign(method, digits, make_trainer, callbacks=[])
    assert_untouched(failed[0], loader, trainer, plain)


@every_method
def test_it_trains_on_something_else_than_the_modules_own_loss(method: str, digits: Make, make_trainer: Make) -> None:
    callbacks = as_callbacks(method)
    if method in ("ce", "label_wave"):
        pytest.skip("is what the module does by itself")
    plain, _, _ = fit_foreign(method, digits, make_trainer, callbacks=[])
    module, _, _ = fit_foreign(method, digits, make_trainer, callbacks=callbacks)
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))


class Plain(WithCriterion):
    """Does nothing else in its step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y)


@every_method
def test_a_compiled_module_trains_the_same(method: str, digits: Make, make_trainer: Make) -> None:
    """What was compiled without the callback, or with it, must not be used again for a fit of the other kind."""

    def compiled(module: Any) -> Any:
        return torch.compile(module, backend="eager")

    for callbacks in ([], as_callbacks(method), []):
        runs = [
            fit_foreign(method, digits, make_trainer, module=Plain, callbacks=callbacks, wrap=wrap)[0].state_dict()
            for wrap in (lambda module: module, compiled)
        ]
        assert_same(*runs)


class Compiled(L.Callback):
    """How many graphs torch.compile has made, by epoch."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        torch.compiler.reset()
        counters.clear()
        self.graphs: list[int] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.graphs.append(counters["stats"]["unique_graphs"])

    def assert_once(self) -> None:
        """Not in each of the last 20 steps."""
        assert self.graphs[-1] > 0
        assert self.graphs[-4:] == [self.graphs[-1]] * 4


@every_method
def test_a_compiled_module_is_compiled_once(method: str, digits: Make, make_trainer: Make) -> None:
    compiled = Compiled()
    callbacks = [*as_callbacks(method), compiled]
    fit_foreign(
        method,
        digits,
        make_trainer,
        module=Plain,
        callbacks=callbacks,
        max_epochs=9,
        wrap=lambda module: torch.compile(module, backend="eager"),
    )
    compiled.assert_once()


@every_method
def test_evaluation_is_not_touched(method: str, digits: Make, make_trainer: Make) -> None:
    class Evaluates(WithCriterion):
        """Does not learn, and keeps what evaluation computes."""

        lr = 0.0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            seen.append((batch, self.criterion(self(x), y), self.training))

        test_step = validation_step

        def predict_step(self, batch: Any, batch_idx: int) -> None:
            self.validation_step(batch, batch_idx)

    # With positions, which must not be taken for the training set's.
    evaluation = indexed(foreign_loader(digits()), as_batches=True)
    seen: list[Any] = []
    module, _, trainer = fit_foreign(
        method, digits, make_trainer, module=Evaluates, val_check_interval=0.5, val=evaluation
    )
    assert len(seen) >= 2 * 7 * len(evaluation)
    fitted = len(seen)
    for evaluate in (trainer.validate, trainer.test, trainer.predict):
        evaluate(module, evaluation)
    assert len(seen) == fitted + 3 * len(evaluation)
    x, y = evaluation.dataset.dataset.tensors
    with torch.no_grad():
        for batch, loss, training in seen:
            assert not training
            assert torch.equal(batch.x, x[batch.index])
            assert torch.equal(batch.y, y[batch.index])
            torch.testing.assert_close(loss, F.cross_entropy(module(batch.x), batch.y))


@every_method
def test_weight_averaging_before_and_after(method: str, digits: Make, make_trainer: Make) -> None:
    """It deep-copies the module, swaps weights for validation, and leaves averages behind."""
    runs = []
    for order in (1, -1, 0):
        callbacks = as_callbacks(method)
        averaging = [EMAWeightAveraging(decay=0.9)] if order else []
        options: dict[str, Any] = {"callbacks": [*callbacks, *averaging][:: order or 1]}
        module, _, _ = fit_foreign(method, digits, make_trainer, val=foreign_loader(digits()), **options)
        assert not hooks(module)
        runs.append((module.state_dict(), without_times(callbacks[0].state_dict())))
    assert_same(runs[0], runs[1])
    assert_same(runs[0][1], runs[2][1])  # training goes on with the weights that are not averaged
    assert any(not torch.equal(value, runs[2][0][name]) for name, value in runs[0][0].items())


@every_method
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_schedulers_of_a_foreign_module(method: str, interval: str, digits: Make, make_trainer: Make) -> None:
    class Scheduled(WithCriterion):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    _, _, trainer = fit_foreign(method, digits, make_trainer, module=Scheduled)
    expected = 7 if interval == "epoch" else trainer.global_step
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == expected


@every_method
def test_half_precision_channels_last_and_compiled(method: str, tmp_path: Path) -> None:
    """The options for speed, together."""
    compiled = Compiled()
    options = ("channels_last=true", "compile=aot_eager", "trainer.precision=bf16-mixed")
    net = () if method in NEEDED and "data=diabetes" in NEEDED[method] else ("net=small_cnn",)
    without_batchnorm = ("method.convert_batchnorm=true",) if "norms" in mechanism(make(method)) else ()
    experiment = run(method, tmp_path, *options, *net, *without_batchnorm, callbacks=[compiled])
    assert torch.tensor(experiment.history.column("train/loss")).isfinite().all()
    weights = [parameter for parameter in experiment.module.parameters() if parameter.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert len(weights) > 0 or not net
    compiled.assert_once()


class Waits(L.Callback):
    """How often two steps in the middle of an epoch ask for a number that a device may still be computing."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == EPOCHS - 1 and batch_idx == 1:
            self.profile = profile(activities=[ProfilerActivity.CPU])
            self.profile.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == EPOCHS - 1 and batch_idx == 2:
            self.profile.stop()
            self.names = [event.name for event in self.profile.events()]


@every_method
def test_a_step_does_not_wait_for_the_device(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for logging nor for choosing samples nor for finding those that are not finite."""
    monkeypatch.setattr(bad_samples, "reading_waits", lambda device: True)  # as on a GPU
    waits = Waits()
    experiment = run(method, tmp_path, "data.resident=true", callbacks=[waits])
    assert "aten::add_" in waits.names  # so that the profiler saw the steps
    found = Counter(name for name in waits.names if name in ("aten::_local_scalar_dense", "aten::nonzero"))
    if "norms" in mechanism(make(method)):
        assert found.pop("aten::nonzero") <= 2  # once a step, where the kept samples' gradients are put together
    if any(getattr(part, "tables", None) for part in (experiment.module, *experiment.trainer.callbacks)):
        del found["aten::_local_scalar_dense"]  # positions are checked where that waits for nothing, on the CPU
    assert not found
