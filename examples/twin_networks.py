"""Train two networks that choose each other's samples: Co-teaching, on digits of which 40 % have a wrong label.

A method of two networks is a module, not a callback: it makes its networks, and predicts the mean of their outputs.
Co-teaching must be told what fraction to drop.

    python examples/twin_networks.py
"""

from functools import partial

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import Classifier, CoTeaching, indexed
from noisylabels_pl.functional import corrupt_labels, transition_matrix

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
noisy = corrupt_labels(y, transition_matrix("sym", 10, rate=0.4), generator=torch.Generator().manual_seed(0))


def make_network():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))


def train(module):
    """Return the accuracy on test images with right labels, which the module measures by itself."""
    train_loader = DataLoader(TensorDataset(x[:1200], noisy[:1200]), batch_size=32, shuffle=True)
    test_loader = DataLoader(TensorDataset(x[1200:], y[1200:]), batch_size=600)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=30, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(module, indexed(train_loader), test_loader)
    return trainer.callback_metrics["val/acc"].item()


optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
torch.manual_seed(0)
plain = train(Classifier(make_network(), 10, optimizer))
pair = train(CoTeaching(make_network, 10, optimizer, forget_rate=0.4))
print(f"test accuracy: {plain:.1%} of one network alone, {pair:.1%} of two that choose each other's samples")
