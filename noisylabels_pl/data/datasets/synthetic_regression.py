"""A generated regression problem in the shape of PRL's."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays, regression_arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.noise import Noise
from noisylabels_pl.functional import check_range

NUM_FEATURES = 512
NUM_TARGETS = 10


class SyntheticRegression(NoisyDataModule):
    r"""Serve a generated regression problem: 512 features and 10 targets that depend on common hidden causes.

    The features resemble those of a network's last hidden layer. With standard-normal causes :math:`u` and fixed random
    matrices,

    .. math::
        x = \mathrm{relu}(u B) + e, \qquad y = u C + \tanh(2 u D) + e'.

    The matrices are the same for every ``seed``. The noise :math:`e'` has the fraction ``unpredictable`` of the
    variance of the targets, so the best possible R2 is ``1 - unpredictable``.

    Args:
        noise: see :class:`~noisylabels_pl.data.NoisyDataModule`.
        num_samples: the number of samples, at least 10; a fifth of them is the test set. The default is the number of
            CelebA images that PRL (Liu et al., ICLR 2021 submission) uses.
        num_causes: the length of ``u``.
        unpredictable: the fraction of the targets' variance that the features do not determine, in ``[0, 1)``. 0.1 puts
            plain training on clean targets near the R2 of the paper.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> from noisylabels_pl.data import LabelNoise
        >>> data = SyntheticRegression(LabelNoise("signflip", rate=0.4), num_samples=100, val_fraction=0.0)
        >>> data.setup()
        >>> data.arrays.x_train.shape, data.arrays.y_train.shape, data.arrays.y_test.shape
        (torch.Size([80, 512]), torch.Size([80, 10]), torch.Size([20, 10]))
    """

    def __init__(
        self,
        noise: Noise | None = None,
        *,
        num_samples: int = 19962,
        num_causes: int = 20,
        unpredictable: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(noise, **common)
        check_range("num_samples", num_samples, "[10, inf)", integer=True)
        check_range("num_causes", num_causes, "[1, inf)", integer=True)
        check_range("unpredictable", unpredictable, "[0, 1)")
        self.num_samples = num_samples
        self.num_causes = num_causes
        self.unpredictable = unpredictable

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(512)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        scale = math.sqrt(self.num_causes)
        B = normal(self.num_causes, NUM_FEATURES) / scale
        C = normal(self.num_causes, NUM_TARGETS) / scale
        D = normal(self.num_causes, NUM_TARGETS) / scale
        u = normal(self.num_samples, self.num_causes)
        x = (u @ B).relu() + 0.1 * normal(self.num_samples, NUM_FEATURES)
        y = u @ C + (2 * u @ D).tanh()
        noise_to_signal = math.sqrt(self.unpredictable / (1 - self.unpredictable))
        y = y + y.std(0) * noise_to_signal * normal(*y.shape)
        indices = torch.arange(self.num_samples)
        test_size = self.num_samples // 5
        return regression_arrays(
            x,
            y,
            indices[test_size:],
            indices[:test_size],
            names=tuple(f"target {number}" for number in range(NUM_TARGETS)),
            origin=f"synthetic_regression of {self.num_samples} samples",
        )
