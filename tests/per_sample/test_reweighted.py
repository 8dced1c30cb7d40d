from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.per_sample import GradientNorms
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    VECTOR_NETS,
    MeanOverTime,
    Recurrent,
    build,
    image_head,
    random_inputs,
    random_labels,
)

NETS: dict[str, Callable[[], nn.Module]] = VECTOR_NETS | {
    "conv": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, 2, (1, 2), groups=2), nn.GroupNorm(3, 6), nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 2, padding=1, dilation=2, padding_mode="circular"), *image_head(4)),
    "same": lambda: nn.Sequential(nn.Conv2d(4, 6, (3, 2), padding="same"), nn.Tanh(), *image_head(6)),
    "embedding": lambda: nn.Sequential(nn.Embedding(5, 6, padding_idx=1), MeanOverTime(), nn.Linear(6, NUM_CLASSES)),
    "transformer": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True), MeanOverTime(),
        nn.Linear(8, NUM_CLASSES)),
    "LSTM": lambda: Recurrent("LSTM", has_initial_state=True),
}  # fmt: skip


def inputs_of(name: str) -> Tensor:
    if name in ("conv", "same"):
        return random_inputs(NUM_SAMPLES, 4, 9, 8)
    if name == "embedding":
        return random_labels(NUM_SAMPLES, 4, num_classes=5)
    if name == "transformer":
        return random_inputs(NUM_SAMPLES, 3, 8)
    if name == "LSTM":
        return random_inputs(NUM_SAMPLES, 4, 3)
    return random_inputs(NUM_SAMPLES, 6)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_are_those_of_a_pass_through_the_network(name: str) -> None:
    net, x, y = build(NETS[name]), inputs_of(name), random_labels(NUM_SAMPLES)
    weights = torch.arange(NUM_SAMPLES, dtype=torch.float64) - 1  # one of them 0
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    with GradientNorms(net) as gradient_norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        gradient_norms.compute(losses)
        total = 3 * gradient_norms.reweighted(losses, weights).sum()
        gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    expected_total = 3 * (losses * weights).sum()
    expected_gradients = torch.autograd.grad(expected_total, parameters, allow_unused=True)
    torch.testing.assert_close(total.detach(), expected_total.detach())
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


class NotAlone(nn.Module):
    """A layer that refuses a single sample."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            raise ValueError("one sample is not enough")
        return self.scale * x


def test_no_by_products_are_left_of_a_network_whose_layers_cannot_be_used() -> None:
    """Or the batch that finds out would train on formulas that do not hold: here the steps come first."""

    class StepsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 6)
            self.scale = NotAlone()
            self.head = nn.Linear(6, NUM_CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.scale(self.linear(x.transpose(0, 1)).tanh()).mean(0))

    net, x, y = build(StepsFirst), random_inputs(NUM_SAMPLES, NUM_SAMPLES, 3), random_labels(NUM_SAMPLES)
    with GradientNorms(net) as gradient_norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        gradient_norms.compute(losses)
        weights = torch.arange(NUM_SAMPLES, dtype=torch.float64)
        total = gradient_norms.reweighted(losses, weights).sum()
        gradients = torch.autograd.grad(total, list(net.parameters()), retain_graph=True)
    expected = torch.autograd.grad((losses * weights).sum(), list(net.parameters()))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
