from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import noisylabels_pl
from noisylabels_pl.per_sample import GradientNorms, per_sample_gradient_norms
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    VECTOR_NETS,
    Loss,
    assert_norms_agree,
    build,
    hooks_of,
    image_head,
    layer_with_two_names,
    mlp,
    norms_by_loop,
    random_inputs,
    random_labels,
    tied_layers,
)


def test_it_is_exported_at_the_top() -> None:
    assert noisylabels_pl.per_sample_gradient_norms is per_sample_gradient_norms


# --- losses ---

mean_squares, sum_squares = nn.MSELoss(), nn.MSELoss(reduction="sum")
class_weights = torch.tensor([1.0, 5.0, 0.1, 2.0], dtype=torch.float64)
LOSSES: dict[str, tuple[Loss, bool]] = {
    "cross_entropy": (F.cross_entropy, True),
    "cross_entropy_sum": (nn.CrossEntropyLoss(reduction="sum"), True),
    "cross_entropy_none": (nn.CrossEntropyLoss(reduction="none"), True),
    "weighted_mean": (nn.CrossEntropyLoss(weight=class_weights), True),  # the weight of one sample cancels
    "weighted_sum": (nn.CrossEntropyLoss(weight=class_weights, reduction="sum"), True),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), True),
    "squares_mean": (mean_squares, False),
    "squares_sum": (sum_squares, False),
    "squares_none": (nn.MSELoss(reduction="none"), False),
    "huber": (nn.HuberLoss(), False),
    "custom": (lambda output, target: (output - target).abs().sum(1) ** 2, False),
}


@pytest.mark.parametrize("num_samples", [1, 2, NUM_SAMPLES])
@pytest.mark.parametrize("name", LOSSES)
def test_any_reduction(name: str, num_samples: int) -> None:
    loss_fn, is_classification = LOSSES[name]
    targets = random_labels(num_samples) if is_classification else random_inputs(num_samples, NUM_CLASSES, seed=1)
    assert_norms_agree(build(mlp), loss_fn, random_inputs(num_samples, 6), targets)


def test_reductions_that_agree_for_one_sample() -> None:
    net, x, y = build(mlp), random_inputs(NUM_SAMPLES, 6), random_inputs(NUM_SAMPLES, NUM_CLASSES, seed=1)
    norms = per_sample_gradient_norms(net, mean_squares, x, y)
    torch.testing.assert_close(norms, per_sample_gradient_norms(net, nn.MSELoss(reduction="none"), x, y))
    torch.testing.assert_close(NUM_CLASSES * norms, per_sample_gradient_norms(net, sum_squares, x, y))


def test_outputs_of_single_numbers() -> None:
    net = build(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)))
    assert_norms_agree(net, mean_squares, random_inputs(NUM_SAMPLES, 6), random_inputs(NUM_SAMPLES, seed=1))


def test_soft_targets() -> None:
    targets = random_inputs(NUM_SAMPLES, NUM_CLASSES, seed=1).softmax(1)
    assert_norms_agree(build(mlp), F.cross_entropy, random_inputs(NUM_SAMPLES, 6), targets)


# --- networks ---


@pytest.mark.parametrize("name", VECTOR_NETS)
def test_nets_of_vectors(name: str) -> None:
    net = build(VECTOR_NETS[name])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES))


def test_tied_weights_of_two_layers() -> None:
    net, x, y = build(tied_layers), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    assert net[2].weight is net[0].weight  # type: ignore[index]
    assert_norms_agree(net, F.cross_entropy, x, y)
    untied = deepcopy(net)
    untied[2].weight = nn.Parameter(net[0].weight.detach().clone())  # type: ignore[index]
    untied_norms = per_sample_gradient_norms(untied, F.cross_entropy, x, y)
    assert not torch.allclose(per_sample_gradient_norms(net, F.cross_entropy, x, y), untied_norms, rtol=1e-3)


def test_a_layer_with_two_names() -> None:
    net, x, y = build(layer_with_two_names), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    for _ in range(2):
        assert_norms_agree(net, F.cross_entropy, x, y)


