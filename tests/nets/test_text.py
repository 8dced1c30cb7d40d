"""Networks for texts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noisylabels_pl.nets import embedding_flat, embedding_lstm, embedding_mean

TEXTS = torch.tensor([[4, 2, 7, 0, 0], [9, 1, 1, 3, 8], [0, 0, 5, 0, 6], [0, 0, 0, 0, 0]])


def size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def vectors_of(net: nn.Module) -> Tensor:
    (embedding,) = (module for module in net.modules() if isinstance(module, nn.Embedding))
    return embedding.weight.detach()


def test_sizes() -> None:
    # The embedding, and what reads it: a linear head; 400 places of 50; an LSTM of four gates with two biases each.
    assert size(embedding_mean((400,), 2)) == 5000 * 50 + 50 * 2 + 2
    assert size(embedding_flat((400,), 2)) == 5000 * 50 + 400 * 50 * 2 + 2
    lstm = 4 * 512 * (256 + 512 + 2)
    assert size(embedding_lstm((400,), 2)) == 5000 * 256 + lstm + 512 * 512 + 512 + 512 * 2 + 2


def test_the_mean_leaves_padding_out() -> None:
    net = embedding_mean((5,), 3, vocabulary=10, embedding_size=4)
    vectors, head = vectors_of(net), net[-1]
    means = torch.stack([vectors[[4, 2, 7]].mean(0), vectors[[9, 1, 1, 3, 8]].mean(0), vectors[[5, 6]].mean(0)])
    expected = torch.cat([means, torch.zeros(1, 4)]) @ head.weight.T + head.bias
    torch.testing.assert_close(net(TEXTS), expected)


def test_the_flat_network() -> None:
    net = embedding_flat((5,), 3, vocabulary=10, embedding_size=4).eval()
    head = net[-1]
    expected = vectors_of(net)[TEXTS].relu().flatten(1) @ head.weight.T + head.bias
    torch.testing.assert_close(net(TEXTS), expected)


def test_the_lstm_reads_up_to_the_last_token() -> None:
    """Restated: gates in torch's order (input, forget, cell, output), one text and one token after the other."""
    net = embedding_lstm((5,), 3, vocabulary=10, embedding_size=4, hidden_size=6).double().eval()
    (lstm,) = (module for module in net.modules() if isinstance(module, nn.LSTM))
    expected = []
    for text in TEXTS:
        hidden = cell = torch.zeros(6, dtype=torch.float64)
        last = int(text.nonzero().max()) if text.any() else 0
        for token in text[: last + 1]:
            gates = lstm.weight_ih_l0 @ vectors_of(net)[token] + lstm.weight_hh_l0 @ hidden
            gates = gates + lstm.bias_ih_l0 + lstm.bias_hh_l0
            enter, forget, new, leave = gates.chunk(4)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = leave.sigmoid() * cell.tanh()
        dense = (net[1].weight @ hidden + net[1].bias).relu()
        expected.append(net[-1].weight @ dense + net[-1].bias)
    torch.testing.assert_close(net(TEXTS), torch.stack(expected))


def test_initial_weights_of_loss_correction() -> None:
    torch.manual_seed(0)
    for net in (embedding_flat((9,), 2), embedding_lstm((9,), 2)):
        for name, parameter in net.named_parameters():
            values = parameter.detach()
            if "bias" in name:
                assert not values.any()
            elif name == "1.weight":  # before a ReLU
                assert float(values.std()) == pytest.approx((2 / 512) ** 0.5, rel=0.02)
            else:
                assert 0.045 < float(values.abs().max()) <= 0.05
        assert not vectors_of(net)[0].any()


def test_dropout_takes_a_coordinate_from_all_tokens() -> None:
    torch.manual_seed(0)
    net = embedding_flat((5,), 2, vocabulary=10, embedding_size=100, dropout=0.5)
    vectors = net[0](torch.tensor([[1, 2, 3, 4, 5]]))[0]
    is_dropped = (vectors == 0).all(0)
    assert 20 < int(is_dropped.sum()) < 80
    assert (vectors[:, ~is_dropped] != 0).all()


def test_padding_is_not_trained() -> None:
    net = embedding_lstm((5,), 2, vocabulary=10, embedding_size=4, hidden_size=3)
    net(TEXTS).sum().backward()
    (embedding,) = (module for module in net.modules() if isinstance(module, nn.Embedding))
    assert embedding.weight.grad is not None
    assert not embedding.weight.grad[0].any()


@pytest.mark.parametrize("make", [embedding_flat, embedding_lstm, embedding_mean])
def test_what_is_no_token(make: type[nn.Module]) -> None:
    net = make((5,), 2, vocabulary=9)
    with pytest.raises(ValueError, match=r"^the token id 9 is not below vocabulary=9; set net\.vocabulary=10$"):
        net(TEXTS)
    with pytest.raises(TypeError, match=r"^networks for texts need token ids of type int64, got torch\.float32; "):
        net(TEXTS.float())
