"""SOP: a fit restated with autograd, its variables, and what it does to memorization."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import SOP, indexed
from noisylabels_pl.callbacks import History, LabelQuality
from tests.functional.losses.test_sparse import restated
from tests.helpers import WithCriterion, foreign_loader
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]


def initial_values(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (1e-8 * torch.randn(270, width, generator=generator, dtype=torch.float64)).requires_grad_()


def test_a_fit_is_that_of_autograd(digits: Make, make_trainer: Make) -> None:
    """All variables in one graph, with optimizers of their own."""
    torch.manual_seed(0)
    module, method = WithCriterion(), SOP(lr_u=10.0, lr_v=30.0)
    other = deepcopy(module).double()
    make_trainer(method, max_epochs=3, precision="64-true").fit(
        module, indexed(foreign_loader(digits()), as_batches=True)
    )
    u, v = initial_values(1), initial_values(10)
    optimizers = [torch.optim.SGD([u], lr=10.0), torch.optim.SGD([v], lr=30.0), other.configure_optimizers()]
    for batch, loss, _ in module.losses:
        expected = restated(other(batch.x), batch.y, u[batch.index], v[batch.index]).mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        expected.backward()
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(method.u.rows, u.detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(method.v.rows, v.detach(), rtol=1e-5, atol=1e-7)
    assert float(method.u.rows.abs().max()) > 1e-3  # some have left their initial values


def test_learning_rates_of_zero_leave_cross_entropy(digits: Make, classifier: Make, make_trainer: Make) -> None:
    accuracies = []
    for callbacks in ([SOP(lr_u=0.0, lr_v=0.0)], []):
        history = History()
        make_trainer(*callbacks, history, max_epochs=3).fit(classifier(), datamodule=digits())
        accuracies.append(history.column("test/acc"))
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)


def test_variables_find_wrong_labels(digits: Make, classifier: Make, make_trainer: Make) -> None:
    memorized = []
    for callbacks in ([], [SOP(lr_u=10.0, lr_v=10.0)]):
        datamodule, history = digits(train_size=1000), History()
        observed = datamodule.labels.observed[datamodule.train_indices]
        quality = LabelQuality(datamodule.clean_targets, observed)
        make_trainer(*callbacks, quality, history, max_epochs=30).fit(classifier(), datamodule=datamodule)
        memorized.append(history.rows[-1]["train/memorized"])
    s = callbacks[0].u.rows.square().squeeze(1).clamp(0, 1)
    is_wrong = observed != datamodule.clean_targets
    assert s[is_wrong].mean() > 3 * s[~is_wrong].mean()
    assert memorized[1] < 0.7 * memorized[0]


@pytest.mark.parametrize("option", ["lr_u", "lr_v", "seed"])
def test_wrong_options(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must"):
        SOP(**{option: -1})


def fit_on_ranks(folder: Path, devices: int) -> dict[str, Any]:
    torch.manual_seed(0)
    method, module = SOP(), WithCriterion()
    module.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.rand(64, 1, 8, 8, generator=generator), torch.arange(64) % 10)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        callbacks=[method],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        max_epochs=4,
    )
    trainer.fit(module, indexed(DataLoader(data, batch_size=16 // devices, shuffle=True)))
    return {"u": method.u.rows, "v": method.v.rows, "weights": module.state_dict()}


@pytest.mark.processes
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    first, second = run_on_two_ranks(fit_on_ranks, tmp_path, 2, folder=tmp_path)
    alone = fit_on_ranks(tmp_path, 1)
    for name in ("u", "v"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], alone[name], rtol=1e-3, atol=1e-12)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-4, atol=1e-5)
