"""Every method of ``conf/method``, a toy for each mechanism that has none there, and small runs on real data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from noisylabels_pl.cli.train import Experiment, train
from noisylabels_pl.core import (
    CriterionCallback,
    FilterCallback,
    GradientCallback,
    RobustLoss,
    SelectionCallback,
    StagedMethod,
)
from tests.helpers import Recorder, composed, options

# 192 training samples are 6 batches; CRUST selects from epoch 5 and mixes in one variant from epoch 6 on.
SMALL = (
    "trainer=cpu",
    "logger=none",
    "data.train_size=240",
    "data.val_fraction=0.2",
    "optim=sgd_momentum",
    "schedule=multistep",
    "schedule.milestones=[3,7]",
    "trainer.max_epochs=9",
)
EPOCHS, SAMPLES = 9, 192


# An estimate of T from 192 samples may be singular, which the backward correction refuses unless told what to do.
NEEDED = dict.fromkeys(("backward", "backward_paper"), ("method.mix=0.5",))
# So that samples are left out within the few epochs.
NEEDED |= {"gce_truncated": ("method.start_epoch=3", "method.every=2")}
# The second stage's learning rate is that of the run, and its loss has gradients after a short first stage, too.
NEEDED |= {"l_dmi": ("method.lr=null", "method.eps=1.0e-12")}
# Losses of real numbers.
NEEDED |= dict.fromkeys(("mse", "huber"), ("data=diabetes", "data.batch_size=32"))
# May stop a fit of so few epochs.
NEEDED["label_wave"] = ("method.patience=9",)
# Else they would do nothing of their own in so few epochs.
NEEDED |= dict.fromkeys(("co_teaching_plus", "co_teaching_plus_released"), ("method.init_epochs=4",))
NEEDED["mentornet"] = ("method.burn_in_epochs=4",)
TOYS = Path(__file__).parent / "conf"


def composed_method(name: str, *overrides: str) -> DictConfig:
    """The configuration of a run, where ``name`` may also be one of the toys."""
    return composed(f"hydra.searchpath=[file://{TOYS}]", f"method={name}", *overrides)


def make(name: str) -> Any:
    """The method as its YAML has it."""
    return instantiate(composed_method(name).method, _convert_="all")


def depends_on_batch(name: str) -> bool:
    """Whether two processes need not agree with one."""
    method = make(name)
    if isinstance(method, partial):
        return method.func.depends_on_batch or method.keywords.get("scope") == "rank"
    return getattr(getattr(method, "needs", method), "depends_on_batch", False)


def cuts_batches(name: str) -> bool:
    """Whether the training step sees some samples of a batch only."""
    method = make(name)
    return isinstance(method, FilterCallback) and method.filter.uses_second_forward(EPOCHS, SAMPLES)


def mechanism(method: Any) -> str:
    """Methods of one mechanism share their code paths through ``core/``."""
    if isinstance(method, partial):
        return "twin"
    for kind in (StagedMethod, SelectionCallback, GradientCallback, CriterionCallback):
        if isinstance(method, kind):
            tables, norms = getattr(method, "tables", None), kind is GradientCallback and method.needs.gradient_norms
            return kind.__name__ + " with tables" * bool(tables) + " and norms" * norms
    if isinstance(method, L.Callback):
        return "Callback"
    return "robust loss" if type(method).__module__.startswith("noisylabels_pl") else "torch's loss"


def one_of_each_mechanism() -> list[Any]:
    """All methods, then the toys; all but the first of every mechanism are marked slow."""
    seen: set[str] = set()
    params = []
    for name in options("method") + sorted(path.stem for path in TOYS.rglob("*.yaml")):
        kind = mechanism(make(name))
        params.append(pytest.param(name, marks=[pytest.mark.slow] if kind in seen else []))
        seen.add(kind)
    return params


def run(method: str, folder: Path, *overrides: str, callbacks: Sequence[L.Callback] = ()) -> Experiment:
    """A small run, as the command line makes it."""
    config = composed_method(method, *NEEDED.get(method, ()), *SMALL, *overrides)
    resume, config.resume = config.resume, None
    return train(config, folder, callbacks, resume=resume)


def as_callbacks(name: str) -> list[L.Callback]:
    """The method for somebody else's module; skips methods that are modules themselves."""
    method = make(name)
    if "data=diabetes" in NEEDED.get(name, ()):
        pytest.skip("a loss of real numbers; the module of these tests tells classes apart")
    if isinstance(method, nn.Module):
        return [RobustLoss(method)]
    if not isinstance(method, L.Callback):
        pytest.skip("not a callback or a loss: it brings its own module")
    return [method]


# The keys of `state`.
STATE = ("weights", "optimizers", "schedulers", "callbacks", "tables", "steps")


def state(experiment: Experiment) -> dict[str, Any]:
    """All that a run leaves behind, but for times and for where files lie."""
    trainer = experiment.trainer
    left = {
        "weights": experiment.module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "callbacks": {
            type(callback).__name__: callback.state_dict()
            for callback in trainer.callbacks
            if type(callback).__module__.startswith("noisylabels_pl")
        },
        "tables": getattr(experiment.module, "tables", {}) and experiment.module.tables.state_dict(),
        "steps": trainer.global_step,
    }
    return without_times(left)


def record(method: str, folder: Path, *overrides: str) -> dict[str, Any]:
    """A small run: what it leaves behind, what it visited, and how it went."""
    recorder = Recorder()
    experiment = run(method, folder, *overrides, callbacks=[recorder])
    return {
        **state(experiment),
        **vars(recorder),
        "history": experiment.history.columns(),
        "clean_targets": experiment.datamodule.clean_targets,
        "rank": experiment.trainer.global_rank,
        "folder": folder,
    }


def without_times(value: Any) -> Any:
    """The same without ``seconds`` and ``..._s``."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not (k == "seconds" or str(k).endswith("_s"))}
    return [without_times(item) for item in value] if isinstance(value, (list, tuple)) else value


def assert_same(a: Any, b: Any, where: str = "state") -> None:
    """Equal, bit for bit."""
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor), where
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key, value in a.items():
            assert_same(value, b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{where}[{i}]")
    else:
        assert a == b or (a != a and b != b), f"{where}: {a} is not {b}"
