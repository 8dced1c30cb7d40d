"""Small modules in the styles of public Lightning projects; none of them knows this library.

Each one trains on scikit-learn's digits, with 40 % of the training labels moved to another class.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

NUM_CLASSES = 10


# Data --------------------------------------------------------------------------------------------


@lru_cache
def digits(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images in [0, 1], observed labels, and true labels; the labels of the test split are all true."""
    bunch = load_digits()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(bunch.target), generator=generator)
    order = order[:1200] if split == "train" else order[1200:]
    images = torch.tensor(bunch.images, dtype=torch.float32)[order].unsqueeze(1) / 16
    clean = torch.tensor(bunch.target)[order]
    observed = clean.clone()
    if split == "train":
        wrong = torch.rand(len(clean), generator=generator) < 0.4
        shift = torch.randint(1, NUM_CLASSES, (len(clean),), generator=generator)
        observed[wrong] = (clean + shift)[wrong] % NUM_CLASSES
    return images, observed, clean


class DigitsDataset(Dataset[Any]):
    """Samples in the form that a project wants; has attributes, as the datasets of most projects."""

    classes = tuple(str(digit) for digit in range(NUM_CLASSES))

    def __init__(self, split: str, size: int, make_sample: Callable[[Tensor, Tensor], Any]) -> None:
        images, observed, clean = digits(split)
        self.images = images[:size]
        self.observed = observed[:size]
        self.clean = clean[:size]
        self.make_sample = make_sample

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.make_sample(self.images[index], self.observed[index])


def as_pair(image: Tensor, label: Tensor) -> Any:
    return image, label


class Project(L.LightningModule):
    """Has all but the training step: a small network, an optimizer, validation, test, and prediction."""

    make_sample: Callable[[Tensor, Tensor], Any] = staticmethod(as_pair)
    collate_fn: Callable[[list[Any]], Any] | None = None
    lr = 0.1
    num_outputs = NUM_CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, self.num_outputs))

    @classmethod
    def loader(cls, split: str = "train", size: int = 128, **options: Any) -> DataLoader[Any]:
        dataset = DigitsDataset(split, size, cls.make_sample)
        options = {"batch_size": 32, "shuffle": split == "train", "collate_fn": cls.collate_fn} | options
        return DataLoader(dataset, **options)

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Outputs and targets of a batch in evaluation."""
        x, y = batch
        return self(x), y

    def classes(self, outputs: Tensor) -> Tensor:
        """Predicted classes."""
        return outputs.argmax(1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        outputs, target = self.evaluate(batch)
        self.log("val_acc", (self.classes(outputs) == target).float().mean(), batch_size=len(target))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        outputs, target = self.evaluate(batch)
        self.log("test_acc", (self.classes(outputs) == target).float().mean(), batch_size=len(target))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.evaluate(batch)[0]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


# 1. The loss is a function in the step -------------------------------------------------------------


class FunctionalLoss(Project):
    """As in Lightning's tutorials; logs a metric object."""

    def __init__(self) -> None:
        super().__init__()
        self.train_acc = MulticlassAccuracy(NUM_CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        self.train_acc(logits, y)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss, on_epoch=True)
        self.log("train_acc", self.train_acc, on_step=False, on_epoch=True)
        return loss


class LogProbabilities(Project):
    """``forward`` returns log-probabilities for ``F.nll_loss``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x), dim=1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.nll_loss(self(x), y)


class AudioClassifier(Project):
    """Dict batches with entries that are not tensors; logs a second loss after the one it trains."""

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return {"waveform": image.flatten(), "class_id": label, "sample_rate": 8000, "name": "recording"}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch["waveform"])
        loss = F.cross_entropy(logits, batch["class_id"], label_smoothing=0.1)
        self.log("train/nll", F.nll_loss(logits.log_softmax(1), batch["class_id"]), batch_size=len(logits))
        return {"loss": loss, "logits": logits.detach()}

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch["waveform"]), batch["class_id"]


class LogsAnotherLossFirst(Project):
    """Logs plain cross-entropy, with a graph, before the loss that it trains."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        self.log("train/plain", F.cross_entropy(logits, y))
        return F.cross_entropy(logits, y, label_smoothing=0.1)


