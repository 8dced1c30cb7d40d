"""Learning rates of body and head."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from noisylabels_pl import ELRPlus
from noisylabels_pl.core import Classifier, FineTuning
from noisylabels_pl.nets import mlp, small_cnn, torchvision_net


def rates(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, float]:
    """The learning rate of each parameter."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {names[parameter]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}


def test_the_head_learns_faster_and_the_schedule_keeps_the_ratio() -> None:
    net = torchvision_net((3, 32, 32), 4, name="resnet18")
    scheduler = partial(MultiStepLR, milestones=[1], gamma=0.1)
    module = Classifier(net, 4, FineTuning(lr=0.01, head_lr_factor=10.0, momentum=0.9), scheduler)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    for factor in (1.0, 0.1):
        by_name = rates(optimizer, module)
        assert by_name.keys() == {name for name, _ in module.named_parameters()}
        for name, rate in by_name.items():
            assert rate == pytest.approx(factor * (0.1 if name.startswith("net.fc.") else 0.01))
        optimizer.step()
        schedule.step()
    assert optimizer.defaults["momentum"] == 0.9


def test_both_heads_of_twins() -> None:
    module = ELRPlus(partial(mlp, (4,), 2, hidden=(8,)), 2, FineTuning("AdamW", lr=0.01))
    by_name = rates(module.configure_optimizers(), module)
    assert {name for name, rate in by_name.items() if rate > 0.05} == {
        f"net.{twin}.3.{kind}" for twin in ("first", "second") for kind in ("weight", "bias")
    }


def test_a_step_is_that_of_two_learning_rates() -> None:
    torch.manual_seed(0)
    net = mlp((4,), 2, hidden=(8,))
    module = Classifier(net, 2, FineTuning(lr=0.01, head_lr_factor=3.0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    module.training_step((torch.rand(5, 4), torch.tensor([0, 1, 0, 1, 1])), 0).backward()
    module.configure_optimizers().step()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        rate = 0.03 if name.startswith("3.") else 0.01
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad)


def test_without_heads_there_is_one_learning_rate() -> None:
    optimizer = FineTuning(lr=0.01)(small_cnn((1, 8, 8), 10).parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [0.01]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"^optimizer must be one of SGD, Adam, AdamW, got 'LBFGS'$"):
        FineTuning("LBFGS")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^head_lr_factor must not be negative, got -1$"):
        FineTuning(head_lr_factor=-1)
    module = Classifier(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), 2, FineTuning())
    with pytest.raises(TypeError, match=r"^fine-tuning needs a network with a linear layer as head"):
        module.configure_optimizers()
