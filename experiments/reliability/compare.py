"""What differs between the files of two runs, apart from times, memory and where the folders lie."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

# Hydra's own notes of the command line; W&B's and TensorBoard's folders.
_LEFT_OUT = (".hydra", "wandb", "tensorboard")
_TIMES = ("seconds", "seconds_per_epoch", "peak_memory_mib")
_PLACES = ("folder", "started_in", "save_dir")


def differences(one: Path, other: Path, ignored: Collection[str] = ()) -> list[str]:
    """Return what differs between two folders of runs, a line for each; nothing if all is equal bit for bit.

    Args:
        one: the folder of a run.
        other: the folder of a run.
        ignored: keys of configurations that may differ.
    """
    names, other_names = _file_names(one), _file_names(other)
    found = [f"{name}: only in {one}" for name in sorted(names - other_names)]
    found += [f"{name}: only in {other}" for name in sorted(other_names - names)]
    skipped = {*_TIMES, *_PLACES, *ignored}
    for name in sorted(names & other_names):
        found += _compare(_content(one / name), _content(other / name), name, skipped)
    return found


def _file_names(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(_LEFT_OUT)}


def _content(path: Path) -> Any:
    """Return what a file holds, as values that can be compared."""
    if path.suffix in (".ckpt", ".pt"):
        return torch.load(path, map_location="cpu", weights_only=True)
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".yaml":
        return OmegaConf.to_container(OmegaConf.load(path))
    if path.suffix == ".csv":
        with path.open() as file:
            return list(csv.DictReader(file))
    return path.read_bytes()


def _compare(one: Any, other: Any, where: str, skipped: Collection[str]) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        kept = [key for key in {**one, **other} if key not in skipped and not str(key).endswith("_s")]
        missing = [f"{where}[{key!r}]: only in one" for key in kept if (key in one) != (key in other)]
        shared = [key for key in kept if key in one and key in other]
        return missing + [
            line for key in shared for line in _compare(one[key], other[key], f"{where}[{key!r}]", skipped)
        ]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return [f"{where}: {len(one)} items, and {len(other)}"]
        pairs = zip(one, other, strict=True)
        return [line for i, pair in enumerate(pairs) for line in _compare(*pair, f"{where}[{i}]", skipped)]
    return [] if _is_equal(one, other) else [f"{where}: {_short(one)}, and {_short(other)}"]


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(type(one) is type(other) and (one == other or (one != one and other != other)))


def _short(value: Any) -> str:
    return str(value).replace("\n", " ")[:60]
