"""Weights from files, and networks of three colors for gray images."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

_FILE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def is_weights_file(weights: str) -> bool:
    """Return whether a text is the path of a file of weights, not the name of published ones.

    Example:
        >>> is_weights_file("runs/best.ckpt"), is_weights_file("IMAGENET1K_V2")
        (True, False)
    """
    return weights.endswith(_FILE_SUFFIXES) or Path(weights).is_file()


def load_weights(net: nn.Module, path: str | Path, num_classes: int) -> None:
    """Load the weights of a network from a local file.

    Every entry must fit, except for the head's, if the file has another number of classes: it keeps its new weights.
    The first convolution of a network for gray images takes the sum of the weights of the three colors.

    Args:
        net: the network.
        path: a state dict, saved by ``torch.save`` or as safetensors; or a checkpoint that has one under
            ``state_dict``, such as ``best.ckpt`` of a run of this library.
        num_classes: the outputs of the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no state dict, or that of another network; the message names entries.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(nn.Sequential(nn.Linear(4, 1000)).state_dict(), f"{folder}/weights.pt")
        ...     load_weights(nn.Sequential(nn.Linear(4, 10)), f"{folder}/weights.pt", num_classes=10)
    """
    apply_weights(net, _read_state_dict(Path(path)), num_classes, str(path))


def apply_weights(net: nn.Module, state: Mapping[str, Tensor], num_classes: int, origin: str) -> None:
    """Copy the entries of a state dict into a network; see :func:`load_weights`.

    Args:
        net: the network.
        state: tensors by name.
        num_classes: the outputs of the network.
        origin: where the weights come from, for messages.

    Raises:
        ValueError: the weights are those of another network.
    """
    own = net.state_dict()
    taken: dict[str, Tensor] = {}
    anew: list[str] = []
    wrong: list[str] = []
    for name, value in state.items():
        if name not in own or value.shape == own[name].shape:
            taken[name] = value
        elif _is_other_head(value, own[name], num_classes):
            anew.append(name)
        elif _is_colors_for_gray(value, own[name]):
            taken[name] = value.sum(1, keepdim=True)
            _log.info("%s: the weights of three colors are summed for gray images", name)
        else:
            wrong.append(f"{name} has shape {tuple(value.shape)} there and {tuple(own[name].shape)} here")
    result = net.load_state_dict(taken, strict=False)
    wrong += [f"{name} is missing there" for name in result.missing_keys if name not in anew]
    wrong += [f"{name} is unknown here" for name in result.unexpected_keys]
    if wrong:
        more = f", and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        raise ValueError(f"{origin} holds the weights of another network: {', '.join(wrong[:2])}{more}")
    new_head = f"; {' and '.join(anew)} start anew, because the file has other classes" if anew else ""
    _log.info("%d tensors of weights from %s%s", len(taken), origin, new_head)


def for_channels(net: nn.Module, name: str, input_shape: Sequence[int]) -> None:
    """Make a network for images of three colors take gray images, too, if it will get such.

    The first convolution gets the sum of its weights for the three colors, as if a gray image came three times.

    Args:
        net: the network; changed in place.
        name: its name, for the message.
        input_shape: ``(C, H, W)`` of one image.

    Raises:
        ValueError: samples have neither three channels nor one.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3))
        >>> for_channels(net, "net", (1, 28, 28))
        >>> net[0].weight.shape
        torch.Size([8, 1, 3, 3])
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise ValueError(f"{name} needs images (3, H, W) or (1, H, W), got samples of shape {tuple(input_shape)}")
    if input_shape[0] == 3:
        return
    convolution = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    convolution.in_channels = 1
    convolution.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))


def import_extra(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: its name.
        extra: the extra of this library that installs it.

    Raises:
        ImportError: the package is not installed; the message says how to install it.

    Example:
        >>> import_extra("torch", "timm").__name__
        'torch'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"this network needs the package {package}: pip install 'noisylabels-pl[{extra}]' ({error})"
        ) from error


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """Return the weights in a file, by the names that the network has for them."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    if path.suffix == ".safetensors":
        loaded: Any = import_extra("safetensors.torch", "timm").load_file(path)
    else:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle's, zipfile's and torch's own
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} cannot be read as a file of weights: {reason}") from error
    is_checkpoint = isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping)
    state = loaded["state_dict"] if is_checkpoint else loaded
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict, but {type(state).__name__}; save net.state_dict()")
    # A module of this library has its network as ``net``, and other entries beside it.
    of_net = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    return of_net or state


def _is_other_head(value: Tensor, own: Tensor, num_classes: int) -> bool:
    """Return whether an entry differs in nothing but the number of classes."""
    return own.ndim > 0 and len(own) == num_classes and value.shape[1:] == own.shape[1:]


def _is_colors_for_gray(value: Tensor, own: Tensor) -> bool:
    """Return whether an entry is a convolution of three channels, where the network has one channel."""
    shape = (value.shape[0], 1, *value.shape[2:]) if value.ndim == 4 else None
    return shape is not None and value.shape[1] == 3 and own.shape == shape
