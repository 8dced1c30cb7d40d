from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    MeanOverTime,
    Net,
    assert_norms_agree,
    build,
    random_labels,
)


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_repeated_tokens(padding_idx: int | None) -> None:
    net = build(
        lambda: nn.Sequential(nn.Embedding(5, 6, padding_idx=padding_idx), MeanOverTime(), nn.Linear(6, NUM_CLASSES))
    )
    x = random_labels(NUM_SAMPLES, 9, num_classes=5)
    x[0] = 3
    x[1] = 0
    assert_norms_agree(net, F.cross_entropy, x, random_labels(NUM_SAMPLES))


def test_one_token() -> None:
    net = build(lambda: nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, NUM_CLASSES)))
    assert_norms_agree(net, F.cross_entropy, random_labels(NUM_SAMPLES, num_classes=5), random_labels(NUM_SAMPLES))


def loss_per_token(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.transpose(1, 2), target)


@pytest.mark.parametrize("by_hand", [False, True])
def test_tied_to_the_output_layer(by_hand: bool) -> None:
    def make() -> nn.Module:
        embed, mid = nn.Embedding(7, 6), nn.Linear(6, 6)
        if by_hand:
            return Net(lambda s, x: s.mid(s.embed(x)).tanh() @ s.embed.weight.T, embed=embed, mid=mid)
        net = nn.Sequential(embed, mid, nn.Tanh(), nn.Linear(6, 7, bias=False))
        net[3].weight = embed.weight
        return net

    tokens = random_labels(NUM_SAMPLES, 4, num_classes=7)
    next_tokens = random_labels(NUM_SAMPLES, 4, num_classes=7, seed=2)
    assert_norms_agree(build(make), loss_per_token, tokens, next_tokens)
