from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from noisylabels_pl.functional import loss_layer_gradient_norm
from noisylabels_pl.per_sample import per_sample_gradient_norms
from noisylabels_pl.per_sample.layers.linear import Linear
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    MeanOverTime,
    assert_norms_agree,
    build,
    random_inputs,
    random_labels,
)


def test_one_layer_in_closed_form() -> None:
    net, x, y = build(lambda: nn.Linear(6, NUM_CLASSES)), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    expected = loss_layer_gradient_norm(net(x), y).detach() * (x.square().sum(1) + 1).sqrt()
    torch.testing.assert_close(per_sample_gradient_norms(net, F.cross_entropy, x, y).detach(), expected)


@pytest.mark.parametrize(("steps", "width"), [(1, 7), (2, 16), (64, 3), (NUM_SAMPLES, 6)])
@pytest.mark.parametrize("loss_per_step", [False, True])
def test_sequences(steps: int, width: int, loss_per_step: bool) -> None:
    layers: list[nn.Module] = [nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, NUM_CLASSES)]
    x = random_inputs(NUM_SAMPLES, steps, width)
    if loss_per_step:
        net, y = build(lambda: nn.Sequential(*layers)), random_labels(NUM_SAMPLES, steps)
        assert_norms_agree(net, lambda output, target: F.cross_entropy(output.transpose(1, 2), target), x, y)
    else:
        net = build(lambda: nn.Sequential(*layers, MeanOverTime()))
        assert_norms_agree(net, F.cross_entropy, x, random_labels(NUM_SAMPLES))


def test_grids() -> None:
    net = build(lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)))
    x, y = random_inputs(NUM_SAMPLES, 2, 4, 3), random_inputs(NUM_SAMPLES, 2, 4, 2, seed=1)
    assert_norms_agree(net, nn.MSELoss(), x, y)


@pytest.mark.parametrize(("steps", "use_ghost_norm"), [(1, True), (7, True), (8, False), (64, False)])
def test_the_ghost_norm_is_used_where_it_takes_fewer_multiplications(steps: int, use_ghost_norm: bool) -> None:
    """T positions, 16 inputs and 16 outputs: T^2 (16 + 16) against T * 16 * 16."""
    activations, backprops = random_inputs(NUM_SAMPLES, steps, 16), random_inputs(NUM_SAMPLES, steps, 16, seed=1)
    gradients = Linear(nn.Linear(16, 16).double(), activations, backprops)
    assert gradients.use_ghost_norm == use_ghost_norm
    expected = torch.einsum("ntq,ntp->nqp", backprops, activations).square().sum((1, 2))
    torch.testing.assert_close(gradients.squared_norm(["weight"], slice(None)), expected)


@pytest.mark.parametrize("steps", [2, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_zero_are_zero_and_not_nan(dtype: torch.dtype, steps: int) -> None:
    net, x = build(lambda: nn.Linear(3, 2)).to(dtype), random_inputs(4, steps, 3).to(dtype)
    with torch.no_grad():
        y = net(x) + random_inputs(4, steps, 2, seed=1).to(dtype)
        y[0] = net(x)[0]  # every step is right
        x[1] = x[1, :1]
        error = random_inputs(steps // 2, 2, seed=2).to(dtype)
        y[1] = net(x)[1] + torch.cat([error, -error])  # the steps' gradients cancel
    norms = per_sample_gradient_norms(net, nn.MSELoss(), x, y).detach()
    assert norms.isfinite().all()
    assert (norms[:2] <= (1e-3 if dtype == torch.float32 else 1e-6)).all()
    assert (norms[2:] > 1e-2).all()
