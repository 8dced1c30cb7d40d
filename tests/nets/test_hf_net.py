"""Transformers of Hugging Face."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from noisylabels_pl.nets import hf_net

transformers: Any = pytest.importorskip("transformers")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def bert(tmp_path: Path) -> tuple[Any, str]:
    """A small BERT of three classes, and the folder that it is saved in."""
    config = transformers.BertConfig(vocab_size=30, num_labels=3, max_position_embeddings=16, **SIZES)
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "bert")
    return model, str(tmp_path / "bert")


@pytest.fixture
def texts() -> Tensor:
    return torch.tensor([[4, 2, 7, 0, 0], [9, 1, 1, 3, 8]])


def test_logits_are_the_originals(bert: tuple[Any, str], texts: Tensor) -> None:
    original, folder = bert
    net = hf_net((5,), 3, name=folder, pretrained=True)
    assert net.training  # with dropout, which transformers switches off
    assert not torch.equal(net(texts), net(texts))
    with torch.no_grad():
        logits = net.eval()(texts)
        whole = original(input_ids=texts[1:]).logits
        short = original(input_ids=texts[:1, :3]).logits  # padding changes nothing
    torch.testing.assert_close(logits, torch.cat([short, whole]))


def test_a_new_head_is_named(bert: tuple[Any, str], texts: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    original, folder = bert
    with caplog.at_level(logging.INFO, logger="noisylabels_pl"):
        net = hf_net((5,), 7, name=folder, pretrained=True)
    assert caplog.messages[-1] == f"weights from {folder}; classifier.bias, classifier.weight start anew"
    assert net(texts).shape == (2, 7)
    assert torch.equal(net.model.bert.pooler.dense.weight, original.bert.pooler.dense.weight)


def test_a_configuration_alone(bert: tuple[Any, str], texts: Tensor) -> None:
    original, folder = bert
    (Path(folder) / "model.safetensors").unlink()
    net = hf_net((5,), 2, name=folder, vocab_size=50)
    assert net(texts + 40).shape == (2, 2)
    assert not torch.equal(net.model.bert.pooler.dense.weight, original.bert.pooler.dense.weight)


def test_images(tmp_path: Path) -> None:
    transformers.ViTConfig(image_size=8, patch_size=4, **SIZES).save_pretrained(tmp_path)
    net = hf_net((1, 8, 8), 4, name=str(tmp_path), num_channels=1)
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 4)


def test_another_width_is_another_network(bert: tuple[Any, str]) -> None:
    _, folder = bert
    with pytest.raises(ValueError, match=r"holds the weights of another network: .* has shape .* there and .* here$"):
        hf_net((5,), 3, name=folder, pretrained=True, intermediate_size=64)


def test_folders_that_are_none(bert: tuple[Any, str], tmp_path: Path) -> None:
    _, folder = bert
    with pytest.raises(FileNotFoundError, match=r"^there is no folder \./no_such; it must hold a config\.json$"):
        hf_net((5,), 3, name="./no_such")
    (Path(folder) / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"bert cannot be read, from a folder or from the hub: .*net\.name=FOLDER$"):
        hf_net((5,), 3, name=folder, pretrained=True)


def test_what_is_neither_text_nor_image(bert: tuple[Any, str]) -> None:
    _, folder = bert
    with pytest.raises(ValueError, match=r"^net=hf needs texts \(length,\) or images \(C, H, W\), got .* \(2, 3\)$"):
        hf_net((2, 3), 3, name=folder)
    with pytest.raises(TypeError, match=r"^a transformer for texts needs token ids of type int64, got torch\.float32$"):
        hf_net((5,), 3, name=folder)(torch.rand(2, 5))
