"""Classes by name or number, and the maps between them that asymmetric noise follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.noise.noise_input import NoiseInput
from noisylabels_pl.functional import transition_matrix

_MAPS = "dataset, superclass, blocks, elr_released, derangement, crust_released"
# The first permutation without fixed points that NumPy draws from seed 0, as the public code of CRUST does.
_CRUST_DERANGEMENT = (2, 8, 4, 9, 1, 6, 7, 3, 0, 5)
_BLOCK_SIZE = 5  # the superclasses of CIFAR-100 have five classes each


def class_number(name: str | int, class_names: Sequence[str], argument: str = "map") -> int:
    """Return the number of a class that is given by name or by number; a name that is a number wins.

    Args:
        name: the name or number.
        class_names: of all classes.
        argument: the argument that names the class, for the message.

    Raises:
        ValueError: there is no such class.

    Example:
        >>> class_number("dog", ("cat", "dog")), class_number(0, ("cat", "dog"))
        (1, 0)
    """
    if str(name) in class_names:
        return class_names.index(str(name))
    if isinstance(name, int) and 0 <= name < len(class_names):
        return name
    raise ValueError(f"{argument} names class {name!r}, but the classes are {', '.join(class_names)}")


def asymmetric_matrix(
    map: str | Mapping[str | int, str | int], rate: float, samples: NoiseInput, generator: torch.Generator
) -> Tensor:
    """Return the transition matrix of noise that mistakes a class for one other class.

    Args:
        map: the option of :class:`~noisylabels_pl.data.LabelNoise`.
        rate: the probability that a label is replaced.
        samples: with the dataset's own map and superclasses.
        generator: draws a derangement.

    Returns:
        ``(C, C)`` float64.

    Raises:
        ValueError: ``map`` is unknown, names a class that does not exist, or needs what the dataset does not have.
    """
    num_classes = len(samples.class_names)
    if map == "elr_released":
        return _matrix_class_by_class(num_classes, rate, _by_number(samples.asymmetric_map, samples.class_names))
    return transition_matrix("asym", num_classes, rate, mapping=_mapping(map, samples, generator))


def _mapping(map: Any, samples: NoiseInput, generator: torch.Generator) -> dict[int, int]:
    """Return the map of classes that an option chooses, by number."""
    num_classes = len(samples.class_names)
    if isinstance(map, Mapping):
        return _by_number(map, samples.class_names)
    if map == "dataset":
        return _by_number(samples.asymmetric_map, samples.class_names)
    if map == "derangement":
        return _random_derangement(num_classes, generator)
    if map == "crust_released":
        return _crust_derangement(num_classes)
    if map == "blocks":
        return _next_in_group([number // _BLOCK_SIZE for number in range(num_classes)])
    if map == "superclass":
        if samples.superclasses is None:
            raise ValueError("map=superclass: this dataset has no superclasses; take map=blocks, or give a map by name")
        if len(samples.superclasses) != num_classes:
            raise ValueError(
                f"superclasses must name one for each of the {num_classes} classes, got {len(samples.superclasses)}"
            )
        return _next_in_group(samples.superclasses)
    raise ValueError(f"map must be {_MAPS} or a mapping of classes, got {map!r}")


def _by_number(mapping: Mapping[Any, Any], class_names: Sequence[str]) -> dict[int, int]:
    """Return a map of classes with numbers for names."""
    if not mapping:
        raise ValueError("this dataset has no asymmetric map; give one, such as map={cat: dog, dog: cat}")
    return {
        class_number(source, class_names): class_number(destination, class_names)
        for source, destination in mapping.items()
    }


def _next_in_group(groups: Sequence[int | str]) -> dict[int, int]:
    """Return the map of each class to the next one of its group, and of the last one to the first."""
    members: dict[int | str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    mapping: dict[int, int] = {}
    for numbers in members.values():
        if len(numbers) > 1:  # a class that is alone stays clean
            mapping.update(pairwise([*numbers, numbers[0]]))
    return mapping


def _random_derangement(num_classes: int, generator: torch.Generator) -> dict[int, int]:
    """Return a random permutation that maps no class to itself, drawn by rejection."""
    while True:
        permutation = torch.randperm(num_classes, generator=generator)
        if (permutation != torch.arange(num_classes)).all():
            return dict(enumerate(permutation.tolist()))


def _crust_derangement(num_classes: int) -> dict[int, int]:
    """Return the permutation of the public code of CRUST."""
    if num_classes != len(_CRUST_DERANGEMENT):
        raise ValueError(
            f"map=crust_released is for {len(_CRUST_DERANGEMENT)} classes, got {num_classes}; use map=derangement"
        )
    return dict(enumerate(_CRUST_DERANGEMENT))


def _matrix_class_by_class(num_classes: int, rate: float, mapping: Mapping[int, int]) -> Tensor:
    """Return the transition matrix of corrupting class after class, by number, where later ones see earlier flips."""
    T = transition_matrix("none", num_classes, 0.0)
    for true_class in sorted(mapping):
        T = T @ transition_matrix("asym", num_classes, rate, mapping={true_class: mapping[true_class]})
    return T
