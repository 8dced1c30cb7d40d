"""Learning with wrong labels, in PyTorch Lightning."""

import lazy_loader

__version__ = "0.1.0"

# The names of __init__.pyi, imported when first used, so that `import noisylabels_pl` does not import torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
