"""The samples that noise is confined to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.files import read_probabilities
from noisylabels_pl.data.noise.classes import class_number
from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.functional import check_range, label_margins

_FORMS = "{classes: [cat, dog]}, {halfspace: 0.3} or {hardest: 0.3, probabilities: FILE}"


def choose_region(confined_to: Mapping[str, Any], samples: NoiseInput, generator: torch.Generator) -> Tensor:
    """Return the samples that noise may touch.

    Args:
        confined_to: one of

            - ``{"classes": [...]}``: the samples of some classes, by name or number;
            - ``{"halfspace": f}``: the fraction ``f`` of the samples whose standardized features lie farthest in a
              random direction;
            - ``{"hardest": f, "probabilities": path}``: the fraction ``f`` with the smallest margins
              (:func:`~noisylabels_pl.functional.label_margins`) in a network's predicted probabilities, see
              :func:`~noisylabels_pl.data.files.read_probabilities`.
        samples: of the whole training set.
        generator: draws the direction.

    Returns:
        ``(k,)`` int64 indices, ascending.

    Raises:
        ValueError: ``confined_to`` is none of these, a class does not exist, or the region is empty.
        FileNotFoundError: there is no file with this path.

    Example:
        >>> samples = NoiseInput(torch.tensor([0, 1, 0]), ("cat", "dog"), torch.arange(3), 3)
        >>> choose_region({"classes": ["cat"]}, samples, torch.Generator())
        tensor([0, 2])
    """
    keys = set(confined_to) if isinstance(confined_to, Mapping) else set()
    if keys == {"classes"}:
        inside = _of_classes(confined_to["classes"], samples)
    elif keys == {"halfspace"}:
        check_range("confined_to.halfspace", confined_to["halfspace"], "(0, 1]")
        inside = _smallest(-_projections(samples, generator), confined_to["halfspace"])
    elif keys == {"hardest", "probabilities"}:
        check_range("confined_to.hardest", confined_to["hardest"], "(0, 1]")
        path = Path(confined_to["probabilities"])
        probs = read_probabilities(
            path, "confined_to.probabilities", num_samples=len(samples.labels), num_classes=len(samples.class_names)
        )
        inside = _smallest(label_margins(probs, samples.labels), confined_to["hardest"])
    else:
        raise ValueError(f"confined_to must be {_FORMS}, got {confined_to}")
    if not len(inside):
        raise ValueError(f"confined_to={dict(confined_to)} holds no sample")
    return inside


def _of_classes(names: Any, samples: NoiseInput) -> Tensor:
    """Return the indices of the samples of some classes."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        names = [names]
    numbers = [class_number(name, samples.class_names, "confined_to.classes") for name in names]
    return torch.isin(samples.labels, torch.tensor(numbers, dtype=torch.int64)).nonzero().squeeze(1)


def _projections(samples: NoiseInput, generator: torch.Generator) -> Tensor:
    """Return ``(n,)`` coordinates of the standardized features along a random direction."""
    coordinates = torch.zeros(len(samples.labels))
    direction: Tensor | None = None
    for batch, x in samples.batches(torch.arange(len(samples.labels)), "confined_to.halfspace"):
        if direction is None:
            direction = torch.randn(x.shape[1], generator=generator)
        coordinates[batch] = x @ direction
    return coordinates


def _smallest(values: Tensor, fraction: float) -> Tensor:
    """Return the indices of a fraction of the values, the smallest ones, ascending."""
    count = round(fraction * len(values))
    return values.sort(stable=True).indices[:count].sort().values
