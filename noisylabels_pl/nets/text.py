"""Networks for texts: int64 token ids ``(B, length)``, in which 0 is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noisylabels_pl.functional import check_range
from noisylabels_pl.nets.shapes import text_length


class TokenEmbedding(nn.Module):
    """Maps token ids ``(B, L)`` to vectors ``(B, L, size)``; padding becomes zeros.

    Args:
        vocabulary: the number of different ids, padding included.
        size: of a vector.
        dropout: the probability of dropout of a coordinate in all vectors of a text.

    Example:
        >>> TokenEmbedding(vocabulary=5, size=2)(torch.tensor([[0, 0, 0]]))[0, 0]
        tensor([0., 0.], grad_fn=<SelectBackward0>)
    """

    def __init__(self, vocabulary: int, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_range("vocabulary", vocabulary, "[2, inf)", integer=True)
        check_range("dropout", dropout, "[0, 1)")
        self.vectors = nn.Embedding(vocabulary, size, padding_idx=0)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.is_floating_point():
            raise TypeError(
                f"networks for texts need token ids of type int64, got {tokens.dtype}; real numbers are features for "
                "net=mlp, and a method that mixes inputs cannot mix texts"
            )
        try:
            embedded = self.vectors(tokens)
        except IndexError as error:
            largest = int(tokens.max())
            raise ValueError(
                f"the token id {largest} is not below vocabulary={self.vectors.num_embeddings}; "
                f"set net.vocabulary={largest + 1}"
            ) from error
        # Dropout1d takes (B, channels, L) and drops whole channels.
        vectors: Tensor = self.dropout(embedded.transpose(1, 2)).transpose(1, 2)
        return vectors


class MeanOfTokens(nn.Module):
    """The mean of the vectors of a text's tokens, without padding; zeros for a text without tokens."""

    def __init__(self, embedding: TokenEmbedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, tokens: Tensor) -> Tensor:
        num_tokens = (tokens != 0).sum(1, keepdim=True).clamp(min=1)
        # The vectors of padding are zeros.
        mean: Tensor = self.embedding(tokens).sum(1) / num_tokens
        return mean


class LastState(nn.Module):
    """The hidden state ``(B, size)`` of an LSTM after the last token of a text; padding behind it is not read."""

    def __init__(self, embedding: TokenEmbedding, size: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.lstm = nn.LSTM(embedding.vectors.embedding_dim, size, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        last = (places * (tokens != 0)).amax(1).clamp(min=1) - 1
        last_state: Tensor = states[torch.arange(len(tokens), device=tokens.device), last]
        return last_state


def embedding_mean(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    vocabulary: int = 5000,
    embedding_size: int = 50,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Return an embedding, the mean over the tokens of a text, and a linear head.

    The classifier of Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017,
    https://arxiv.org/abs/1607.01759, without n-grams, and with torch's initial weights. The last module is the linear
    head.

    Args:
        input_shape: ``(length,)`` of a text; token ids, 0 is padding.
        num_classes: the number of outputs.
        vocabulary: the number of different token ids, padding included.
        embedding_size: of the vector of a token.
        dropout: the probability of dropout of a coordinate in all vectors of a text.

    Raises:
        ValueError: samples are not texts, or an option is out of range.

    Example:
        >>> net = embedding_mean((4,), num_classes=2, vocabulary=10)
        >>> net(torch.tensor([[3, 1, 0, 0], [9, 9, 2, 5]])).shape
        torch.Size([2, 2])
    """
    text_length("embedding_mean", input_shape)
    embedding = TokenEmbedding(vocabulary, embedding_size, dropout)
    return nn.Sequential(MeanOfTokens(embedding), nn.Linear(embedding_size, num_classes))


def embedding_flat(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    vocabulary: int = 5000,
    embedding_size: int = 50,
    dropout: float = 0.8,
) -> nn.Sequential:
    """Return an embedding with dropout, a ReLU, and a linear head on the vectors of all places of a text.

    The smaller IMDB network of Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
    Approach", CVPR 2017, https://arxiv.org/abs/1609.03683. Weights start uniform in [-0.05, 0.05], biases at 0. 0.29 M
    parameters for 5000 words and 400 places. The last module is the linear head.

    Args:
        input_shape: ``(length,)`` of a text; token ids, 0 is padding.
        num_classes: the number of outputs.
        vocabulary: the number of different token ids, padding included.
        embedding_size: of the vector of a token.
        dropout: the probability of dropout of a coordinate in all vectors of a text.

    Raises:
        ValueError: samples are not texts, or an option is out of range.

    Example:
        >>> net = embedding_flat((4,), num_classes=2, vocabulary=10)
        >>> net(torch.tensor([[3, 1, 0, 0], [9, 9, 2, 5]])).shape
        torch.Size([2, 2])
    """
    length = text_length("embedding_flat", input_shape)
    net = nn.Sequential(
        TokenEmbedding(vocabulary, embedding_size, dropout),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(length * embedding_size, num_classes),
    )
    _start_uniform(net)
    return net


def embedding_lstm(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    vocabulary: int = 5000,
    embedding_size: int = 256,
    hidden_size: int = 512,
    embedding_dropout: float = 0.8,
    dropout: float = 0.5,
) -> nn.Sequential:
    """Return an embedding, an LSTM, a dense layer on its last state with dropout and ReLU, and a linear head.

    The larger IMDB network of Patrini et al.; see :func:`embedding_flat`. The weights before the ReLU are He-normal,
    all others start uniform in [-0.05, 0.05], biases at 0. 3.12 M parameters for 5000 words and 2 classes. The last
    module is the linear head.

    Args:
        input_shape: ``(length,)`` of a text; token ids, 0 is padding.
        num_classes: the number of outputs.
        vocabulary: the number of different token ids, padding included.
        embedding_size: of the vector of a token.
        hidden_size: of the LSTM's state, and of the dense layer.
        embedding_dropout: the probability of dropout of a coordinate in all vectors of a text.
        dropout: the probability of dropout after the dense layer.

    Raises:
        ValueError: samples are not texts, or an option is out of range.

    Example:
        >>> net = embedding_lstm((4,), num_classes=2, vocabulary=10, embedding_size=3, hidden_size=5)
        >>> net(torch.tensor([[3, 1, 0, 0], [9, 9, 2, 5]])).shape
        torch.Size([2, 2])
    """
    text_length("embedding_lstm", input_shape)
    check_range("dropout", dropout, "[0, 1)")
    dense = nn.Linear(hidden_size, hidden_size)
    net = nn.Sequential(
        LastState(TokenEmbedding(vocabulary, embedding_size, embedding_dropout), hidden_size),
        dense,
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(hidden_size, num_classes),
    )
    _start_uniform(net)
    nn.init.kaiming_normal_(dense.weight)
    return net


def _start_uniform(net: nn.Module) -> None:
    """Set weights to uniform numbers in [-0.05, 0.05], biases and the vector of padding to 0."""
    for name, parameter in net.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -0.05, 0.05)
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            module.weight.data[0] = 0
