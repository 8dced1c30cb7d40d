from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch._functorch.config as functorch_config
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.per_sample import GradientNorms, per_sample_gradient_norms
from noisylabels_pl.per_sample.recorder import LayerRecorder, layer_gradients
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    VECTOR_NETS,
    assert_norms_agree,
    build,
    hooks_of,
    image_head,
    mlp,
    random_inputs,
    random_labels,
)


def test_uses_are_recorded_in_order() -> None:
    net = build(VECTOR_NETS["used_three_times_with_a_norm"])
    recorder = LayerRecorder(net)
    recorder.register_hooks()
    net(random_inputs(NUM_SAMPLES, 6))
    assert [use.name for use in recorder.uses] == ["a", "norm", "a", "norm", "out"]
    assert not any(argument.requires_grad for use in recorder.uses for argument in use.args)
    with torch.no_grad():
        net(random_inputs(NUM_SAMPLES, 6))
    assert len(recorder.uses) == 5
    recorder.clear()
    assert recorder.uses == []
    recorder.remove_hooks()
    net(random_inputs(NUM_SAMPLES, 6))
    assert recorder.uses == []
    assert hooks_of(net) == []


def test_a_use_that_losses_do_not_depend_on_has_no_gradients() -> None:
    net = build(VECTOR_NETS["part_detached"])
    recorder = LayerRecorder(net)
    recorder.register_hooks()
    losses = F.cross_entropy(net(random_inputs(NUM_SAMPLES, 6)), random_labels(NUM_SAMPLES), reduction="none")
    gradients = layer_gradients(recorder.uses, losses)
    assert [use.name for use in recorder.uses] == ["a", "b", "out"]
    assert [use_gradients is None for use_gradients in gradients] == [True, False, False]
    recorder.remove_hooks()


@pytest.mark.parametrize("donated_buffer", [False, True])
def test_torchs_setting_is_restored(donated_buffer: bool) -> None:
    with functorch_config.patch(donated_buffer=donated_buffer):
        with GradientNorms(mlp()):
            assert not functorch_config.donated_buffer
        assert functorch_config.donated_buffer == donated_buffer


class CalledByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 6), nn.Linear(6, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.embed(input=x))


def test_inputs_by_keyword() -> None:
    x, y = random_labels(NUM_SAMPLES, num_classes=5), random_labels(NUM_SAMPLES)
    assert_norms_agree(build(CalledByKeyword), F.cross_entropy, x, y)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network(backend: str) -> None:
    """Its norms are the same, and the training can still pass back through its graph."""
    plain = build(lambda: nn.Sequential(nn.Conv2d(2, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), *image_head(8)))
    x, y = random_inputs(NUM_SAMPLES, 2, 9, 9), random_labels(NUM_SAMPLES)
    expected = per_sample_gradient_norms(plain, F.cross_entropy, x, y)
    torch.compiler.reset()
    net = deepcopy(plain)
    net.compile(backend=backend)
    with GradientNorms(net) as gradient_norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        torch.testing.assert_close(gradient_norms.compute(losses), expected)
        gradient_norms.reweighted(losses, torch.ones(NUM_SAMPLES, dtype=losses.dtype)).sum().backward()
    F.cross_entropy(plain(x), y, reduction="sum").backward()
    for compiled_parameter, parameter in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(compiled_parameter.grad, parameter.grad)
