"""What is known of each method: its class, its options and variants, and the words of ``docs/methods.yaml``."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from omegaconf import OmegaConf

from noisylabels_pl.core import BatchFilter, FilterCallback, Needs, StagedMethod, TwinModule

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
NO_NEEDS = Needs(positions=False, tasks=("classification", "regression"))  # of a plain callback


@dataclass(frozen=True)
class Option:
    """An option of a method: a line of its file in ``conf/method``."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Method:
    """A method, with everything that its page says.

    Attributes:
        name: on the command line.
        words: its entry in ``methods.yaml``.
        cls: the class that its configuration names.
        options: in the order of its configuration.
        variants: configurations that inherit from it, by name, with their first comment and what they change.
    """

    name: str
    words: dict[str, Any]
    cls: type
    options: list[Option]
    variants: dict[str, tuple[str, list[Option]]]

    @property
    def docstring(self) -> str:
        return inspect.cleandoc(self.cls.__doc__ or "")

    @property
    def paper(self) -> tuple[str, str]:
        """The title and the address of the paper, from the docstring."""
        title, link = re.search(r"`([^`<]+)\s+<(http[^>]+)>`_", self.docstring).groups()
        return " ".join(title.split()), link

    @property
    def is_drop_in(self) -> bool:
        """Whether it works in a module of the user's own."""
        return not issubclass(self.cls, (TwinModule, StagedMethod))

    @property
    def tasks(self) -> tuple[str, ...]:
        owner = getattr(self.cls, "needs", NO_NEEDS) if issubclass(self.cls, L.Callback) else self.cls
        return tuple(owner.tasks)

    @property
    def positions(self) -> str:
        """When it needs the positions of the samples: it remembers something of each, or chooses among all."""
        if issubclass(self.cls, FilterCallback):
            return "only with a second forward pass"
        if issubclass(self.cls, TwinModule):
            return "yes"
        return yes_or_no(issubclass(self.cls, L.Callback) and getattr(self.cls, "needs", NO_NEEDS).positions)

    @property
    def told(self) -> list[str]:
        """The variants that are told the noise rate."""
        return [name for name, (_, changes) in self.variants.items() if any("noise.rate" in o.default for o in changes)]


def methods() -> list[Method]:
    """Return all methods, in the order of ``methods.yaml``."""
    words = OmegaConf.to_container(OmegaConf.load(DOCS / "methods.yaml"))
    files = {path.stem: path.read_text() for path in sorted((ROOT / "conf" / "method").glob("*.yaml"))}
    found = []
    for name, entry in words.items():
        target = re.search(r"^_target_: (\S+)$", files[name], re.MULTILINE)[1]
        module, _, class_name = target.rpartition(".")
        variants = {}
        for variant, text in files.items():
            if variant != name and _ancestors(variant, files)[-1] == name:
                comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
                changes = {
                    option.name: option
                    for file in _ancestors(variant, files)[-2::-1]
                    for option in _options(files[file])
                }
                variants[variant] = (comment, list(changes.values()))
        cls = getattr(importlib.import_module(module), class_name)
        found.append(Method(str(name), entry, cls, _options(files[name]), variants))
    return found


def _ancestors(variant: str, files: dict[str, str]) -> list[str]:
    """Return a configuration, the one that it inherits from, and so on to the method's own."""
    chain = [variant]
    while parent := re.search(r"^defaults:\n  - (\w+)$", files[chain[-1]], re.MULTILINE):
        chain.append(parent[1])
    return chain


def _options(text: str) -> list[Option]:
    """Return the options in a configuration, with their comments."""
    lines = re.findall(r"^(\w+): (\S+)(?: # (.*))?$", text, re.MULTILINE)
    return [Option(*line) for line in lines if line[0] not in ("_target_", "_partial_")]


def python_default(cls: type, option: Option) -> str | None:
    """Return the class's default of an option where it is another than that of the command line."""
    for candidate in (cls, BatchFilter):
        parameter = inspect.signature(candidate).parameters.get(option.name)
        if parameter is not None:
            break
    else:
        raise ValueError(f"{cls.__name__} has no option {option.name}")
    if parameter.default is inspect.Parameter.empty:
        return "none, give one"
    default = _yaml(parameter.default)
    if option.name in ("ramp_epochs", "second_forward") and issubclass(cls, TwinModule):
        return None  # FilterTwin sets these two
    is_same = default == option.default or yaml.safe_load(option.default) == parameter.default
    return None if is_same or option.default.startswith("${") else f"`{default}`"


def _yaml(value: Any) -> str:
    """Return a value as the configurations write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def yes_or_no(is_so: bool) -> str:
    """Return a fact for a table."""
    return "yes" if is_so else "no"
