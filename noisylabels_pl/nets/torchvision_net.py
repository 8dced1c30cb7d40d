"""The networks of torchvision, with or without their published weights."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import nn

from noisylabels_pl.nets.weights import apply_weights, for_channels, is_weights_file, load_weights

_log = logging.getLogger(__name__)


def torchvision_net(
    input_shape: Sequence[int], num_classes: int, *, name: str, weights: str | None = None, **options: Any
) -> nn.Module:
    """Return a classification network of torchvision, with a head for the data's classes.

    For gray images the first convolution gets the sum of its weights for the three colors.

    Args:
        input_shape: ``(C, H, W)`` of one image, with 3 channels or 1.
        num_classes: the number of outputs.
        name: as in ``torchvision.models.list_models()``, such as ``"resnet50"``.
        weights: a local file (:func:`~noisylabels_pl.nets.load_weights`); or the name of published weights, such as
            ``"IMAGENET1K_V2"`` or ``"DEFAULT"``, which torchvision downloads if they are not in its cache.
        **options: of the network, such as ``dropout``.

    Raises:
        ValueError: there is no such network or no such weights, a file does not fit, or samples are not images.
        OSError: the weights cannot be downloaded.

    Example:
        >>> net = torchvision_net((1, 28, 28), num_classes=10, name="resnet18")
        >>> net(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    if name in ("googlenet", "inception_v3"):
        raise ValueError(
            f"name={name} returns auxiliary logits in training; take another network, or timm's of that name"
        )
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0)
        raise ValueError(f"torchvision has no network name={name!r}; the nearest are {', '.join(nearest)}")
    if weights is None or is_weights_file(weights):
        net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
        for_channels(net, name, input_shape)
        if weights is not None:
            load_weights(net, weights, num_classes)
        return net
    published = torchvision.models.get_model_weights(name)
    if weights not in published.__members__:
        choices = ", ".join(published.__members__)
        raise ValueError(f"{name} has no weights={weights!r}; give a file (.pt, .pth, .ckpt) or one of {choices}")
    net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    for_channels(net, name, input_shape)
    chosen = published[weights]
    file = Path(torch.hub.get_dir(), "checkpoints", Path(chosen.url).name)
    _log.info("%s: %s %s", chosen, "read from" if file.is_file() else f"download {chosen.url} to", file)
    try:
        state = chosen.get_state_dict(progress=False, check_hash=True)
    except URLError as error:
        raise OSError(
            f"{chosen.url} cannot be downloaded ({error.reason}); fetch it elsewhere and give the file: "
            f"net.weights={Path(chosen.url).name}"
        ) from error
    apply_weights(net, state, num_classes, str(chosen))
    return net
