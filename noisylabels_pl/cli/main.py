"""The command ``python -m noisylabels_pl``: compose a configuration, then train and report."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import hydra
from omegaconf import DictConfig

# The installed package contains the configuration files; in a checkout they lie beside the package.
_IS_INSTALLED = find_spec("noisylabels_pl.conf") is not None
CONFIG_PATH = "pkg://noisylabels_pl.conf" if _IS_INSTALLED else str(Path(__file__).parents[2] / "conf")


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="config")
def main(config: DictConfig) -> float | None:
    """Train and report one run.

    Returns:
        The number that a sweeper may maximize, see :func:`noisylabels_pl.cli.report_run.run`.
    """
    # Imported here, so that --help need not wait for torch and Lightning.
    from noisylabels_pl.cli.report_run import run

    return run(config)
