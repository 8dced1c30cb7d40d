"""A regression problem in the shape of PRL's, generated."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays, regression_arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.noise import LabelNoise


class SyntheticRegression(NoisyDataModule):
    """512 features like those of a network's last layer, and 10 targets that depend on what is behind the features.

    Standard-normal causes ``u`` make features ``relu(u B) + e`` and targets ``u C + tanh(u D) + e'``, with matrices
    that are the same for every ``seed``. The noise ``e'`` is a share of the targets' variance that nothing can predict,
    so the R2 of the best prediction is ``1 - unpredictable``.

    Args:
        num_samples: a fifth of them is the test set; PRL's features of CelebA are 19,962.
        num_causes: length of ``u``.
        unpredictable: that share, in ``[0, 1)``; 0.1 puts plain training on clean targets near the R2 of the paper.
        noise: see :class:`NoisyDataModule`, like the rest.
        **common: see :class:`NoisyDataModule`.
    """

    def __init__(
        self,
        noise: LabelNoise | None = None,
        *,
        num_samples: int = 19962,
        num_causes: int = 20,
        unpredictable: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(noise, **common)
        for name, value, least in (("num_samples", num_samples, 10), ("num_causes", num_causes, 1)):
            if int(value) != value or value < least:
                raise ValueError(f"data.{name} must be a whole number of at least {least}, got {value}")
        if not 0 <= unpredictable < 1:
            raise ValueError(f"data.unpredictable must lie in [0, 1), got {unpredictable}")
        self.num_samples = num_samples
        self.num_causes = num_causes
        self.unpredictable = unpredictable

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(512)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        to_features, linear, bent = (normal(self.num_causes, n) / math.sqrt(self.num_causes) for n in (512, 10, 10))
        u = normal(self.num_samples, self.num_causes)
        x = (u @ to_features).relu() + 0.1 * normal(self.num_samples, 512)
        y = u @ linear + (2 * u @ bent).tanh()
        signal = y.std(0)
        y = y + signal * math.sqrt(self.unpredictable / (1 - self.unpredictable)) * normal(*y.shape)
        rows, tested = torch.arange(self.num_samples), self.num_samples // 5
        names, origin = tuple(f"target {i}" for i in range(10)), f"synthetic_regression of {self.num_samples} samples"
        return regression_arrays(x, y, rows[tested:], rows[:tested], names=names, origin=origin)
