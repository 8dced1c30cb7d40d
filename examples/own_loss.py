"""Train with a robust loss of your own, and change nothing in your module.

A loss is an `nn.Module` that obeys `self.reduction`, as torch's losses do. `RobustLoss` puts it in the place of the
module's loss in training; validation keeps the module's. A callback that filters samples combines with it.

    python examples/own_loss.py
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import RobustLoss
from noisylabels_pl.functional import corrupt_labels, transition_matrix


class SymmetricCrossEntropy(nn.Module):
    """Cross-entropy plus reverse cross-entropy with log 0 = -4 (Wang et al., https://arxiv.org/abs/1908.06112)."""

    def __init__(self, alpha=0.1, beta=1.0, reduction="mean"):
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.reduction = reduction

    def forward(self, logits, labels):
        reverse = 4 * (1 - logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1))
        losses = self.alpha * F.cross_entropy(logits, labels, reduction="none") + self.beta * reverse
        return {"none": losses, "mean": losses.mean(), "sum": losses.sum()}[self.reduction]


class DigitClassifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.network(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
noisy = corrupt_labels(y, transition_matrix("sym", 10, rate=0.4), generator=torch.Generator().manual_seed(0))


def train(callbacks):
    """Return the accuracy on test images with right labels."""
    torch.manual_seed(0)
    module = DigitClassifier()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=40, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **options)
    trainer.fit(module, DataLoader(TensorDataset(x[:1200], noisy[:1200]), batch_size=32, shuffle=True))
    with torch.no_grad():
        return (module.network(x[1200:]).argmax(1) == y[1200:]).float().mean().item()


plain = train([])
robust = train([RobustLoss(SymmetricCrossEntropy())])
print(f"test accuracy: {plain:.1%} with cross-entropy, {robust:.1%} with symmetric cross-entropy")
