"""Checks of a composed configuration: keys that nothing reads, and values that fail late or without their name."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from noisylabels_pl.cli.errors import missing_groups_message, unknown_key_message
from noisylabels_pl.cli.options import CHOSEN_BY_DATA, all_keys, nearest, top_level_keys
from noisylabels_pl.functional import check_choice, check_range

PROGRESS = ("auto", "bar", "lines", False)

# Arguments that the run sets by itself, and the key that changes them.
_SET_BY_RUN = {
    "trainer.callbacks": "a method or a callback of your own is method=",
    "trainer.logger": "set logger=",
    "trainer.default_root_dir": "set hydra.run.dir=",
    "trainer.enable_progress_bar": "set progress=",
    "net.input_shape": "the dataset determines it",
    "net.num_classes": "the dataset determines it",
    "data.noise": "set noise=, noise.rate=",
}


def check_config(config: DictConfig) -> None:
    """Check a composed configuration before anything is made of it.

    Classes and functions check their own arguments. This finds the mistakes that none of them sees.

    Args:
        config: composed from ``conf/`` and the command line.

    Raises:
        ValueError: nothing reads a key, or a value is out of range; the message names the key, the value and the
            remedy.
    """
    missing = [group for group in CHOSEN_BY_DATA if group not in config]
    if missing:
        raise ValueError(missing_groups_message(missing))
    _check_keys(config)
    check_range("seed", config.seed, "[0, 4294967295]", integer=True)
    if config.threads is not None:
        check_range("threads", config.threads, "[1, inf)", integer=True, hint="null lets torch choose")
    check_choice("channels_last", config.channels_last, (True, False))
    check_choice("progress", config.progress, PROGRESS)
    if not isinstance(config.name, (str, type(None))):
        raise ValueError(f"name must be text, got {config.name!r}; quote it: 'name=\"...\"'")
    _check_budget("trainer.max_epochs", OmegaConf.select(config, "trainer.max_epochs"))
    _check_budget("trainer.max_steps", OmegaConf.select(config, "trainer.max_steps"))
    _check_accelerator(config.trainer.get("accelerator"))
    _check_optimization(config)


def nearest_argument(message: str, config: DictConfig) -> str | None:
    """Return the key that a misspelled argument of a class is nearest to.

    Args:
        message: see :func:`~noisylabels_pl.cli.errors.error_message`.
        config: of the run.

    Returns:
        The key, such as ``trainer.max_epochs``; ``None`` if the message is about something else, or none is near.

    Example:
        >>> config = OmegaConf.create({"trainer": {"_target_": "lightning.Trainer"}})
        >>> nearest_argument("trainer: Trainer.__init__() got an unexpected keyword argument 'max_epoch'", config)
        'trainer.max_epochs'
    """
    match = re.match(r"([\w.]+): .*unexpected keyword argument '(\w+)'", message)
    target = None if match is None else OmegaConf.select(config, f"{match[1]}._target_")
    if match is None or target is None:
        return None
    arguments = inspect.signature(get_object(target)).parameters
    return nearest(f"{match[1]}.{match[2]}", [f"{match[1]}.{argument}" for argument in arguments])


def _check_keys(config: DictConfig) -> None:
    """Refuse keys that nothing reads. A class refuses unknown arguments by itself."""
    known = top_level_keys()
    text = OmegaConf.to_yaml(config)
    for key in map(str, config):
        # A key of your own may be there for interpolations: noise.rate=${rate}.
        if key not in known and not re.search(rf"\$\{{(oc\.select:)?{re.escape(key)}\b", text):
            message = unknown_key_message(key, [name for name in all_keys(config) if name.split(".")[0] in known])
            if isinstance(config[key], DictConfig):
                message += "; a file that sets options of several groups begins with the line # @package _global_"
            raise ValueError(message)
    for key, remedy in _SET_BY_RUN.items():
        group, name = key.split(".")
        if name in config[group]:
            raise ValueError(f"{key}={config[group][name]} would be ignored, because the run sets it; {remedy}")
    for name, logger in config.logger.items():
        if name != "csv" and not (isinstance(logger, DictConfig) and "_target_" in logger):
            raise ValueError(f"logger.{name}={logger} is no logger: it has no _target_; for progress set progress=")


def _check_budget(key: str, value: Any) -> None:
    """Refuse a number of epochs or steps that Lightning would not take, or that trains nothing."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (is_whole and (value == -1 or value >= 1)):
        raise ValueError(f"{key} must be a whole number from 1, such as 100 (not 1e2), or -1 for no limit, got {value}")


def _check_accelerator(accelerator: Any) -> None:
    """Refuse a GPU where there is none."""
    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    found = {"gpu": has_cuda or has_mps, "cuda": has_cuda, "mps": has_mps}
    if not found.get(accelerator, True):
        raise ValueError(
            f"trainer.accelerator={accelerator}, but torch finds no such device; take trainer=cpu, or trainer=auto"
        )


def _check_optimization(config: DictConfig) -> None:
    """Make the optimizer and the schedule of one weight, because their errors come late and without a name."""
    made: Any = [torch.nn.Parameter(torch.zeros(1, 1))]
    for group in ("optim", "schedule"):
        if config[group] is None:
            continue
        options = {key: value for key, value in config[group].items() if key not in ("_target_", "_partial_")}
        arguments = inspect.signature(get_object(config[group]._target_)).parameters
        for key, value in options.items():
            is_number = key in arguments and type(arguments[key].default) in (int, float)
            if is_number and isinstance(value, str):
                raise ValueError(f"{group}.{key} must be a number, got {value!r}")
        make = instantiate(config[group])
        try:
            made = make(made)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            listed = ", ".join(f"{group}.{key}={value}" for key, value in options.items())
            raise ValueError(f"{error}; the options are {listed}") from error
