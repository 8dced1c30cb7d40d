from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from noisylabels_pl.per_sample import batchnorm_to_groupnorm
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    assert_norms_agree,
    image_head,
    random_inputs,
    random_labels,
)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (7, 7), (16, 16), (32, 32), (33, 1), (40, 8), (48, 16), (64, 32), (100, 4)]
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_groups_of_image_norms(dimensions: int, channels: int, groups: int) -> None:
    old = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d)(channels, eps=3e-4).double()
    nn.init.normal_(old.weight)
    nn.init.normal_(old.bias)
    new = batchnorm_to_groupnorm(old)
    assert isinstance(new, nn.GroupNorm)
    assert (new.num_groups, new.num_channels, new.eps) == (groups, channels, 3e-4)
    assert groups == (min(32, channels) if channels % min(32, channels) == 0 else math.gcd(32, channels))
    assert torch.equal(new.weight, old.weight)
    assert torch.equal(new.bias, old.bias)
    x = random_inputs(2, channels, *[3] * dimensions)
    torch.testing.assert_close(new(x), F.group_norm(x, groups, old.weight, old.bias, 3e-4))


@pytest.mark.parametrize("channels", [1, 8, 33, 64])
def test_groups_of_vector_norms(channels: int) -> None:
    old = nn.BatchNorm1d(channels, eps=2e-3).double()
    nn.init.normal_(old.weight)
    nn.init.normal_(old.bias)
    new = batchnorm_to_groupnorm(old)
    assert isinstance(new, nn.GroupNorm)
    assert (new.num_groups, new.num_channels, new.eps) == (1, channels, 2e-3)
    x = random_inputs(4, channels)
    torch.testing.assert_close(new(x), F.layer_norm(x, (channels,), old.weight, old.bias, 2e-3))


def test_a_net_is_converted_in_place() -> None:
    inner = nn.Sequential(nn.Conv2d(4, 64, 1), nn.BatchNorm2d(64, affine=False), nn.ReLU())
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 4, 3), bn=nn.BatchNorm2d(4), inner=inner, pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(), bn1=nn.BatchNorm1d(64), out=nn.Linear(64, NUM_CLASSES),
        )
    ).double()  # fmt: skip
    untouched = [net.conv, inner[0], net.out]
    assert batchnorm_to_groupnorm(net) is net
    assert not any(isinstance(module, _BatchNorm) for module in net.modules())
    assert [net.conv, net.inner[0], net.out] == untouched
    kinds = [(m.num_groups, m.num_channels) for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert kinds == [(4, 4), (32, 64), (1, 64)]
    assert net.inner[1].weight is None
    assert not any("running" in name for name in net.state_dict())
    assert all(p.dtype == torch.float64 for p in net.parameters())
    x, y = random_inputs(NUM_SAMPLES, 2, 6, 6), random_labels(NUM_SAMPLES)
    torch.testing.assert_close(net(x), torch.cat([net(x[i : i + 1]) for i in range(NUM_SAMPLES)]))
    assert_norms_agree(net, F.cross_entropy, x, y)


def test_a_shared_batch_norm_stays_shared() -> None:
    bn = nn.BatchNorm2d(4)
    layers = [nn.Conv2d(2, 4, 3), bn, nn.Conv2d(4, 4, 3), nn.Sequential(bn, nn.ReLU()), *image_head(4)]
    net = nn.Sequential(*layers).double()
    before = sum(p.numel() for p in net.parameters())
    batchnorm_to_groupnorm(net)
    assert not any(isinstance(module, _BatchNorm) for module in net.modules())
    assert isinstance(net[1], nn.GroupNorm)
    assert net[3][0] is net[1]  # type: ignore[index]
    assert sum(p.numel() for p in net.parameters()) == before
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 2, 7, 7), random_labels(NUM_SAMPLES))


def test_the_mode_stays() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    batchnorm_to_groupnorm(net)
    assert not any(module.training for module in net.modules())
