"""MNIST."""

from __future__ import annotations

from noisylabels_pl.data.datasets.idx_images import IdxImages

# The confusions of handwriting of "Making Deep Neural Networks Robust to Label Noise"
# (https://arxiv.org/abs/1609.03683), section 5.
ASYMMETRIC_MAP = {"7": "1", "2": "7", "3": "8", "5": "6", "6": "5"}


class MNIST(IdxImages):
    """Serve MNIST: 60,000 + 10,000 gray images of 28x28 pixels in 10 classes, read by torchvision.

    Args:
        root: the folder that holds ``MNIST/raw/``.
        download: whether to download the files if they are not there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a file is missing or damaged.

    Example:
        >>> data = MNIST("data", download=True, train_size=10_000)
        >>> data.setup()  # doctest: +SKIP
    """

    torchvision_name = "MNIST"
    class_names = "0123456789"
    asymmetric_map = ASYMMETRIC_MAP
    mean_and_std = (0.1307, 0.3081)
