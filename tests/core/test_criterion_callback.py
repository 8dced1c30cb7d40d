"""The criterion hook, in a module that knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import indexed
from noisylabels_pl.core import CriterionCallback, Needs
from noisylabels_pl.data import Batch


class Foreign(L.LightningModule):
    """A module as in Lightning's tutorials."""

    lr = 0.1

    def __init__(self, criterion: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        if criterion is not None:
            self.criterion = criterion
        self.val_losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.last = self.criterion(self(x), y) if hasattr(self, "criterion") else F.cross_entropy(self(x), y)
        return self.last

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.val_losses.append(float(self.criterion(self(x), y)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Scale(CriterionCallback):
    """Weights each sample by its position plus one."""

    needs = Needs(role="weights")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[Tensor] = []

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        self.seen.append(batch.index)
        return (batch.index + 1) * losses


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(12, 4, generator=generator), torch.arange(12) % 3)


def loader() -> DataLoader[Any]:
    return DataLoader(data(), batch_size=4)


Trainer = Callable[..., L.Trainer]


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_it_replaces_the_training_loss(make_trainer: Trainer, weight: Tensor | None) -> None:
    module = Foreign(nn.CrossEntropyLoss(weight=weight))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    callback = Scale()
    make_trainer(callback, max_epochs=1, limit_train_batches=1).fit(module, indexed(loader()))
    x, y = data()[:4]
    layer = nn.Linear(4, 3)
    layer.load_state_dict({name.removeprefix("layer."): v for name, v in before.items() if name.startswith("layer.")})
    losses = F.cross_entropy(layer(x), y, weight=weight, reduction="none")
    normalizer = 4 if weight is None else weight[y].sum()  # as torch divides
    expected = (torch.arange(1, 5) * losses).sum() / normalizer
    torch.testing.assert_close(module.last, expected)
    expected.backward()
    torch.testing.assert_close(module.layer.weight, layer.weight - 0.1 * layer.weight.grad)
    assert module.state_dict().keys() == before.keys()
    assert module.criterion.reduction == "mean"
    assert torch.equal(callback.seen[0], torch.arange(4))


def test_validation_sees_the_modules_own_loss(make_trainer: Trainer) -> None:
    module = Foreign(nn.CrossEntropyLoss())
    make_trainer(Scale(), max_epochs=1, val_check_interval=1).fit(module, indexed(loader()), loader())
    x, y = data()[:4]
    # After the last step, validation runs over the same batches with the final weights.
    torch.testing.assert_close(torch.tensor(module.val_losses[-3]), F.cross_entropy(module(x), y))


class Twice(CriterionCallback):
    """Doubles the loss; the same tensor would be passed on untouched."""

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        assert losses.shape == target.shape
        return 2 * losses


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.5])),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(label_smoothing=0.1),
    ],
)
def test_the_criterions_own_scale_is_kept(make_trainer: Trainer, criterion: nn.Module) -> None:
    states = []
    for callbacks, lr in (([], 0.2), ([Twice()], 0.1)):
        torch.manual_seed(0)
        module = Foreign(criterion)
        module.lr = lr
        make_trainer(*callbacks, max_epochs=2).fit(module, indexed(loader()))
        states.append(module.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name])


def test_a_module_that_reduces_by_itself(make_trainer: Trainer) -> None:
    class Reduces(Foreign):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            self.losses = self.criterion(self(x), y)
            self.own = F.cross_entropy(self(x), y, reduction="none")
            return self.losses.mean()

    module = Reduces(nn.CrossEntropyLoss(reduction="none"))
    make_trainer(Twice(), max_epochs=1).fit(module, indexed(loader()))
    torch.testing.assert_close(module.losses, 2 * module.own)


class Fails(Foreign):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise KeyError("in the step")


def test_no_hook_is_left_behind(make_trainer: Trainer) -> None:
    module = Foreign(nn.CrossEntropyLoss())
    callback = Scale()
    for _ in range(2):
        make_trainer(callback, max_epochs=1).fit(module, indexed(loader()))
        assert not module.criterion._forward_hooks
    failing = Fails(nn.CrossEntropyLoss())
    with pytest.raises(KeyError, match="in the step"):
        make_trainer(callback, max_epochs=1).fit(failing, indexed(loader()))
    assert not failing.criterion._forward_hooks


def test_criterion_called_by_keyword_or_named_by_the_user(make_trainer: Trainer) -> None:
    class Keywords(Foreign):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return self.criterion(target=y, input=self(x))

    module = Keywords(nn.CrossEntropyLoss())
    module.auxiliary = nn.MSELoss()
    callback = Scale(criterion="criterion")
    make_trainer(callback, max_epochs=1).fit(module, indexed(loader()))
    assert len(callback.seen) == 3


class Summed(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return -logits.log_softmax(1).gather(1, target.unsqueeze(1)).mean()


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Foreign(Summed()), {"criterion": "criterion"}, r"no loss per sample.*reduction = 'none'"),
        (Foreign(nn.CrossEntropyLoss()), {"criterion": "loss_fn"}, "no module named 'loss_fn'"),
    ],
)
def test_refusals_say_the_fix(
    make_trainer: Trainer, module: L.LightningModule, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        make_trainer(Scale(**options), max_epochs=1).fit(module, indexed(loader()))


def test_two_criteria_are_ambiguous(make_trainer: Trainer) -> None:
    module = Foreign(nn.CrossEntropyLoss())
    module.auxiliary = nn.MSELoss()
    with pytest.raises(TypeError, match=r"2 criteria.*criterion, auxiliary; .*criterion='criterion'"):
        make_trainer(Scale(), max_epochs=1).fit(module, indexed(loader()))


def test_a_loader_without_positions_is_refused(make_trainer: Trainer) -> None:
    with pytest.raises(TypeError, match=r"noisylabels_pl.indexed\(train_loader\)"):
        make_trainer(Scale(), max_epochs=1).fit(Foreign(nn.CrossEntropyLoss()), loader())
