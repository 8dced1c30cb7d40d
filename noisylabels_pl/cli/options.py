"""The options and keys that the command line knows, for messages about those that it does not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# The installed package contains the configuration files; in a checkout they lie beside the package.
_INSTALLED = find_spec("noisylabels_pl.conf")
if _INSTALLED is not None and _INSTALLED.origin is not None:
    CONF_FOLDER = Path(_INSTALLED.origin).parent
else:
    CONF_FOLDER = Path(__file__).parents[2] / "conf"

CHOSEN_BY_DATA = ("noise", "net", "optim", "schedule", "trainer")
"""The groups whose options the file of a dataset chooses."""

_LEAST_SIMILARITY = 0.6  # as in difflib.get_close_matches


def group_options(group: str) -> list[str]:
    """Return the options of a configuration group, such as ``crust/cifar10_sym`` of ``experiment``.

    Example:
        >>> group_options("logger")
        ['csv', 'none', 'tensorboard', 'wandb']
    """
    folder = CONF_FOLDER / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def top_level_keys() -> set[str]:
    """Return the keys at the top of a configuration that something reads: those of ``config.yaml``, and the groups."""
    keys = {str(key) for key in OmegaConf.load(CONF_FOLDER / "config.yaml")} - {"defaults", "hydra"}
    groups = {path.name for path in CONF_FOLDER.iterdir() if path.is_dir()} - {"experiment", "__pycache__"}
    return keys | groups


def all_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Return all keys of a configuration, such as ``trainer.max_epochs``.

    Example:
        >>> all_keys(OmegaConf.create({"seed": 0, "trainer": {"max_epochs": 5}}))
        ['seed', 'trainer', 'trainer.max_epochs']
    """
    keys = []
    for name in map(str, config):
        keys.append(f"{prefix}{name}")
        # An interpolation need not resolve: the configuration may be the wrong one.
        if not OmegaConf.is_missing(config, name) and not OmegaConf.is_interpolation(config, name):
            value: Any = config[name]
            if isinstance(value, DictConfig):
                keys += all_keys(value, f"{prefix}{name}.")
    return keys


def sort_by_similarity(word: str, choices: Iterable[str]) -> list[str]:
    """Return the choices, the most similar to a word first.

    The last part of a name may be similar, too: ``max_epochs`` is near to ``trainer.max_epochs``.

    Example:
        >>> sort_by_similarity("max_epochs", ["seed", "trainer.max_epochs", "trainer.max_steps"])
        ['trainer.max_epochs', 'trainer.max_steps', 'seed']
    """
    return sorted(choices, key=lambda choice: -_similarity(word, choice))


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most similar to a word, or ``None`` if none is similar.

    Example:
        >>> nearest("methd", ["method", "name"])
        'method'
        >>> nearest("colour", ["method", "name"]) is None
        True
    """
    ordered = sort_by_similarity(word, choices)
    if not ordered or _similarity(word, ordered[0]) < _LEAST_SIMILARITY:
        return None
    return ordered[0]


def _similarity(word: str, choice: str) -> float:
    """Return a number from 0 to 1; equal names come before names with an equal last part."""
    group, last_word = _split(word)
    other_group, last_choice = _split(choice)
    of_last_parts = SequenceMatcher(None, last_word, last_choice).ratio()
    if group == other_group:  # in a group, all names are alike in their first part
        return of_last_parts
    return max(SequenceMatcher(None, word, choice).ratio(), 0.99 * of_last_parts)


def _split(name: str) -> tuple[str, str]:
    """Return the group, which may be empty, and the last part of a key or an option."""
    group, _, last = name.replace("/", ".").rpartition(".")
    return group, last
