"""Which runs make a cell, and which must not be averaged."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisylabels_pl.report.tables.rows import Row

# Keys that do not change what a run measures, whatever their group.
_IGNORED = ("num_workers", "resident", "root", "path", "download")
_IGNORED_GROUPS = ("name", "resume", "threads", "logger", "checkpoint", "progress", "compile", "channels_last")
_IGNORED_TRAINER = ("accelerator", "log_every_n_steps", "num_sanity_val_steps")


@dataclass
class Cell:
    """The runs of one method on one dataset with one noise; they differ in their seeds.

    Attributes:
        finished: runs with numbers.
        unfinished: runs without a result.
    """

    finished: list[Row]
    unfinished: list[Row]


@dataclass
class Grid:
    """The cells of a table.

    Attributes:
        methods: labels of the rows: a method, and the options that tell its runs apart.
        problems: labels of the columns: data and noise.
        metrics: ``acc`` or ``r2`` for each problem.
        cells: by method and problem; a cell without any run is missing.
    """

    methods: list[str]
    problems: list[str]
    metrics: dict[str, str]
    cells: dict[tuple[str, str], Cell]


def make_grid(rows: Sequence[Row], by: Sequence[str] = ()) -> Grid:
    """Return the cells that some runs belong to.

    Runs are told apart by their data and noise, by their method and its options, and by the keys of ``by``. Runs that
    differ in anything else but their seed are not averaged.

    Args:
        rows: see :data:`~noisylabels_pl.report.tables.rows.Row`.
        by: further keys of the configuration, such as ``trainer.max_epochs``, or groups, such as ``optim``.

    Raises:
        ValueError: runs of a cell differ in a key that changes what they measure, in their data, or have the same
            seed. The message names the key or the folders.
    """
    settings = [settings_of(row["config"]) for row in rows]
    problems = _labels(rows, settings, _problem_name, lambda key: key.startswith(("data.", "noise.")))
    methods = _method_labels(rows, settings, problems, by)
    grid = Grid(list(dict.fromkeys(methods)), list(dict.fromkeys(problems)), {}, {})
    members: dict[tuple[str, str], list[int]] = {}
    for number, cell in enumerate(zip(methods, problems, strict=True)):
        members.setdefault(cell, []).append(number)
    for (method, problem), numbers in members.items():
        title = f"{method} on {problem}"
        _check_same_settings(title, [settings[number] for number in numbers])
        grid.cells[method, problem] = _cell(title, [rows[number] for number in numbers])
    for problem in grid.problems:
        finished = [row for row, other in zip(rows, problems, strict=True) if other == problem and row["finished"]]
        _check_same_data(problem, finished)
        grid.metrics[problem] = finished[0]["metric"] if finished else "acc"
    return grid


def _cell(title: str, rows: Sequence[Row]) -> Cell:
    """Return the cell of some runs; an unfinished run that another one repeated does not count."""
    finished: dict[Any, Row] = {}
    for row in rows:
        seed = row["config"]["seed"]
        if row["finished"] and seed in finished:
            folders = " and ".join(str(other.get("folder", "a saved row")) for other in (finished[seed], row))
            raise ValueError(f"two runs of {title} have seed {seed}: {folders}; leave one of them out")
        if row["finished"]:
            finished[seed] = row
    unfinished = [row for row in rows if not row["finished"] and row["config"]["seed"] not in finished]
    return Cell(list(finished.values()), unfinished)


def settings_of(config: Mapping[str, Any], *, with_seeds: bool = False) -> dict[str, Hashable]:
    """Return a configuration by dotted key, without keys that do not change what a run measures.

    Args:
        config: resolved.
        with_seeds: whether seeds are among them.

    Example:
        >>> settings_of({"seed": 0, "threads": 2, "data": {"root": "/data", "batch_size": 32}})
        {'data.batch_size': 32}
    """
    settings: dict[str, Hashable] = {}
    for group, value in config.items():
        if group in _IGNORED_GROUPS:
            continue
        for key, leaf in _leaves(group, value):
            last = key.rpartition(".")[2]
            is_trainer = group == "trainer" and (last in _IGNORED_TRAINER or last.startswith("enable_"))
            is_ignored = last in _IGNORED or is_trainer or (last == "seed" and not with_seeds)
            if not is_ignored:
                settings[key] = leaf
    return settings


def _leaves(key: str, value: Any) -> Iterable[tuple[str, Hashable]]:
    """Yield the leaves of a nested configuration by dotted key; a list is a leaf."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _leaves(f"{key}.{name}", child)
    else:
        yield key, str(value) if isinstance(value, list) else value


