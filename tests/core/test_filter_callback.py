"""A filter as a callback: ramps, second forward passes, and the samples that it leaves in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from noisylabels_pl import PRLLossLayer, indexed
from noisylabels_pl.callbacks import LabelQuality
from tests.core.filter_helpers import Make, Plain, RecordsPasses, fit, loader_of, problem


class CountsKept(L.Callback):
    """Counts the kept samples of each batch."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, int]] = []  # epoch, kept samples

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.counted.append((trainer.current_epoch, int(batch.kept[0].sum())))


@pytest.mark.parametrize(("schedule", "kept"), [("paper", [18, 16, 14, 12, 12]), ("released", [17, 14, 12, 12, 12])])
def test_the_ramp(schedule: Any, kept: list[int], digits: Make, classifier: Make, make_trainer: Make) -> None:
    counts, method = CountsKept(), PRLLossLayer(0.4, ramp_epochs=4, schedule=schedule)
    datamodule = digits(batch_size=20, val_fraction=0, train_size=200)
    make_trainer(method, counts, max_epochs=5).fit(classifier(), datamodule=datamodule)
    assert list(dict(counts.counted).values()) == kept


def test_a_resume_in_the_middle_of_an_epoch_keeps_the_ramp(
    digits: Make, classifier: Make, make_trainer: Make, tmp_path: Path
) -> None:
    datamodule = digits(batch_size=20, val_fraction=0, train_size=200)
    observed = datamodule.labels.observed[datamodule.train_indices]
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=13, save_top_k=-1, filename="{step}")
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}
    for checkpoint in (None, tmp_path / "step=13.ckpt"):
        counts, method = CountsKept(), PRLLossLayer(0.4, ramp_epochs=4)
        quality = LabelQuality(datamodule.clean_targets, observed)
        trainer = make_trainer(method, quality, counts, *[saved][: checkpoint is None], **options)
        trainer.fit(classifier(), datamodule=datamodule, ckpt_path=checkpoint)
    assert counts.counted == [(1, 16)] * 7
    assert "selection/precision" not in trainer.callback_metrics  # of a part of an epoch


def test_the_precision_of_a_second_forward_pass_is_that_of_the_kept(
    digits: Make, classifier: Make, make_trainer: Make
) -> None:
    class RecordsVisits(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
            assert batch.kept[0].all()
            assert len(batch.x) == len(batch.y) == len(batch.index) == len(batch.kept[0])
            visited.append(batch.index)

    visited: list[Tensor] = []
    datamodule = digits()
    observed = datamodule.labels.observed[datamodule.train_indices]
    quality, method = LabelQuality(datamodule.clean_targets, observed), PRLLossLayer(0.4, second_forward=True)
    trainer = make_trainer(method, quality, RecordsVisits(), max_epochs=1)
    trainer.fit(classifier(), datamodule=datamodule)
    index = torch.cat(visited)
    right = (datamodule.clean_targets == observed)[index]
    assert float(trainer.callback_metrics["selection/precision"]) == pytest.approx(float(right.float().mean()))
    assert len(index) == sum(int(0.6 * size + 1e-9) for size in [32] * 8 + [14])


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_scoring_pass(train_mode: bool, bf16: bool, make_trainer: Make) -> None:
    """Batch normalization takes its statistics from the kept samples in the second pass."""
    method = PRLLossLayer(0.4, train_mode=train_mode, bf16_scoring=bf16, second_forward=True)
    loader = indexed(loader_of(problem("ce")))
    module = fit(Plain(net=RecordsPasses()), [method], loader, make_trainer, max_epochs=1)
    assert module.net.passes == [(20, train_mode, False, bf16), (12, True, True, False)] * 3
    assert int(module.net[2].num_batches_tracked) == (6 if train_mode else 3)


@pytest.mark.parametrize(("rate", "scope", "second"), [(0.3, "rank", []), (0.4, "rank", [3]), (0.4, "global", [])])
def test_auto_takes_a_second_forward_pass_where_it_is_faster(
    rate: float, scope: Any, second: list[int], make_trainer: Make
) -> None:
    """A ramp over four epochs passes a third in the last one."""
    method = PRLLossLayer(rate, ramp_epochs=4, second_forward="auto", scope=scope)
    loader = indexed(loader_of(problem("ce")))
    module = fit(Plain(net=RecordsPasses()), [method], loader, make_trainer, max_epochs=4)
    sizes = [size for size, *_ in module.net.passes]
    assert sizes == [size for epoch in range(4) for size in ([20, 12] if epoch in second else [20]) * 3]


@pytest.mark.parametrize("second_forward", [True, "auto"])
def test_a_second_forward_pass_leaves_batch_normalization_two_samples(second_forward: Any, make_trainer: Make) -> None:
    x, y = problem("ce")
    loader = indexed(loader_of((x[:22], y[:22])))  # batches of 20 and 2
    method = PRLLossLayer(0.4, second_forward=second_forward)
    module = fit(Plain(net=RecordsPasses()), [method], loader, make_trainer, max_epochs=1)
    assert [size for size, *_ in module.net.passes] == [20, 12, 2]


def test_dropped_losses_do_no_harm_however_large(make_trainer: Make) -> None:
    x, y = problem("mse")
    y[3] = 1e30  # its square is infinite
    module = fit(Plain(nn.MSELoss()), [PRLLossLayer(0.1)], (x, y), make_trainer)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_a_second_forward_pass_needs_positions(make_trainer: Make) -> None:
    with pytest.raises(TypeError, match="without sample positions"):
        fit(Plain(), [PRLLossLayer(0.2, second_forward=True)], problem("ce"), make_trainer)