class LogsWithoutGradients(Project):
    """Logs a second loss of the same function under ``no_grad``."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        with torch.no_grad():
            self.log("train/plain", F.cross_entropy(logits, y))
        return F.cross_entropy(logits, y, label_smoothing=0.1)


# 2. The loss inside the model ---------------------------------------------------------------------


class ModelOutput(dict[str, Any]):
    """A dict whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class SequenceClassifier(nn.Module):
    """Embeds tokens, here the brightness of each pixel, and computes its own loss if it is given labels."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(17, 4)
        self.head = nn.Linear(64 * 4, NUM_CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> ModelOutput:
        embedded = self.tokens(input_ids) * attention_mask.unsqueeze(-1)
        logits = self.head(embedded.flatten(1))
        if labels is None:
            return ModelOutput(logits=logits)
        loss_function = nn.CrossEntropyLoss()
        return ModelOutput(loss=loss_function(logits.view(-1, NUM_CLASSES), labels.view(-1)), logits=logits)


def as_tokens(image: Tensor, label: Tensor) -> Any:
    input_ids = (image.flatten() * 16).round().long()
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": label}


class LossInModel(Project):
    """As with Hugging Face's models: ``self.model(**batch).loss``."""

    make_sample = staticmethod(as_tokens)

    def __init__(self) -> None:
        super().__init__()
        del self.net
        self.model = SequenceClassifier()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs = self.model(**batch)
        self.log("train_loss", outputs.loss, batch_size=len(outputs.logits))
        return outputs.loss

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.model(**batch).logits, batch["labels"]


# 3. Batches of other types ------------------------------------------------------------------------


class ImageDict(Project):
    """As in torchgeo: ``{"image", "label"}``, and a criterion."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return {"image": image, "label": label}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert type(batch) is dict
        return self.criterion(self(batch["image"]), batch["label"])

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch["image"]), batch["label"]


class TabularDict(Project):
    """As in pytorch-tabular: ``{"continuous", "target"}`` with targets ``(B, 1)``, squeezed by the step."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return {"continuous": image.flatten(), "target": label.view(1)}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(self(batch["continuous"]), batch["target"].squeeze(1))

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch["continuous"]), batch["target"].squeeze(1)


class GraphBatch:
    """Several graphs as one, as PyG has it: nodes, and for each node the number of its graph.

    It is no dataclass, so Lightning knows nothing of it but ``.to()``.
    """

    def __init__(self, x: Tensor, graph: Tensor, y: Tensor) -> None:
        self.x = x
        self.graph = graph
        self.y = y

    def to(self, device: Any, **options: Any) -> GraphBatch:
        return GraphBatch(self.x.to(device), self.graph.to(device), self.y.to(device))


def join_graphs(samples: list[Any]) -> GraphBatch:
    nodes = torch.cat([image[0] for image, _ in samples])  # each row of an image is a node with its place
    graph = torch.arange(len(samples)).repeat_interleave(8)
    return GraphBatch(nodes, graph, torch.stack([label for _, label in samples]))


class GraphClassifier(Project):
    """A batch is one large graph; nodes are encoded, and pooled to one row for each graph."""

    collate_fn = staticmethod(join_graphs)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
        self.head = nn.Linear(32, NUM_CLASSES)

    def forward(self, batch: GraphBatch) -> Tensor:
        num_graphs = int(batch.graph[-1]) + 1
        places = torch.eye(8, dtype=batch.x.dtype, device=batch.x.device).repeat(num_graphs, 1)
        nodes = self.net(torch.cat([batch.x, places], 1))
        pooled = nodes.new_zeros(num_graphs, 32).index_add(0, batch.graph, nodes)
        return self.head(pooled)

    def training_step(self, batch: GraphBatch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch), batch.y)
        self.log("train_loss", loss, batch_size=len(batch.y))
        return loss

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch), batch.y


class ListBatch(Project):
    """Lists of two tensors, which the step asks for by ``isinstance``."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, (list, tuple)):
            x, y = batch
        else:
            raise TypeError(f"unexpected batch: {type(batch)}")
        return F.cross_entropy(self(x), y)


class Example(NamedTuple):
    image: Tensor
    label: Tensor


class NamedTupleBatch(Project):
    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return Example(image, label)

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch.image), batch.label)


class Encoding(UserDict[str, Any]):
    """A mapping with attributes and ``.to()``, as a tokenizer returns it."""

    def __getattr__(self, name: str) -> Any:
        if name == "data" or name not in self.data:
            raise AttributeError(name)
        return self.data[name]

    def to(self, device: Any, **options: Any) -> Encoding:
        return Encoding({key: value.to(device) for key, value in self.data.items()})


def collate_encodings(samples: list[Any]) -> Encoding:
    return Encoding({key: torch.stack([sample[key] for sample in samples]) for key in samples[0]})


class EncodingBatch(LossInModel):
    """The same batch as a tokenizer's mapping; the step changes nothing of it but pops an entry."""

    collate_fn = staticmethod(collate_encodings)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert type(batch) is Encoding
        assert batch.labels is batch["labels"]
        return self.model(**batch).loss


# 4. What forward takes and returns ---------------------------------------------------------------


class ForwardDict(Project):
    def forward(self, x: Tensor) -> Any:
        features = self.net[:-1](x)
        return {"logits": self.net[-1](features), "features": features}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x)["logits"], y)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0])["logits"], batch[1]


