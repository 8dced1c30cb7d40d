"""Samples with inputs or targets that are not finite: each method names them, or drops them without a trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import (
    ELR,
    SPL,
    Classifier,
    CoPRL,
    CoTeaching,
    Crust,
    ELRPlus,
    ForwardCorrectionLoss,
    GCELoss,
    IndividualClip,
    MinSGD,
    PRLGradient,
    PRLLossLayer,
    Regressor,
    RobustLoss,
    indexed,
)
from noisylabels_pl.core.bad_samples import BadSamples
from tests.core.filter_helpers import Normalized, Plain

Make = Callable[..., Any]
BAD = 37  # the position of the sample
SGD = partial(torch.optim.SGD, lr=0.1)


def loader(*, bad: float = float("nan"), bad_target: bool = False, with_positions: bool = True) -> DataLoader[Any]:
    """Three batches of 20 samples, the bad one in the second."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 64, generator=generator)
    y: Tensor = torch.randn(60, 10, generator=generator) if bad_target else torch.arange(60) % 10
    (y if bad_target else x)[BAD, 0] = bad
    plain = DataLoader(TensorDataset(x, y), batch_size=20)
    return indexed(plain) if with_positions else plain


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(64, 10)


def classifier(criterion: nn.Module | None = None) -> Classifier:
    return Classifier(linear(), 10, SGD, criterion=criterion)


def twin(cls: Any, **options: Any) -> Any:
    return cls(linear, 10, SGD, **options)


def assert_finite(module: nn.Module) -> None:
    assert all(value.isfinite().all() for value in module.state_dict().values())


REFUSES: dict[str, Callable[[], tuple[L.LightningModule, list[L.Callback]]]] = {
    "plain": lambda: (classifier(), []),
    "gce": lambda: (classifier(GCELoss()), []),
    "forward": lambda: (classifier(ForwardCorrectionLoss(0.5 * torch.eye(10) + 0.05)), []),
    "robust loss": lambda: (Plain(), [RobustLoss(GCELoss())]),
    "elr": lambda: (Plain(), [ELR()]),
    "crust": lambda: (Plain(), [Crust(warmup_epochs=1)]),
    "prl_l": lambda: (Plain(), [PRLLossLayer(0.2)]),
    "spl": lambda: (Plain(), [SPL(0.2)]),
    "min_sgd": lambda: (Plain(), [MinSGD()]),
    "co_prl_l": lambda: (twin(CoPRL, forget_rate=0.2), []),
    "co_teaching": lambda: (twin(CoTeaching, forget_rate=0.2), []),
    "elr_plus": lambda: (twin(ELRPlus), []),
    "batch norm in the scoring pass": lambda: (Plain(net=Normalized()), [PRLLossLayer(0.4, second_forward=True)]),
}


@pytest.mark.parametrize("method", REFUSES)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_it_is_named_before_the_weights_are_spoiled(method: str, bad: float, make_trainer: Make) -> None:
    module, callbacks = REFUSES[method]()
    with pytest.raises(
        ValueError, match=f"^the loss is not finite, because inputs or targets of training sample {BAD} "
    ):
        make_trainer(*callbacks, max_epochs=2).fit(module, loader(bad=bad))
    assert all(value.isfinite().all() for value in module.parameters())


DROPS: dict[str, Callable[[], tuple[L.LightningModule, list[L.Callback]]]] = {
    "prl_l": lambda: (Plain(), [PRLLossLayer(0.2, second_forward=True)]),
    "prl_g": lambda: (Plain(), [PRLGradient(0.2)]),
    "individual_clip": lambda: (Plain(), [IndividualClip()]),
    "co_teaching": lambda: (twin(CoTeaching, forget_rate=0.2, second_forward=True), []),
    "batch norm": lambda: (Plain(net=Normalized()), [PRLLossLayer(0.2, second_forward=True, train_mode=False)]),
}


@pytest.mark.parametrize("method", DROPS)
@pytest.mark.parametrize("bad", [float("nan"), 3e38])
def test_it_is_dropped_without_a_trace(method: str, bad: float, make_trainer: Make) -> None:
    module, callbacks = DROPS[method]()
    make_trainer(*callbacks, max_epochs=2).fit(module, loader(bad=bad))
    assert_finite(module)


def test_without_positions_the_row_is_named(make_trainer: Make) -> None:
    with pytest.raises(ValueError, match=rf"targets of row {BAD - 20} are .*noisylabels_pl.indexed\(loader\) tells"):
        make_trainer(max_epochs=1).fit(classifier(), loader(with_positions=False))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_target_is_named_too(bad: float, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match=f"targets of training sample {BAD} are not, or are larger"):
        make_trainer(max_epochs=1).fit(Regressor(linear(), 10, SGD), loader(bad=bad, bad_target=True))


def test_missing_numbers_that_the_network_replaces_are_no_fault(make_trainer: Make) -> None:
    class Replaces(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.nan_to_num())

    module = Plain(net=Replaces(64, 10))
    make_trainer(ELR(), max_epochs=1).fit(module, loader())
    assert_finite(module)


def test_a_batch_with_many_names_the_first_in_order() -> None:
    bad = BadSamples()
    with pytest.raises(ValueError, match="training samples 3, 4, 5, 6, 7 and 4 more are not"):
        bad.add(torch.tensor(True), torch.full((9, 2), float("nan")), index=torch.arange(3, 12).flip(0))


@pytest.mark.parametrize("bad", [3e38, -3e38])
def test_a_number_that_overflows_in_the_network_is_named(bad: float) -> None:
    bad_samples = BadSamples()
    with pytest.raises(ValueError, match=r"training sample 5 are not, or are larger than 1e\+18"):
        bad_samples.add(torch.tensor([False, True]), torch.tensor([[1.0], [bad]]), index=torch.tensor([3, 5]))


def test_a_loss_that_is_not_finite_for_another_reason_is_left_to_the_user() -> None:
    bad = BadSamples()
    overflowed = torch.tensor([True, True])
    bad.add(overflowed, [torch.zeros(2, 3), torch.tensor([1, 0])], index=torch.arange(2))
    bad.read()  # would raise
    with pytest.raises(ValueError, match="sample 1 are not"):
        bad.add(overflowed, [torch.tensor([0.0, float("nan")])], index=torch.arange(2))


@pytest.mark.gpu
def test_a_gpu_is_asked_at_the_end_of_the_epoch(make_trainer: Make) -> None:
    with pytest.raises(ValueError, match=f"targets of training sample {BAD} are not"):
        make_trainer(ELR(), max_epochs=1, accelerator="gpu", devices=1).fit(Plain(), loader())
