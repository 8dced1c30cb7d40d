"""Use a robust loss in manual optimization: GCE with sharpness-aware minimization (SAM), which takes two passes a step.

The loss is the module's own criterion, so no callback is needed. Plain SAM, with cross-entropy, stands beside it.

    python examples/manual_optimization.py
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import GCELoss
from noisylabels_pl.functional import corrupt_labels, transition_matrix


class SharpnessAware(L.LightningModule):
    """Take the gradient at the worst weights nearby, and step from where the weights were."""

    def __init__(self, criterion, radius=0.05):
        super().__init__()
        self.automatic_optimization = False
        self.network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        self.criterion = criterion
        self.radius = radius

    def training_step(self, batch, batch_idx):
        x, y = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.criterion(self.network(x), y))
        gradients = [parameter.grad.clone() for parameter in self.parameters()]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        self.move([self.radius * gradient / norm for gradient in gradients])
        optimizer.zero_grad()
        self.manual_backward(self.criterion(self.network(x), y))
        self.move([-self.radius * gradient / norm for gradient in gradients])
        optimizer.step()

    @torch.no_grad()
    def move(self, steps):
        for parameter, step in zip(self.parameters(), steps, strict=True):
            parameter += step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
noisy = corrupt_labels(y, transition_matrix("sym", 10, rate=0.4), generator=torch.Generator().manual_seed(0))


def train(criterion):
    """Return the accuracy on test images with right labels."""
    torch.manual_seed(0)
    module = SharpnessAware(criterion)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=30, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(module, DataLoader(TensorDataset(x[:1200], noisy[:1200]), batch_size=32, shuffle=True))
    with torch.no_grad():
        return (module.network(x[1200:]).argmax(1) == y[1200:]).float().mean().item()


plain = train(nn.CrossEntropyLoss())
robust = train(GCELoss(q=0.7))
print(f"test accuracy: {plain:.1%} with cross-entropy, {robust:.1%} with GCE")
