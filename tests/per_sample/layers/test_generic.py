from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    MeanOverTime,
    Recurrent,
    assert_ghost_norms_in_chunks_agree,
    assert_image_norms_agree,
    assert_norms_agree,
    assert_single_precision_agrees,
    build,
    image_head,
    random_inputs,
    random_labels,
)

IMAGE_LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "transposed": lambda: [nn.ConvTranspose2d(2, 6, 3)],
    "transposed_with_options": lambda: [
        nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)
    ],
    "instance_norm": lambda: [nn.Conv2d(2, 6, 3), nn.InstanceNorm2d(6, affine=True)],
    "prelu": lambda: [nn.Conv2d(2, 6, 3), nn.PReLU(6)],
    "weight_norm": lambda: [weight_norm(nn.Conv2d(2, 6, 3, padding=1))],
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets(name: str) -> None:
    assert_image_norms_agree(IMAGE_LAYERS[name])


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets_by_ghost_norms_one_sample_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_ghost_norms_in_chunks_agree(IMAGE_LAYERS[name], monkeypatch)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets_in_single_precision(name: str, layout: torch.memory_format) -> None:
    assert_single_precision_agrees(IMAGE_LAYERS[name], layout)


def test_batch_norm_in_evaluation_mode() -> None:
    net = build(lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *image_head(6)))
    net[1].eval()  # type: ignore[index]  # the rest trains
    net[1].running_mean.normal_()  # type: ignore[index, union-attr, operator]
    net[1].running_var.uniform_(0.5, 2)  # type: ignore[index, union-attr, operator]
    before = deepcopy(net.state_dict())
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 2, 7, 8), random_labels(NUM_SAMPLES))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_block(norm_first: bool) -> None:
    net = build(
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first),
            MeanOverTime(),
            nn.Linear(8, NUM_CLASSES),
        )
    )
    x, y = random_inputs(NUM_SAMPLES, 6, 8), random_labels(NUM_SAMPLES)
    assert_norms_agree(net, F.cross_entropy, x, y, by_func=False)


@pytest.mark.parametrize("has_initial_state", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "RNN", "LSTM"])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_recurrent_layers(kind: str, has_initial_state: bool) -> None:
    net = build(lambda: Recurrent(kind, has_initial_state=has_initial_state))
    x, y = random_inputs(NUM_SAMPLES, 4, 3), random_labels(NUM_SAMPLES)
    assert_norms_agree(net, F.cross_entropy, x, y, by_func=False)
