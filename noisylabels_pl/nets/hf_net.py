"""Transformers of Hugging Face as networks that return logits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from noisylabels_pl.nets.weights import import_extra

_log = logging.getLogger(__name__)


class LogitsOfTransformer(nn.Module):
    """Returns the logits of a Hugging Face model, for token ids or images.

    Args:
        model: its output has ``logits``.
        padding: the token id of padding, which attention leaves out.
    """

    def __init__(self, model: nn.Module, padding: int = 0) -> None:
        super().__init__()
        self.model = model
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            output = self.model(pixel_values=x)
        elif x.is_floating_point():
            raise TypeError(f"a transformer for texts needs token ids of type int64, got {x.dtype}")
        else:
            output = self.model(input_ids=x, attention_mask=(x != self.padding).long())
        logits: Tensor = output.logits
        return logits


def hf_net(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    name: str,
    pretrained: bool = False,
    padding: int = 0,
    **options: Any,
) -> LogitsOfTransformer:
    """Return a transformer that classifies texts ``(length,)`` or images ``(C, H, W)``.

    Args:
        input_shape: of one sample.
        num_classes: the number of outputs.
        name: a local folder with a ``config.json``, or a name on the Hugging Face hub, such as
            ``"distilbert-base-uncased"``, whose files are downloaded if they are not in the hub's cache.
        pretrained: take the weights, too; otherwise the configuration alone, with random weights.
        padding: the token id of padding.
        **options: entries of the configuration to change, such as ``vocab_size`` or ``image_size``.

    Raises:
        ImportError: transformers is not installed.
        ValueError: samples are neither texts nor images, or the weights are those of another network.
        OSError: there is no such folder and no such name on the hub, or no connection.
    """
    transformers = import_extra("transformers", "text")
    if len(input_shape) not in (1, 3):
        raise ValueError(f"net=hf needs texts (length,) or images (C, H, W), got samples of shape {tuple(input_shape)}")
    kind = "ImageClassification" if len(input_shape) == 3 else "SequenceClassification"
    auto_model = getattr(transformers, f"AutoModelFor{kind}")
    is_local = Path(name).is_dir()
    if not is_local:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:  # the hub has names such as USER/MODEL
            raise FileNotFoundError(f"there is no folder {name}; it must hold a config.json")
        _log.info("%s: from the Hugging Face hub, or from its cache", name)
    try:
        config = transformers.AutoConfig.from_pretrained(
            name, local_files_only=is_local, num_labels=num_classes, **options
        )
        if not pretrained:
            return LogitsOfTransformer(auto_model.from_config(config), padding)
        model, report = auto_model.from_pretrained(
            name, config=config, local_files_only=is_local, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except OSError as error:  # with advice in several lines
        raise OSError(
            f"{name} cannot be read, from a folder or from the hub: {str(error).splitlines()[0]}; fetch its files "
            "elsewhere and give their folder: net.name=FOLDER"
        ) from error
    wrong = [entry for entry in report["mismatched_keys"] if entry[2][0] != num_classes]
    if wrong:
        entry, shape, own_shape = wrong[0]
        raise ValueError(
            f"{name} holds the weights of another network: {entry} has shape {tuple(shape)} there and "
            f"{tuple(own_shape)} here"
        )
    anew = sorted({*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])})
    _log.info("weights from %s; %s", name, f"{', '.join(anew)} start anew" if anew else "the head's, too")
    return LogitsOfTransformer(model.train(), padding)  # transformers loads weights in evaluation mode
