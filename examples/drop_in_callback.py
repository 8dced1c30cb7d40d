"""Add one callback to your own project: a torchvision network, and a folder of images of which 40 % are misfiled.

`ImageClassifier` knows nothing of noisylabels_pl. ELR needs two changes: `indexed(...)` around the loader that `fit`
gets, and `callbacks=[ELR()]`.

    python examples/drop_in_callback.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms import Compose, Resize, ToTensor

from noisylabels_pl import ELR, indexed
from noisylabels_pl.functional import corrupt_labels, transition_matrix


class ImageClassifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("accuracy", (self.network(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def save_images(folder, images, labels):
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = Path(folder, str(label), f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(path)


def train(folder, callbacks):
    torch.manual_seed(0)
    to_tensor = Compose([Resize(16), ToTensor()])
    train_loader = DataLoader(ImageFolder(f"{folder}/train", to_tensor), batch_size=32, shuffle=True)
    test_loader = DataLoader(ImageFolder(f"{folder}/test", to_tensor), batch_size=400)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=6, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **options)
    trainer.fit(ImageClassifier(), indexed(train_loader), test_loader)
    return trainer.callback_metrics["accuracy"].item()


digits = load_digits(n_class=4)
labels = torch.tensor(digits.target)
noisy = corrupt_labels(labels, transition_matrix("sym", 4, rate=0.4), generator=torch.Generator().manual_seed(0))
with TemporaryDirectory() as folder:
    save_images(f"{folder}/train", digits.images[:400], noisy[:400])
    save_images(f"{folder}/test", digits.images[400:], labels[400:])
    plain = train(folder, [])
    robust = train(folder, [ELR()])
print(f"test accuracy: {plain:.1%} without the callback, {robust:.1%} with ELR")