@pytest.mark.parametrize(
    "frozen", [["0.weight"], ["0.weight", "0.bias"], ["2.bias", "4.weight"], ["4.weight", "4.bias"]]
)
def test_frozen_parameters_do_not_count(frozen: list[str]) -> None:
    net, x, y = build(mlp), random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    norms_of_all = per_sample_gradient_norms(net, F.cross_entropy, x, y)
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    assert_norms_agree(net, F.cross_entropy, x, y)
    assert (per_sample_gradient_norms(net, F.cross_entropy, x, y) < norms_of_all).all()
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == frozen


def test_dropout_of_the_forward_pass_that_was_made() -> None:
    net = build(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, NUM_CLASSES)))
    x, y = random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    torch.manual_seed(7)
    norms = per_sample_gradient_norms(net, F.cross_entropy, x, y).detach()
    torch.manual_seed(7)
    masks = F.dropout(torch.ones(NUM_SAMPLES, 8, dtype=torch.float64), 0.5)
    parameters = list(net.parameters())
    expected = []
    for i in range(NUM_SAMPLES):
        hidden = net[0](x[i : i + 1]) * masks[i]  # type: ignore[index, operator]
        loss = F.cross_entropy(net[2](hidden), y[i : i + 1])  # type: ignore[index, operator]
        expected.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).norm())
    torch.testing.assert_close(norms, torch.stack(expected), rtol=1e-5, atol=0)
    torch.manual_seed(8)
    norms_with_other_masks = per_sample_gradient_norms(net, F.cross_entropy, x, y).detach()
    assert not torch.allclose(norms, norms_with_other_masks, rtol=1e-3)
    assert_norms_agree(net.eval(), F.cross_entropy, x, y)


# --- precision ---


def test_single_precision() -> None:
    torch.manual_seed(0)
    net, x, y = mlp(), random_inputs(32, 6), random_labels(32)
    norms = per_sample_gradient_norms(net, F.cross_entropy, x.float(), y)
    expected = norms_by_loop(deepcopy(net).double(), F.cross_entropy, x, y)
    torch.testing.assert_close(norms.detach().double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_norms_under_autocast(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "mlp":
        net: nn.Module = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        x = torch.randn(8, 20)
    else:
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3), *image_head(16)
        )
        x = torch.randn(8, 3, 8, 8)
    y = random_labels(8)
    expected = per_sample_gradient_norms(net, F.cross_entropy, x, y).detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        norms = per_sample_gradient_norms(net, F.cross_entropy, x, y)
    torch.testing.assert_close(norms.detach().float(), expected, rtol=0.02, atol=0)
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize("size", [1e-3, 1.0, 500.0])
def test_float16_loses_neither_small_nor_large_gradients(size: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 1))
    x, y = torch.randn(16, 20), size * torch.ones(16, 1)
    with torch.no_grad():
        y += net(x)
    expected = per_sample_gradient_norms(net, nn.MSELoss(), x, y)
    with torch.autocast("cpu", torch.float16):
        norms = per_sample_gradient_norms(net, nn.MSELoss(), x, y)
    torch.testing.assert_close(norms, expected, rtol=0.3 if size < 0.1 else 0.02, atol=0)


# --- several calls, and what is refused ---


def test_computing_twice_for_one_pass() -> None:
    net = mlp()
    x, y = random_inputs(NUM_SAMPLES, 6).to(next(net.parameters()).dtype), random_labels(NUM_SAMPLES)
    with GradientNorms(net) as gradient_norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        once, twice = gradient_norms.compute(losses), gradient_norms.compute(2 * losses)
        gradient_norms.clear()
        after_clear = gradient_norms.compute(losses)  # by ordinary backward passes
    torch.testing.assert_close(twice, 2 * once)
    torch.testing.assert_close(after_clear, once)


def test_batch_norm_in_training_is_refused_by_name() -> None:
    features = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 4, 3), bn=nn.BatchNorm2d(4), act=nn.ReLU()))
    net = nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*image_head(4)))).double()
    with pytest.raises(ValueError, match=r"(?s)(?=.*\bfeatures\.bn\b)(?=.*\bconvert_batchnorm\b)"):
        per_sample_gradient_norms(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 2, 6, 6), random_labels(NUM_SAMPLES))
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, NUM_CLASSES)).double()
    before = deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"(?s)(?=.*\b1\b)(?=.*\bconvert_batchnorm\b)"):
        per_sample_gradient_norms(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert hooks_of(net) == []
    assert_norms_agree(net.eval(), F.cross_entropy, random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES))