def _problem_name(row: Row) -> str:
    """Return data and noise, such as ``digits, sym 0.4``."""
    rate = row["config"]["noise"].get("rate")
    name = f"{row['data']['name']}, {row['noise']['name']}"
    return name if rate is None else f"{name} {rate}"


def _labels(
    rows: Sequence[Row],
    settings: Sequence[Mapping[str, Hashable]],
    name_of: Callable[[Row], str],
    is_shown: Callable[[str], bool],
) -> list[str]:
    """Return the name of each run, followed by the shown keys in which runs of this name differ."""
    names = [name_of(row) for row in rows]
    differing: dict[str, list[str]] = {}
    for name in set(names):
        own = [setting for setting, other in zip(settings, names, strict=True) if other == name]
        differing[name] = [key for key in _differing_keys(own) if is_shown(key)]
    labels = []
    for name, setting in zip(names, settings, strict=True):
        options = [f"{_short(key)}={setting.get(key)}" for key in differing[name]]
        labels.append(" ".join([name, *options]))
    return labels


def _method_labels(
    rows: Sequence[Row], settings: Sequence[Mapping[str, Hashable]], problems: Sequence[str], by: Sequence[str]
) -> list[str]:
    """Return the label of each run's method: its name, and the options in which its runs differ on one problem.

    An option that follows from the problem, such as a forget rate that is the noise rate, is not in the label.
    """
    shown: dict[str, set[str]] = {}
    groups: dict[tuple[str, str], list[Mapping[str, Hashable]]] = {}
    for row, setting, problem in zip(rows, settings, problems, strict=True):
        groups.setdefault((row["method"], problem), []).append(setting)
    for (method, _), own in groups.items():
        keys = {key for key in _differing_keys(own) if key.startswith("method.") or _is_in(key, by)}
        shown.setdefault(method, set()).update(keys)
    labels = []
    for row, setting in zip(rows, settings, strict=True):
        options = [f"{_short(key)}={setting.get(key)}" for key in sorted(shown[row["method"]])]
        labels.append(" ".join([row["method"], *options]))
    return labels


def _short(key: str) -> str:
    """Return a key as labels have it: a method's options are known to be the method's."""
    return key.removeprefix("method.")


def _is_in(key: str, groups: Sequence[str]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _differing_keys(settings: Sequence[Mapping[str, Hashable]]) -> list[str]:
    """Return the keys that do not have one value in all settings, in order of appearance."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return [key for key in keys if len({setting.get(key, "missing") for setting in settings}) > 1]


def _check_same_settings(title: str, settings: Sequence[Mapping[str, Hashable]]) -> None:
    keys = _differing_keys(settings)
    if keys:
        values = ", ".join(sorted({str(setting.get(keys[0], "missing")) for setting in settings}))
        others = f", and in {', '.join(keys[1:4])}" if len(keys) > 1 else ""
        raise ValueError(
            f"runs of {title} differ in {keys[0]}: {values}{others}; show them apart by --by {keys[0]}, or leave some "
            "out"
        )


def _check_same_data(problem: str, rows: Sequence[Row]) -> None:
    """Raise unless all runs have the same samples, or all runs of a seed have those that the seed generates."""
    hashes: dict[Any, set[str]] = {}
    for row in rows:
        hashes.setdefault(row["config"]["seed"], set()).add(row["data"]["sha256"])
    all_hashes = {value for values in hashes.values() for value in values}
    if len(all_hashes) > 1 and (len(all_hashes) < len(hashes) or any(len(values) > 1 for values in hashes.values())):
        raise ValueError(
            f"runs on {problem} have different data: SHA-256 {', '.join(sorted(value[:12] for value in all_hashes))}; "
            "leave some out"
        )
