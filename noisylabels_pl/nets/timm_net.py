"""The networks of timm, with or without their published weights."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from noisylabels_pl.nets.weights import for_channels, import_extra, load_weights

_log = logging.getLogger(__name__)


def timm_net(
    input_shape: Sequence[int], num_classes: int, *, name: str, pretrained: bool | str = False, **options: Any
) -> nn.Module:
    """Return a network of timm, with a head for the data's classes.

    For gray images the first convolution gets the sum of its weights for the three colors.

    Args:
        input_shape: ``(C, H, W)`` of one image, with 3 channels or 1.
        num_classes: the number of outputs.
        name: as in ``timm.list_models()``, such as ``"inception_resnet_v2"`` or ``"resnet50.a1_in1k"``.
        pretrained: a local file (:func:`~noisylabels_pl.nets.load_weights`); or ``True`` for timm's weights, which are
            downloaded from the Hugging Face hub if they are not in its cache.
        **options: of ``timm.create_model``, such as ``img_size`` of a vision transformer.

    Raises:
        ImportError: timm is not installed.
        ValueError: there is no such network, a file does not fit, or samples are not images.
        OSError: the weights cannot be downloaded.
    """
    timm = import_extra("timm", "timm")
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        nearest = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0)
        raise ValueError(f"timm has no network name={name!r}; the nearest are {', '.join(nearest)}")
    if pretrained is True:
        _log.info("%s: weights from the Hugging Face hub, or from its cache", name)
    try:
        net: nn.Module = timm.create_model(name, pretrained=pretrained is True, num_classes=num_classes, **options)
    except RuntimeError as error:  # timm's and the hub's own, on a name without weights or without a network
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise OSError(
            f"the weights of {name} cannot be downloaded ({str(error).splitlines()[0]}); fetch them elsewhere and give "
            "the file: net.pretrained=FILE.safetensors"
        ) from error
    for_channels(net, name, input_shape)
    if isinstance(pretrained, str):
        load_weights(net, pretrained, num_classes)
    return net
