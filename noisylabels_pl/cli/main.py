"""``python -m noisylabels_pl``: compose a configuration, train, report."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import hydra
from omegaconf import DictConfig

# An installed package carries the configs inside; in a checkout that is not installed they lie beside it.
_INSTALLED = find_spec("noisylabels_pl.conf") is not None
_CONFIG_PATH = "pkg://noisylabels_pl.conf" if _INSTALLED else str(Path(__file__).parents[2] / "conf")


@hydra.main(version_base="1.3", config_path=_CONFIG_PATH, config_name="config")
def main(config: DictConfig) -> float | None:
    """One run; returns the accuracy that a sweeper may maximize (see ``report_run.run``)."""
    from noisylabels_pl.cli.report_run import run  # torch and Lightning, which --help does not need

    return run(config)
