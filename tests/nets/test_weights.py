"""Weights from files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from noisylabels_pl.nets import load_weights, small_cnn
from noisylabels_pl.nets.weights import for_channels, import_extra


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A network of ten classes, and its file."""
    net = small_cnn((3, 8, 8), 10, width=4)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    return net, tmp_path / "weights.pt"


def test_the_same_network(saved: tuple[nn.Module, Path]) -> None:
    net, path = saved
    other = small_cnn((3, 8, 8), 10, width=4)
    load_weights(other, path, 10)
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(net.eval()(x), other.eval()(x))


def test_other_classes_start_with_a_new_head(saved: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture) -> None:
    net, path = saved
    other = small_cnn((3, 8, 8), 4, width=4)
    new_head = other[-1].weight.clone()
    with caplog.at_level(logging.INFO):
        load_weights(other, path, 4)
    assert torch.equal(other[-1].weight, new_head)
    assert torch.equal(other[0].weight, net[0].weight)  # type: ignore[index]
    (line,) = caplog.messages
    assert line.startswith("18 tensors of weights from ")
    assert line.endswith("; 14.weight and 14.bias start anew, because the file has other classes")


def test_gray_images_get_the_sum_of_the_colors(saved: tuple[nn.Module, Path]) -> None:
    net, path = saved
    gray = small_cnn((1, 8, 8), 10, width=4)
    load_weights(gray, path, 10)
    adapted = small_cnn((3, 8, 8), 10, width=4)
    adapted.load_state_dict(net.state_dict())
    for_channels(adapted, "small_cnn", (1, 8, 8))
    x = torch.rand(2, 1, 8, 8)
    expected = net.eval()(x.expand(2, 3, 8, 8))
    torch.testing.assert_close(gray.eval()(x), expected)
    torch.testing.assert_close(adapted.eval()(x), expected)


def test_a_checkpoint_of_a_run(saved: tuple[nn.Module, Path]) -> None:
    net, path = saved
    of_module = {f"net.{name}": value for name, value in net.state_dict().items()} | {"criterion.T": torch.eye(2)}
    torch.save({"state_dict": of_module, "epoch": 3}, path)
    other = small_cnn((3, 8, 8), 10, width=4)
    load_weights(other, path, 10)
    assert torch.equal(other[0].weight, net[0].weight)  # type: ignore[index]


def test_safetensors(saved: tuple[nn.Module, Path]) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    net, path = saved
    path = path.with_suffix(".safetensors")
    safetensors.save_file(net.state_dict(), path)
    other = small_cnn((3, 8, 8), 10, width=4)
    load_weights(other, path, 10)
    assert torch.equal(other[0].weight, net[0].weight)  # type: ignore[index]


def test_files_that_do_not_fit(saved: tuple[nn.Module, Path]) -> None:
    _, path = saved
    wrong = r"weights\.pt holds the weights of another network: "
    with pytest.raises(ValueError, match=wrong + r"0\.weight has shape \(4, 3, 3, 3\) there and \(5, 3, 3, 3\) here, "):
        load_weights(small_cnn((3, 8, 8), 10, width=5), path, 10)
    with pytest.raises(ValueError, match=wrong + r"2\.weight is missing there, 2\.bias is missing there, and 22 more$"):
        load_weights(nn.Sequential(nn.Flatten(), nn.Identity(), nn.BatchNorm2d(4)), path, 10)
    with pytest.raises(FileNotFoundError, match=r"^there is no file of weights nothing\.pt$"):
        load_weights(nn.Linear(1, 1), "nothing.pt", 10)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"weights\.pt holds no state dict, but list; save net\.state_dict\(\)$"):
        load_weights(nn.Linear(1, 1), path, 10)
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"weights\.pt cannot be read as a file of weights: "):
        load_weights(nn.Linear(1, 1), path, 10)
    torch.save(nn.Linear(1, 1), path)  # a pickled module would run code
    with pytest.raises(ValueError, match=r"weights\.pt cannot be read as a file of weights: Weights only load failed"):
        load_weights(nn.Linear(1, 1), path, 10)


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^resnet18 needs images \(3, H, W\) or \(1, H, W\), got .* \(4, 8, 8\)$"):
        for_channels(nn.Conv2d(3, 4, 3), "resnet18", (4, 8, 8))


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(
        ImportError, match=r"^this network needs the package no_such: pip install 'noisylabels-pl\[text\]'"
    ):
        import_extra("no_such", "text")
