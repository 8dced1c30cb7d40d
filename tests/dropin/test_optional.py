"""The real libraries, where they are installed: nothing of them is needed by this one."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from noisylabels_pl import ELR, SPL, Classifier, CoPRL, Crust, GCELoss, PRLGradient, PRLLossLayer, RobustLoss, indexed
from noisylabels_pl.core import CriterionCallback
from noisylabels_pl.core.scoring import positions_of
from tests.dropin import modules
from tests.dropin.patterns import METHODS, make_trainer

NUM_SAMPLES = 64


# transformers ----------------------------------------------------------------------------------------


def collate_for(transformers: Any) -> Any:
    def collate(samples: list[Any]) -> Any:
        columns = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
        return transformers.BatchEncoding(columns)

    return collate


class HuggingFace(L.LightningModule):
    """As in the examples of both libraries: the model computes its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs = self.model(**batch)
        self.log("train_loss", outputs.loss, batch_size=len(outputs.logits))
        return outputs.loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def text_classifier(transformers: Any) -> tuple[nn.Module, Any]:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=17, max_position_embeddings=64, num_labels=10, **sizes)
    return transformers.BertForSequenceClassification(config), modules.as_tokens


def image_classifier(transformers: Any) -> tuple[nn.Module, Any]:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=10, **sizes)

    def make_sample(image: Tensor, label: Tensor) -> Any:
        return {"pixel_values": image, "labels": label}

    return transformers.ViTForImageClassification(config), make_sample


@pytest.mark.parametrize("kind", [text_classifier, image_classifier])
@pytest.mark.parametrize("method", METHODS)
def test_transformers(kind: Any, method: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
    torch.manual_seed(0)
    model, make_sample = kind(transformers)
    dataset = modules.DigitsDataset("train", NUM_SAMPLES, make_sample)
    loader = indexed(DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=collate_for(transformers)))
    callback = METHODS[method]()
    batches: list[type] = []
    kept: list[Tensor] = []

    class Watcher(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            batches.append(type(batch))
            kept.extend(positions_of(trainer, batch, batch_idx, required=True).kept or ())

    trainer = make_trainer(callback, Watcher(), max_epochs=2)
    if method in ("Crust", "Mixup") and kind is text_classifier:
        with pytest.raises(TypeError, match=r"use partner='none'|leave Mixup out"):
            trainer.fit(HuggingFace(model), loader)
        assert trainer.global_step == 0
        return
    trainer.fit(HuggingFace(model), loader)
    assert set(batches) == {transformers.BatchEncoding}
    if isinstance(callback, ELR):
        torch.testing.assert_close(callback.targets.rows.sum(1), torch.full((NUM_SAMPLES,), 1 - 0.7**2))
    if isinstance(callback, Crust):
        assert len(batches) == 4 + -(-len(callback.selection.indices) // 16) < 8
    if isinstance(callback, (PRLLossLayer, PRLGradient, SPL)):
        assert [int(mask.sum()) for mask in kept] == [12] * 8


# pytorch_lightning -----------------------------------------------------------------------------------


def old_trainer(*callbacks: Any, **options: Any) -> Any:
    pl = pytest.importorskip("pytorch_lightning", reason="needs pytorch_lightning: pip install pytorch-lightning")
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(callbacks=list(callbacks), enable_checkpointing=False, **(quiet | {"max_epochs": 3} | options))


def old_module(**methods: Any) -> Any:
    pl = pytest.importorskip("pytorch_lightning", reason="needs pytorch_lightning: pip install pytorch-lightning")

    class Old(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch["image"]), batch["label"])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return type("Old", (Old,), methods)()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("own_loader", [False, True], ids=["loader passed to fit", "loader of the module"])
def test_our_callbacks_in_the_trainer_of_pytorch_lightning(method: str, own_loader: bool) -> None:
    callback: CriterionCallback = METHODS[method]()
    trainer = old_trainer(callback)
    if own_loader:
        trainer.fit(old_module(train_dataloader=lambda module: indexed(modules.ImageDict.loader())))
    else:
        trainer.fit(old_module(), indexed(modules.ImageDict.loader()))
    assert trainer.global_step == (8 if isinstance(callback, Crust) else 12)
    if isinstance(callback, ELR):
        torch.testing.assert_close(callback.targets.rows.sum(1), torch.full((128,), 1 - 0.7**3))


def test_a_refusal_in_the_trainer_of_pytorch_lightning() -> None:
    def training_step(module: Any, batch: Any, batch_idx: int) -> Tensor:
        logits = module.net(batch["image"])
        return -logits.log_softmax(1).gather(1, batch["label"].unsqueeze(1)).mean()

    trainer = old_trainer(RobustLoss(GCELoss()), fast_dev_run=True)
    with pytest.raises(TypeError, match="computes no loss that RobustLoss"):
        trainer.fit(old_module(training_step=training_step), modules.ImageDict.loader())
    assert trainer.global_step == 0


def make_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Classifier(make_net(), 10, partial(torch.optim.SGD, lr=0.1)),
        lambda: CoPRL(make_net, 10, partial(torch.optim.SGD, lr=0.1), forget_rate=0.2),
    ],
    ids=["Classifier", "CoPRL"],
)
def test_our_modules_are_no_modules_of_pytorch_lightning(make: Any) -> None:
    """Its Trainer asks for the type before it calls anything of ours, so the sentence is its own."""
    module = make()
    with pytest.raises(TypeError, match=rf"must be a `LightningModule`.*got `{type(module).__name__}`") as error:
        old_trainer().fit(module, indexed(modules.ListBatch.loader()))
    assert "\n" not in str(error.value)


# torch_geometric --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_torch_geometric(method: str) -> None:
    pytest.importorskip("torch_geometric", reason="needs torch_geometric: pip install torch-geometric")
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader as GraphLoader
    from torch_geometric.nn import GCNConv, global_mean_pool

    class GraphNetwork(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = GCNConv(16, 32)
            self.head = nn.Linear(32, 10)

        def forward(self, data: Any) -> Tensor:
            hidden = self.convolution(data.x, data.edge_index).relu()
            return self.head(global_mean_pool(hidden, data.batch))

        def training_step(self, data: Any, batch_idx: int) -> Tensor:
            assert type(data).__name__ == "DataBatch"
            loss = F.cross_entropy(self(data), data.y)
            self.log("train_loss", loss, batch_size=data.num_graphs)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    chain = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7]])

    def make_sample(image: Tensor, label: Tensor) -> Any:
        return Data(x=torch.cat([image[0], torch.eye(8)], 1), edge_index=chain, y=label.view(1))

    dataset = modules.DigitsDataset("train", NUM_SAMPLES, make_sample)
    callback = METHODS[method]()
    torch.manual_seed(0)
    module = GraphNetwork()
    trainer = make_trainer(callback, max_epochs=2)
    loader = indexed(GraphLoader(dataset, batch_size=16, shuffle=True))
    if method == "Crust":
        with pytest.raises(TypeError, match=r"use partner='none'|leave Mixup out"):
            trainer.fit(module, loader)
        assert trainer.global_step == 0
        return
    trainer.fit(module, loader)
    assert trainer.global_step < 8 if isinstance(callback, Crust) else trainer.global_step == 8
    if isinstance(callback, ELR):
        torch.testing.assert_close(callback.targets.rows.sum(1), torch.full((NUM_SAMPLES,), 1 - 0.7**2))
