"""Train by ELR in a Lightning Fabric loop, on digits of which 40 % have a wrong label.

Callbacks change the one loss of a Trainer's step. Your own loop calls the functions: two lines are ELR.

    python examples/fabric.py
"""

import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl.functional import corrupt_labels, elr_penalty, ema_targets, transition_matrix

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
noisy = corrupt_labels(y, transition_matrix("sym", 10, rate=0.4), generator=torch.Generator().manual_seed(0))
train_set = TensorDataset(x[:1200], noisy[:1200], torch.arange(1200))  # with the position of each sample


def train(lam, beta=0.7):
    """Return the accuracy on test images with right labels; `lam` weighs ELR's penalty."""
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    network, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9))
    loader = fabric.setup_dataloaders(DataLoader(train_set, batch_size=32, shuffle=True))
    targets = torch.zeros(len(train_set), 10, device=fabric.device)  # averages of its predictions, for each sample
    for _ in range(30):
        for inputs, labels, index in loader:
            logits = network(inputs)
            probs = logits.softmax(1)
            targets[index] = ema_targets(targets[index], probs, beta)
            penalty = elr_penalty(probs, targets[index], eps=1e-4)
            loss = (F.cross_entropy(logits, labels, reduction="none") + lam * penalty).mean()
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
    with torch.no_grad():
        predicted = network(x[1200:].to(fabric.device)).argmax(1).cpu()
    return (predicted == y[1200:]).float().mean().item()


plain = train(lam=0.0)
robust = train(lam=3.0)
print(f"test accuracy: {plain:.1%} with cross-entropy, {robust:.1%} with ELR")