class ForwardTuple(Project):
    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Any:
        features = self.net[:-1](x)
        return self.net[-1](features), features

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits, _ = self(x)
        return self.criterion(logits, y)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0])[0], batch[1]


class ForwardWithLabels(Project):
    """The network sees the labels, by which it takes a margin off the right logit."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = self.net(images)
        if labels is None:
            return logits
        return logits - 0.2 * F.one_hot(labels, NUM_CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x, y), y)


class TwoHeads(Project):
    """Two heads with a criterion each; only the one of the digits is named to the callback."""

    def __init__(self) -> None:
        super().__init__()
        self.parity_head = nn.Linear(32, 2)
        self.digit_loss = nn.CrossEntropyLoss()
        self.parity_loss = nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        features = self.net[:-1](x)
        loss = self.digit_loss(self.net[-1](features), y)
        return loss + 0.1 * self.parity_loss(self.parity_head(features), y % 2)


class AuxiliaryLoss(Project):
    """Adds a second loss by a function."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        return F.cross_entropy(logits, y) + 0.01 * F.mse_loss(logits, torch.zeros_like(logits))


class ScaledCrossEntropy(nn.CrossEntropyLoss):
    """Scales cosines before the softmax, as normalized heads need it."""

    scale = 12.0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(self.scale * input, target)


class CosineHead(Project):
    """Its logits lie in [-1, 1]; the criterion scales them."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = ScaledCrossEntropy()

    def forward(self, x: Tensor) -> Tensor:
        features = self.net[:-1](x)
        return F.normalize(features, dim=1) @ F.normalize(self.net[-1].weight, dim=1).T

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y)


# 5. Labels ----------------------------------------------------------------------------------------


class ColumnLabels(Project):
    """Labels ``(B, 1)``, as many medical and tabular sets have them."""

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, label.view(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y.squeeze(-1))

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), batch[1].squeeze(-1)


class OneHotLabels(Project):
    """One-hot rows, given to the loss as they are."""

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, F.one_hot(label, NUM_CLASSES).float()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), batch[1].argmax(1)


class LabelsFromOne(Project):
    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, label + 1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y - 1)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), batch[1] - 1


class FloatLabels(Project):
    """Labels that were read from a CSV file."""

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, label.double()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y.long())


class ByteLabels(Project):
    """torch's losses take uint8 as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, label.to(torch.uint8)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y)


class Int32Labels(Project):
    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, label.int()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y.long())


class MappedLabels(Project):
    """A table in the module maps the labels of the files to classes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(NUM_CLASSES).flip(0))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), self.table[y])

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), self.table[batch[1]]


class SoftMixup(Project):
    """Mixes inputs and one-hot labels by itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        target = F.one_hot(y, NUM_CLASSES).float()
        lam = 0.8
        mixed = lam * x + (1 - lam) * x.flip(0)
        return F.cross_entropy(self(mixed), lam * target + (1 - lam) * target.flip(0))


class TwoCallMixup(Project):
    """Mixes inputs by itself, and the losses of both labels."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        lam = 0.8
        logits = self(lam * x + (1 - lam) * x.flip(0))
        return lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y.flip(0))


# 6. Inputs and precision --------------------------------------------------------------------------


def as_bytes(image: Tensor, label: Tensor) -> Any:
    return (image * 16).to(torch.uint8), label


class NormalizedInStep(Project):
    """Images are numbers from 0 to 16 until the step."""

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image * 16, label

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x / 16), y)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0] / 16), batch[1]


class BytesInStep(Project):
    """Images are bytes until the step."""

    make_sample = staticmethod(as_bytes)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x.float() / 16), y)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0].float() / 16), batch[1]


class NormalizedAfterTransfer(Project):
    """Images are bytes until they are on the device; the hook returns a new batch."""

    make_sample = staticmethod(as_bytes)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        x, y = batch
        return x.float() / 16, y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)


class AugmentedInTraining(Project):
    """As with kornia on the device: the hook augments if the Trainer trains."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        x, y = batch
        if self.trainer.training:
            shift = int(torch.randint(-1, 2, ()))
            x = x.roll(shift, dims=-1)
        return x, y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)


class WithCriterion(Project):
    """A criterion and ``(x, y)``: what works best today."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y)


class CompiledNet(FunctionalLoss):
    """Compiles its network in the constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.net.compile(backend="eager")


class CompiledCriterion(WithCriterion):
    """Compiles its criterion in the constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion.compile(backend="eager")


# 8. Binary and multi-label ------------------------------------------------------------------------


class Binary(Project):
    """One output, of small against large digits, with targets ``(B,)`` of 0.0 and 1.0."""

    num_outputs = 1

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.BCEWithLogitsLoss()

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, (label >= 5).float()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x).squeeze(1), y)

    def classes(self, outputs: Tensor) -> Tensor:
        return (outputs.squeeze(1) > 0).float()


class BinaryColumn(Binary):
    """The function instead of the criterion, and targets ``(B, 1)``."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.binary_cross_entropy_with_logits(self(x), y.unsqueeze(1))


