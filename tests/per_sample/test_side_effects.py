"""Computing norms leaves the network, its gradients, its hooks and the random state as they were."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.per_sample import per_sample_gradient_norms
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    Net,
    assert_norms_agree,
    build,
    hooks_of,
    layer_with_two_names,
    mlp,
    random_inputs,
    random_labels,
    tied_layers,
)


def all_kinds_of_layers() -> nn.Module:
    table = nn.Parameter(torch.ones(8))
    return Net(
        lambda s, x: s.out(s.act(s.norm(s.twice(s.twice(s.first(x)))) * s.table)), first=nn.Linear(6, 8),
        twice=nn.Linear(8, 8), norm=nn.LayerNorm(8), act=nn.ReLU(inplace=True), table=table,
        out=nn.Linear(8, NUM_CLASSES),
    )  # fmt: skip


@pytest.mark.parametrize("make", [mlp, all_kinds_of_layers, layer_with_two_names, tied_layers])
def test_no_trace_is_left(make: Callable[[], nn.Module]) -> None:
    net, x, y = build(make), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    modes = {}
    for i, (name, module) in enumerate(net.named_modules()):
        module.training = i % 2 == 0
        modes[name] = module.training
    attributes = {name: set(vars(module)) for name, module in net.named_modules()}
    parameters = dict(net.named_parameters(remove_duplicate=False))
    values, inputs = deepcopy(net.state_dict()), x.clone()
    random_state = torch.get_rng_state()
    per_sample_gradient_norms(net, F.cross_entropy, x, y)
    assert hooks_of(net) == []
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert {name: set(vars(module)) for name, module in net.named_modules()} == attributes
    assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
    parameters_after = dict(net.named_parameters(remove_duplicate=False))
    assert parameters_after.keys() == parameters.keys()
    assert all(parameters_after[name] is p for name, p in parameters.items())
    assert torch.equal(x, inputs)
    assert not x.requires_grad


def test_the_random_state_stays_with_dropout_as_well() -> None:
    net = build(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, NUM_CLASSES)))
    torch.manual_seed(3)
    random_state = torch.get_rng_state()
    per_sample_gradient_norms(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_gradients_and_hooks_of_others_stay() -> None:
    net, x, y = build(mlp), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    F.cross_entropy(net(x), y).backward()
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert len(gradients) == 6
    handle = net[0].register_forward_hook(lambda *_: None)  # type: ignore[index]
    per_sample_gradient_norms(net, F.cross_entropy, x, y)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True) if p.grad is not None)
    assert all(p.grad is not None for p in net.parameters())
    assert hooks_of(net) == ["0:_forward_hooks"]
    handle.remove()
    assert hooks_of(net) == []


def test_no_trace_is_left_after_an_error_either() -> None:
    net, x, y = build(mlp), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    random_state = torch.get_rng_state()

    def broken(*_: Tensor) -> Tensor:
        raise RuntimeError("the loss is broken")

    with pytest.raises(RuntimeError, match="the loss is broken"):
        per_sample_gradient_norms(net, broken, x, y)
    assert hooks_of(net) == []
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_norms_agree(net, F.cross_entropy, x, y)


def test_training_goes_on_undisturbed() -> None:
    net, x, y = build(mlp), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    twin = deepcopy(net)
    per_sample_gradient_norms(net, F.cross_entropy, x, y)
    for model in (net, twin):
        F.cross_entropy(model(x), y).backward()
    for p, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert other.grad is not None
        assert torch.equal(p.grad, other.grad)
