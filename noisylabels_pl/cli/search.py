"""The command ``python -m noisylabels_pl.search``: choose hyper-parameters on the noisy validation split."""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from noisylabels_pl.cli.cells import SweepCell, make_cells
from noisylabels_pl.cli.errors import composition_message
from noisylabels_pl.cli.run_cells import run_cells
from noisylabels_pl.cli.run_files import best_validation_score, read_result
from noisylabels_pl.cli.sweep import positive_int

if TYPE_CHECKING:
    import optuna

_DESCRIPTION = """
Choose options by Optuna: each trial is a run of the command line, and its value is the best accuracy (in regression R2)
on the noisy validation split, so neither true labels nor the test set are used. The options to choose have a set of
values: method.fraction=interval(0.2,0.8), optim.lr=tag(log,interval(0.001,1)), data.batch_size=32,64. The same command
goes on with an interrupted search, and one with more trials extends it.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, and print the best options with the command that uses them.

    Args:
        arguments: of the command line; ``sys.argv`` if not given.
    """
    options = _parser().parse_intermixed_args(arguments)
    console = Console()
    try:
        overrides = OverridesParser.create().parse_overrides(options.overrides)
        study = open_study(options.folder, overrides)
        while len(_finished(study)) < options.trials:
            _run_trial(study, overrides, options, console)
    except ImportError:
        sys.exit("error: a search needs Optuna; pip install optuna")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {composition_message(error)}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    best = study.best_trial
    chosen = [f"{key}={value}" for key, value in best.params.items()]
    console.print(f"best of {len(_finished(study))} trials: {' '.join(chosen)}", soft_wrap=True, highlight=False)
    console.print(f"  noisy-validation score {best.value:.4f}, trial {best.number}", highlight=False)
    command = ["python", "-m", "noisylabels_pl", *_fixed(overrides), *chosen]
    console.print(f"  {shlex.join(command)}", soft_wrap=True, highlight=False, markup=False)


def open_study(folder: Path, overrides: Sequence[Override]) -> optuna.Study:
    """Return the study that lies in a folder, or a new one.

    Args:
        folder: of the study and of all its runs.
        overrides: of the command line.

    Raises:
        ValueError: no override has a set of values, or the folder has a study of other overrides.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    if not any(override.is_sweep_override() for override in overrides):
        raise ValueError("there is nothing to choose; give an option a set of values: optim.lr=interval(0.01,0.1)")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    lines = sorted(str(override.input_line) for override in overrides)
    known = study.user_attrs.get("overrides", lines)
    if known != lines:
        raise ValueError(f"--folder {folder} has the search {' '.join(known)}; name another folder")
    study.set_user_attr("overrides", lines)
    # A sampler with the seed of the first session would propose the same random points again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # of a search that was interrupted
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _run_trial(
    study: optuna.Study, overrides: Sequence[Override], options: argparse.Namespace, console: Console
) -> None:
    """Run one trial on all seeds, and tell the study its value."""
    trial = study.ask()
    chosen = [_suggest(trial, override) for override in overrides if override.is_sweep_override()]
    seeds = f"seed={','.join(options.seeds)}"
    cells = make_cells([*_fixed(overrides), *chosen, seeds], options.folder, options.config_dir)
    missing = [cell for cell in cells if not cell.is_finished]
    failed = run_cells(missing, options.jobs, [], console)
    if failed:
        raise ValueError(f"a run failed: {failed[0].title}; its output is in {failed[0].folder / 'log.txt'}")
    value = statistics.fmean(validation_score(cell) for cell in cells)
    study.tell(trial, value)
    console.print(f"trial {trial.number}: {value:.4f} {' '.join(chosen)}", soft_wrap=True, highlight=False)


def _suggest(trial: optuna.Trial, override: Override) -> str:
    """Return an override with one value of its set."""
    key = str(override.get_key_element())
    values = override.value()
    if isinstance(values, IntervalSweep):
        is_log = "log" in values.tags
        if isinstance(values.start, int) and isinstance(values.end, int):
            return f"{key}={trial.suggest_int(key, values.start, values.end, log=is_log)}"
        return f"{key}={trial.suggest_float(key, float(values.start or 0), float(values.end or 1), log=is_log)}"
    return f"{key}={trial.suggest_categorical(key, list(override.sweep_string_iterator()))}"


def validation_score(cell: SweepCell) -> float:
    """Return the best noisy-validation score of a finished run.

    Raises:
        ValueError: the run has no validation split, or every score is NaN.
    """
    score = best_validation_score(read_result(cell.folder) or {})
    if score is None:
        raise ValueError(f"{cell.title} has no validation split to choose by; set data.val_fraction=0.1")
    return score


def _fixed(overrides: Sequence[Override]) -> list[str]:
    return [str(override.input_line) for override in overrides if not override.is_sweep_override()]


def _finished(study: optuna.Study) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m noisylabels_pl.search", description=_DESCRIPTION)
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as of python -m noisylabels_pl")
    parser.add_argument("--trials", type=positive_int, default=20, help="of the whole search (default: 20)")
    parser.add_argument("--seeds", type=lambda text: text.split(","), default=["0"], help="of each trial (default: 0)")
    parser.add_argument("--jobs", type=positive_int, default=1, help="how many seeds at the same time (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path("search"), help="of all runs (default: search)")
    parser.add_argument("--config-dir", type=Path, help="a folder of configuration files of your own")
    return parser
