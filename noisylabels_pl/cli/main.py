"""The command ``python -m noisylabels_pl``: compose a configuration, then train and report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from noisylabels_pl import __version__
from noisylabels_pl.cli.errors import JobFailedError, composition_message
from noisylabels_pl.cli.options import CONF_FOLDER

_IS_INSTALLED = find_spec("noisylabels_pl.conf") is not None
CONFIG_PATH = "pkg://noisylabels_pl.conf" if _IS_INSTALLED else str(CONF_FOLDER)
_FULL_ERROR = "HYDRA_FULL_ERROR"


def main() -> None:
    """Train and report one run, or the jobs of a sweep; a mistake ends it with one line and exit code 1."""
    if sys.argv[1:] == ["--version"]:
        versions = f"noisylabels_pl {__version__}, torch {version('torch')}, lightning {version('lightning')}"
        sys.stdout.write(versions + "\n")
        return
    # The console script starts without the working directory, where a user's own modules are; python -m has it.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    asked_for_traceback = os.environ.get(_FULL_ERROR)

    def job(config: DictConfig) -> float | None:
        # Imported here, so that --help need not wait for torch and Lightning.
        from noisylabels_pl.cli.report_run import run

        with _full_error(asked_for_traceback):
            return run(config)

    start = hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="config")(job)
    try:
        # Hydra then raises its errors instead of printing them, so that each can become a line with a remedy.
        with _full_error("1"):
            start()
    except KeyboardInterrupt:  # before the first epoch; later ones are handled where they can be resumed
        sys.exit(130)
    except JobFailedError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException, OSError) as error:
        if asked_for_traceback is not None:
            raise
        sys.exit(f"error: {composition_message(error)}\n({_FULL_ERROR}=1 shows where)")


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    """Set the environment variable by which Hydra decides whether to raise errors; ``None`` removes it."""
    before = os.environ.pop(_FULL_ERROR, None)
    if value is not None:
        os.environ[_FULL_ERROR] = value
    try:
        yield
    finally:
        os.environ.pop(_FULL_ERROR, None)
        if before is not None:
            os.environ[_FULL_ERROR] = before
