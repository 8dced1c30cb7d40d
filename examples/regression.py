"""Regression with wrong targets: in the diabetes study, a fifth of the training targets is entered in another unit.

PRL(L) drops the samples of each batch with the largest gradients at the output. Plain training and the Huber loss, the
usual remedy for outliers, stand beside it.

    python examples/regression.py
"""

import lightning as L
import torch
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import PRLLossLayer, indexed


class ProgressionModel(L.LightningModule):
    def __init__(self, criterion):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
        self.criterion = criterion

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.criterion(self.network(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.003)


features, targets = load_diabetes(return_X_y=True)
order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
x = torch.tensor(features, dtype=torch.float32)[order] * len(features) ** 0.5  # standard deviation 1
y = torch.tensor(targets, dtype=torch.float32)[order].unsqueeze(1)
observed = y[:350].clone()
observed[:70] *= 10  # the order is random, so these are random patients
observed = (observed - y[:350].median()) / y[:350].std()


def train(criterion, callbacks):
    """Return R2 on patients with right targets."""
    torch.manual_seed(0)
    module = ProgressionModel(criterion)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=30, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **options)
    trainer.fit(module, indexed(DataLoader(TensorDataset(x[:350], observed), batch_size=32, shuffle=True)))
    with torch.no_grad():
        predicted = module.network(x[350:]) * y[:350].std() + y[:350].median()
    return r2_score(y[350:], predicted)


plain = train(nn.MSELoss(), [])
huber = train(nn.HuberLoss(), [])
robust = train(nn.MSELoss(), [PRLLossLayer(forget_rate=0.25)])
print(f"test R2: {plain:.2f} plain, {huber:.2f} with the Huber loss, {robust:.2f} with PRL(L)")