class MultiLabel(Project):
    """Several labels for each image: whether the digit is odd, large, and in [3, 6]."""

    num_outputs = 3

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.BCEWithLogitsLoss()

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        return image, torch.stack([label % 2, label >= 5, (label >= 3) & (label <= 6)]).float()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.criterion(self(x), y)

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), batch[1][:, 0]

    def classes(self, outputs: Tensor) -> Tensor:
        return (outputs[:, 0] > 0).float()


# 9. Dense prediction ------------------------------------------------------------------------------


class Segmentation(Project):
    """A class for every pixel; pixels at the border do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
        self.criterion = nn.CrossEntropyLoss(ignore_index=255)

    @staticmethod
    def make_sample(image: Tensor, label: Tensor) -> Any:
        mask = torch.full((8, 8), 255)
        mask[1:-1, 1:-1] = (image[0, 1:-1, 1:-1] * 2.99).long()
        if label % 2:
            mask[1:-1, 1:-1] = 2 - mask[1:-1, 1:-1]
        return {"image": image, "mask": mask}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.criterion(self(batch["image"]), batch["mask"])

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch["image"]), batch["mask"]


# 10. Criteria that change, or only seem to be the loss ---------------------------------------------


class ReplacedCriterion(WithCriterion):
    """Trains with another criterion from the second epoch on."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)


class LoggedCriterion(WithCriterion):
    """Its criterion is only logged; a function is trained."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        self.log("train_ce", self.criterion(logits, y))
        return F.cross_entropy(logits, y, label_smoothing=0.1)


class UnusedCriterion(WithCriterion):
    """Its criterion is for validation only; a function is trained."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", self.criterion(self(x), y))


class AverageOutput(Metric):
    """A metric that happens to have a ``reduction``."""

    def __init__(self) -> None:
        super().__init__()
        self.reduction = "mean"
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, target: Tensor) -> None:
        self.total += outputs.detach().sum()
        self.count += len(outputs)

    def compute(self) -> Tensor:
        return self.total / self.count


class MetricWithReduction(WithCriterion):
    def __init__(self) -> None:
        super().__init__()
        self.average = AverageOutput()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        self.average(logits, y)
        self.log("train_average", self.average)
        return self.criterion(logits, y)


class OwnFormula(Project):
    """Writes its loss down itself, so there is no call to see."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return -self(x).log_softmax(1).gather(1, y.unsqueeze(1)).mean()


class LogsCrossEntropy(OwnFormula):
    """Writes its loss down itself, and logs ``F.cross_entropy`` with its graph."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.log("train_ce", F.cross_entropy(self(x), y))
        return super().training_step(batch, batch_idx)


# 11. Steps that run several times, and manual optimization -------------------------------------------


class SAM(torch.optim.SGD):
    """Climbs to the worst weights nearby, runs the step again there, and descends by that gradient from here."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        run_step = torch.enable_grad()(closure)
        loss = run_step()
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        climbs = [0.05 * F.normalize(parameter.grad.flatten(), dim=0).view_as(parameter) for parameter in parameters]
        for parameter, climb in zip(parameters, climbs, strict=True):
            parameter += climb
        run_step()
        for parameter, climb in zip(parameters, climbs, strict=True):
            parameter -= climb
        super().step()
        return loss


class ClosureOptimizer(Project):
    """Its optimizer runs the training step twice for each batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        plain_loss = F.cross_entropy(torch.zeros(2, NUM_CLASSES, requires_grad=True), torch.tensor([0, 1]))
        self.log("log_num_classes", plain_loss.detach())

    def configure_optimizers(self) -> Any:
        return SAM(self.parameters(), lr=self.lr)


class SharpnessAware(Project):
    """SAM: two forward and backward passes for one step."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        optimizer = self.optimizers()
        weights = [parameter.detach().clone() for parameter in self.parameters()]
        self.manual_backward(F.cross_entropy(self(x), y))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += 0.05 * F.normalize(parameter.grad.flatten(), dim=0).view_as(parameter)
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self(x), y))
        with torch.no_grad():
            for parameter, weight in zip(self.parameters(), weights, strict=True):
                parameter.copy_(weight)
        optimizer.step()
        optimizer.zero_grad()


class TwoOptimizers(Project):
    """Manual optimization of a network and its head, one after the other, on one loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        body, head = self.optimizers()
        body.zero_grad()
        head.zero_grad()
        self.manual_backward(F.cross_entropy(self(x), y))
        body.step()
        head.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[1].parameters(), lr=0.1), torch.optim.SGD(self.net[3].parameters(), lr=0.1)]
