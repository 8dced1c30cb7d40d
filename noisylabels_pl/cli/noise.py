"""The command ``python -m noisylabels_pl.noise``: preview the noise of a run without training."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from noisylabels_pl.cli.errors import composition_message, error_message
from noisylabels_pl.cli.run_files import ORIGIN

if TYPE_CHECKING:
    from noisylabels_pl.data import NoisyDataModule

_DESCRIPTION = """
Preview the labels that a run would train on, without training: counts, the realized noise rate and the transition
matrix T[i, j], the fraction of class i that is observed as class j. The overrides are those of a run, such as
data=digits noise=asym noise.rate=0.3 seed=1, and the labels are those that the run would have.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a preview of the labels, and write it if the command line says so.

    Args:
        arguments: of the command line; ``sys.argv`` if not given.
    """
    options = _parser().parse_intermixed_args(arguments)
    try:
        preview(options.overrides, options.output, options.config_dir, Console())
    except (HydraException, OmegaConfBaseException) as error:  # some of them are a ValueError or an OSError, too
        _end_with(composition_message(error), error)
    except (ValueError, TypeError, OSError) as error:
        _end_with(error_message(error), error)


def preview(overrides: Sequence[str], output: Path | None, config_dir: Path | None, console: Console) -> None:
    """Show the labels that a run would have.

    Args:
        overrides: of the run's command line.
        output: a folder that gets ``noise.png`` and ``noise.npz``, if given.
        config_dir: a folder of the user's own configuration files, if any.
        console: to print to.

    Raises:
        ValueError: an option is out of range, or ``output`` is the folder of a run.
        OSError: a file cannot be read or written.
        HydraException: an override cannot be read, or names an option that does not exist.
    """
    # Imported here, so that --help need not wait for torch and Lightning.
    from noisylabels_pl.cli.cells import compose, composer
    from noisylabels_pl.report.noise_preview import draw_noise, noise_tables

    if output is not None and (output / ORIGIN).exists():
        raise ValueError(
            f"--output: {output} is the folder of a run, whose noise.npz would be overwritten; take another"
        )
    with composer(config_dir):
        config = compose(overrides, config_dir, return_hydra_config=True)
        names = config.hydra.runtime.choices
        datamodule = _labeled_data(config)
    rate = config.noise.get("rate")
    noise = names["noise"] if rate is None else f"{names['noise']} {rate}"
    title = f"{noise} on {names['data']}, seed {config.noise.get('seed', config.seed)}"
    labels, class_names = datamodule.labels, datamodule.arrays.class_names
    for table in noise_tables(labels, class_names, title):
        console.print(table)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        draw_noise(labels, class_names, title, output / "noise.png")
        labels.save(output / "noise.npz")
        console.print(f"Files: {output.absolute()}", soft_wrap=True, highlight=False, markup=False)


def _labeled_data(config: DictConfig) -> NoisyDataModule:
    """Return the configured data, with their labels corrupted as a run does it."""
    import torch
    from hydra.utils import instantiate

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    noise = instantiate(config.noise, _convert_="all")
    datamodule: NoisyDataModule = instantiate(config.data, noise=noise)
    datamodule.setup()
    return datamodule


def _end_with(message: str, error: Exception) -> NoReturn:
    """End with one line, or with the traceback that a developer asked for."""
    if "HYDRA_FULL_ERROR" in os.environ:
        raise error
    sys.exit(f"error: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m noisylabels_pl.noise", description=_DESCRIPTION)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run, such as noise.rate=0.3")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write noise.png (a picture of T) and noise.npz there"
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own configuration files")
    return parser
