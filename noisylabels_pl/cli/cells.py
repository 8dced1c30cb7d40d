"""The cells of a sweep: each is one run, in a folder that follows from its configuration."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from noisylabels_pl.cli.errors import unknown_key_message
from noisylabels_pl.cli.main import CONFIG_PATH
from noisylabels_pl.cli.run_files import RESULT
from noisylabels_pl.report.tables.grid import settings_of

LOSS_GROUP = "method.loss"
"""The group of losses that a method may have inside; it is named as the key, so that the key chooses from it."""


@dataclass(frozen=True)
class SweepCell:
    """One run of a sweep.

    Attributes:
        overrides: of the run's command line, without its folder.
        folder: of the run.
        config_dir: a folder of the user's own configuration files, if any.
    """

    overrides: tuple[str, ...]
    folder: Path
    config_dir: Path | None = None

    @property
    def title(self) -> str:
        """The overrides in one line."""
        return " ".join(self.overrides)

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result."""
        return (self.folder / RESULT).is_file()

    def command(self, extra: Sequence[str] = ()) -> list[str]:
        """Return the command that runs the cell, or goes on with it, as often as it is started.

        Args:
            extra: further overrides, such as ``threads=1``.
        """
        config_dir = [] if self.config_dir is None else [f"--config-dir={self.config_dir}"]
        folder = f"hydra.run.dir={json.dumps(str(self.folder), ensure_ascii=False)}"
        overrides = [*self.overrides, *extra, folder, "resume=auto"]
        return [sys.executable, "-m", "noisylabels_pl", *config_dir, *overrides]


def make_cells(overrides: Sequence[str], root: Path, config_dir: Path | None = None) -> list[SweepCell]:
    """Return the cells of a sweep: all combinations of the values that are separated by commas.

    An option of a method, such as ``method.fraction``, applies to the methods that have it. So do a loss inside a
    method, ``method.loss``, and the options of that loss.

    Args:
        overrides: in Hydra's grammar, such as ``method=ce,crust`` and ``seed=range(3)``.
        root: the folder of all cells. A cell's folder in it follows from the cell's configuration, so that the same
            cell is found again, whatever else is in the sweep.
        config_dir: a folder of the user's own configuration files.

    Raises:
        ValueError: no method of the sweep has an option; the message has the nearest one.
        HydraException: an override cannot be read, or names an option that does not exist.
    """
    cells: dict[Path, SweepCell] = {}
    with composer(config_dir):
        used: set[str] = set()
        readable: dict[tuple[str, ...], set[str]] = {}  # keys of methods and losses that some overrides choose
        wanted = {key for key in map(_key, overrides) if key.startswith("method.")}
        for combination in _combinations(overrides):
            general = tuple(override for override in combination if _key(override) not in wanted)
            losses = tuple(override for override in combination if _key(override) == LOSS_GROUP)
            choice = (*(override for override in general if _key(override) != "seed"), *losses)
            if wanted and choice not in readable:
                readable[choice] = _readable_keys(choice, config_dir)
            applicable = [override for override in combination if _key(override) in readable.get(choice, ())]
            used.update(map(_key, applicable))
            chosen = (*general, *applicable)
            folder = root / _folder_name(chosen, config_dir)
            cells[folder] = SweepCell(chosen, folder, config_dir)
    for key in sorted(wanted - used):
        known = {name for names in readable.values() for name in names}
        raise ValueError(unknown_key_message(key, sorted(known)))
    return list(cells.values())


def _readable_keys(overrides: Sequence[str], config_dir: Path | None) -> set[str]:
    """Return the options of a method and of the loss inside it, and ``method.loss`` if the method takes a loss."""
    without_loss = compose([override for override in overrides if _key(override) != LOSS_GROUP], config_dir).method
    keys = {f"method.{name}" for name in without_loss}
    has_loss = any(_key(override) == LOSS_GROUP for override in overrides)
    if not has_loss:
        return keys
    from noisylabels_pl.cli.build import takes_loss  # imports torch, for which other sweeps need not wait

    if takes_loss(without_loss):
        loss = compose(overrides, config_dir).method.loss
        keys |= {LOSS_GROUP, *(f"{LOSS_GROUP}.{name}" for name in loss)}
    return keys


def _combinations(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the overrides of each cell; the last key varies fastest."""
    choices = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_sweep_override():
            choices.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([str(override.input_line)])
    yield from itertools.product(*choices)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def composer(config_dir: Path | None) -> Any:
    """Return a context in which configurations are composed as the command line composes them."""
    GlobalHydra.instance().clear()
    if CONFIG_PATH.startswith("pkg://"):
        return hydra.initialize_config_module(CONFIG_PATH.removeprefix("pkg://"), version_base="1.3")
    return hydra.initialize_config_dir(CONFIG_PATH, version_base="1.3")


def compose(overrides: Sequence[str], config_dir: Path | None, **options: Any) -> DictConfig:
    """Return the configuration of a command line, inside of the context of :func:`composer`.

    Args:
        overrides: in Hydra's grammar, such as ``method=ce``.
        config_dir: a folder of the user's own configuration files, if any.
        **options: for ``hydra.compose``.
    """
    search_path = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.resolve()}]"]
    config: DictConfig = hydra.compose("config", overrides=[*overrides, *search_path], **options)
    return config


def _folder_name(overrides: Sequence[str], config_dir: Path | None) -> Path:
    """Return the folder of a cell, such as ``digits-sym-0.4/crust/seed0-1f0c7a21``."""
    config = compose(overrides, config_dir, return_hydra_config=True)
    names: dict[str, str] = dict(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    content: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    settings = settings_of(content, with_seeds=True)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    parts = [names["data"], names["noise"]]
    if content["noise"].get("rate") is not None:
        parts.append(f"{content['noise']['rate']}")
    return Path("-".join(parts)) / names["method"] / f"seed{content['seed']}-{digest}"
