"""Fashion-MNIST."""

from __future__ import annotations

from noisylabels_pl.data.datasets.idx_images import IdxImages

CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
# "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels"
# (https://arxiv.org/abs/1805.07836), section 4.1.
ASYMMETRIC_MAP = {"boot": "sneaker", "sneaker": "sandal", "pullover": "shirt", "coat": "dress", "dress": "coat"}


class FashionMNIST(IdxImages):
    """Serve Fashion-MNIST: 60,000 + 10,000 gray images of 28x28 pixels in 10 classes, read by torchvision.

    Args:
        root: the folder that holds ``FashionMNIST/raw/``.
        download: whether to download the files if they are not there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a file is missing or damaged.

    Example:
        >>> data = FashionMNIST("data", download=True, flip=True)
        >>> data.setup()  # doctest: +SKIP
    """

    torchvision_name = "FashionMNIST"
    class_names = CLASS_NAMES
    asymmetric_map = ASYMMETRIC_MAP
    mean_and_std = (0.2860, 0.3530)
