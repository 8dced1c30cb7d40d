"""What noise sees of a training set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from noisylabels_pl.data.samples import Samples

_BATCH_SIZE = 1024  # images that are decoded at once


@dataclass(frozen=True)
class NoiseInput:
    """Hold the samples whose labels noise may change, with the facts that it depends on.

    Attributes:
        labels: ``(n,)`` int64 labels, or ``(n, q)`` targets, of these samples.
        class_names: one name for each class, or for each coordinate of the targets.
        positions: ``(n,)`` int64 positions of these samples in the training set.
        dataset_size: the number of samples of the whole training set.
        asymmetric_map: the dataset's own map of classes, by name.
        superclasses: the number or name of each class's superclass; ``None`` if there are none.
        features: of the whole training set, in memory or not.
        mean: of the features; broadcasts against one sample.
        spread: the standard deviation of the features; broadcasts against one sample.

    Example:
        >>> samples = NoiseInput(torch.tensor([0, 1, 0]), ("cat", "dog"), torch.arange(3), 3)
        >>> samples.at(torch.tensor([2])).positions
        tensor([2])
    """

    labels: Tensor
    class_names: Sequence[str]
    positions: Tensor
    dataset_size: int
    asymmetric_map: Mapping[str, str] = field(default_factory=dict)
    superclasses: Sequence[int | str] | None = None
    features: Samples | None = None
    mean: Tensor | None = None
    spread: Tensor | None = None

    def at(self, indices: Tensor) -> NoiseInput:
        """Return some of the samples.

        Args:
            indices: ``(k,)`` int64, into ``labels`` and ``positions``.
        """
        return replace(self, labels=self.labels[indices], positions=self.positions[indices])

    def batches(self, indices: Tensor, argument: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield standardized features, batch by batch, so that images need not be decoded all at once.

        Args:
            indices: ``(k,)`` int64, into ``labels`` and ``positions``.
            argument: what needs the features, for the message.

        Yields:
            The indices of a batch, ``(b,)``, and the features, ``(b, d)`` float32.

        Raises:
            ValueError: the features, their mean or their spread are missing, or the samples are no features, or differ
                from one reading to the next.
        """
        if self.features is None or self.mean is None or self.spread is None:
            raise ValueError(f"{argument} needs the features of the samples, their mean and their spread")
        if self.features.dtype == torch.int64:
            raise ValueError(f"{argument} needs features, but these samples are numbers of words; take another noise")
        if not isinstance(self.features, Tensor) and not self.features.is_fixed:
            raise ValueError(
                f"{argument} needs samples that are the same at each reading, but random transforms change these; take "
                "another noise"
            )
        for batch in torch.split(indices, _BATCH_SIZE):
            x = (self.features[self.positions[batch]].float() - self.mean) / self.spread
            yield batch, x.flatten(1)
