"""The line that tells a mistake on the command line: the argument, its value and the remedy."""

from __future__ import annotations

import errno
import inspect
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.utils import get_object
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from noisylabels_pl.cli.options import CHOSEN_BY_DATA, all_keys, group_options, nearest, sort_by_similarity

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_PLUGINS = {
    "submitit_slurm": "hydra-submitit-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "joblib": "hydra-joblib-launcher",
}
"""The packages that bring launchers."""


class JobFailedError(CompactHydraException):
    """A job of a sweep failed, and its line is printed; Hydra goes on with the next job."""


def error_message(error: BaseException) -> str:
    r"""Return an error's message in one line, with the configuration group in front if the error names one.

    Args:
        error: raised by a wrong setting. Where a class that Hydra instantiates raises an error, Hydra wraps it into an
            ``InstantiationException`` that names the group as ``full_key``. OmegaConf appends such lines to its own
            messages.

    Returns:
        The message of the innermost error, such as ``data: batch_size must be positive, got 0``.

    Example:
        >>> cause = ValueError("batch_size must be positive, got 0")
        >>> error = InstantiationException("Error in call to target 'Digits'\nfull_key: data")
        >>> error.__cause__ = cause
        >>> error_message(error)
        'data: batch_size must be positive, got 0'
        >>> error_message(cause)
        'batch_size must be positive, got 0'
    """
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value; set it: {error.full_key}=VALUE"
    group = None
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        group = _full_key(error) or group
        error = error.__cause__
    message = str(error)
    if isinstance(error, (InstantiationException, OmegaConfBaseException)):
        message = message.splitlines()[0]
        full_key = _full_key(error)
        if full_key is not None and full_key not in message:
            group = full_key
    return message if group is None else f"{group}: {message}"


def file_error_message(error: OSError, folder: Path) -> str:
    """Return the line for a file that cannot be read or written during a run.

    Args:
        error: the system's, which names no file if the disk is full, or one with a message of this library.
        folder: of the run.

    Returns:
        The line; of a full disk with the remedy.

    Example:
        >>> file_error_message(OSError(errno.ENOSPC, "No space left on device"), Path("runs/1"))
        'runs/1: No space left on device; make room on this disk'
        >>> file_error_message(FileNotFoundError("there is no checkpoint last.ckpt"), Path("runs/1"))
        'there is no checkpoint last.ckpt'
    """
    message = str(error)
    if error.strerror is not None:
        message = f"{error.filename or folder}: {error.strerror}"
    return f"{message}; make room on this disk" if error.errno in _DISK_IS_FULL else message


def composition_message(error: HydraException | OmegaConfBaseException | OSError) -> str:
    r"""Return the line for a command line that Hydra cannot compose, or whose folder it cannot make.

    Args:
        error: raised by Hydra before the run started.

    Returns:
        The line. It names the nearest key or option, where Hydra advises to add a key that nothing reads.

    Example:
        >>> composition_message(OverrideParseException("data.root=~/x", "LexerNoViableAltException: data.root=~/x"))
        'data.root=~/x cannot be read; quote the value: \'data.root="~/x"\''
    """
    if isinstance(error, OverrideParseException):
        return _parse_message(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return _missing_option_message(error.missing_cfg_file, error.options or ())
    if isinstance(error, ConfigCompositionException):
        return _unknown_key_message(error)
    if isinstance(error, OSError):
        reason = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
        remedy = "set hydra.run.dir, in a sweep hydra.sweep.dir, to a folder that you may write to"
        if error.errno in _DISK_IS_FULL:
            remedy = "make room on this disk, or set hydra.run.dir, in a sweep hydra.sweep.dir, to a folder on another"
        return f"the run's folder cannot be written ({reason}); {remedy}"
    return error_message(error)


def _parse_message(override: str) -> str:
    """Return the line for an override that is not in Hydra's grammar."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} is no setting; write KEY=VALUE, as in seed=1, without spaces around ="
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    quoted = f'{key}="{escaped}"'
    return f"{override} cannot be read; quote the value: {shlex.quote(quoted)}"


def _missing_option_message(file: str, options: Sequence[str]) -> str:
    """Return the line for an option that its group does not have."""
    group, _, option = file.removeprefix("hydra/").partition("/")
    if file.startswith("hydra/"):
        group = f"hydra/{group}"
    if option in _PLUGINS:
        return f"{group}={option} is a plugin of Hydra that is not installed; pip install {_PLUGINS[option]}"
    ordered = sort_by_similarity(option, sorted({*options, *group_options(group)}))
    if not ordered:
        return f"there is no configuration {file}"
    return f"there is no {group}={option}; the options, the nearest first: {', '.join(ordered)}"


def _unknown_key_message(error: ConfigCompositionException) -> str:
    """Return the line for a key that the configuration does not have, or for another fault of an override."""
    match = re.match(r"Could not override '(.+)'", str(error))
    if match is not None and match[1] in CHOSEN_BY_DATA:
        return missing_groups_message([match[1]])
    cause = error.__cause__
    if match is None or not isinstance(cause, OmegaConfBaseException) or not isinstance(cause.parent_node, DictConfig):
        return " ".join(str(error).split())
    group, dot, argument = str(cause.full_key).rpartition(".")
    if argument in _arguments_of(cause.parent_node.get("_target_")):
        target = cause.parent_node["_target_"]
        return f"{match[1]} is not in the configuration, but {target} takes it; add it by +{match[1]}=..."
    keys = all_keys(cause.parent_node, group + dot)
    if not group.startswith("hydra"):
        keys = [key for key in keys if not key.startswith("hydra")]
    return unknown_key_message(match[1], keys)


def missing_groups_message(groups: Sequence[str]) -> str:
    """Return the line for the file of a dataset that leaves out groups which it must choose from.

    Example:
        >>> missing_groups_message(["noise"])
        'the file of data= chooses no noise; begin it with the line "defaults: [base, _self_]", which chooses all'
    """
    return (
        f'the file of data= chooses no {", ".join(groups)}; begin it with the line "defaults: [base, _self_]", which '
        "chooses all"
    )


def _arguments_of(target: Any) -> set[str]:
    """Return the arguments of a class and of those that it inherits from, or of a function; none if it is not found."""
    if target is None:  # Hydra would log an error of its own
        return set()
    try:
        found = get_object(target)
    except Exception:  # such as an error in a module of the user, which is told when the class is made
        return set()
    makers = found.__mro__[:-1] if inspect.isclass(found) else [found]
    return {name for maker in makers for name in inspect.signature(maker).parameters}


def unknown_key_message(key: str, keys: Sequence[str]) -> str:
    """Return the line for a key that nothing reads.

    Args:
        key: as the command line has it.
        keys: those that something reads, at the same place.

    Example:
        >>> unknown_key_message("max_epochs", ["seed", "trainer", "trainer.max_epochs"])
        'nothing reads max_epochs; the nearest key is trainer.max_epochs'
        >>> unknown_key_message("method.colour", ["method.lam", "method.beta"])
        'nothing reads method.colour; there are method.lam, method.beta'
    """
    similar = nearest(key, keys)
    if similar is not None:
        return f"nothing reads {key}; the nearest key is {similar}"
    shown = [name for name in keys if not name.endswith(("_target_", "_partial_"))]
    return f"nothing reads {key}; there are {', '.join(shown)}"


def _full_key(error: BaseException) -> str | None:
    """Return the configuration key that Hydra and OmegaConf name in a line ``full_key: ...`` of their messages."""
    match = re.search(r"^ *full_key: (.+)$", str(error), re.MULTILINE)
    return None if match is None else match[1]
