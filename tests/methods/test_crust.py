"""CRUST: selection against a direct restatement, and what it does to noise on real digits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import Crust, indexed
from noisylabels_pl.callbacks import History, LabelQuality
from noisylabels_pl.core import Scores
from tests.helpers import LargeTensors, Tutorial, WithCriterion, foreign_loader

Make = Callable[..., Any]


def random_scores(samples: int = 120, classes: int = 4) -> Scores:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (samples,), generator=generator)
    logits = torch.randn(samples, classes, generator=generator) + 2 * F.one_hot(targets, classes)
    return Scores(logits, targets)


def select(callback: Crust, scored: Scores, epoch: int = 10, module: Any = None) -> Any:
    return callback.select(module, scored, epoch)


@pytest.mark.parametrize("partition", ["predicted", "observed"])
def test_centrality_keeps_half_of_each_class_nearest_to_all_of_it(partition: str) -> None:
    scored = random_scores()
    selection = select(Crust(partition=partition, partner="none"), scored)
    groups = scored.logits.argmax(1) if partition == "predicted" else scored.targets
    gradients = scored.logits.softmax(1) - F.one_hot(scored.targets, 4)
    expected: list[int] = []
    for label in range(4):
        members = (groups == label).nonzero().squeeze(1)
        distance = torch.stack([(gradients[members] - gradients[i]).norm(dim=1).mean() for i in members])
        expected += members[distance.argsort(stable=True)[: len(members) // 2]].tolist()
    assert sorted(selection.indices.tolist()) == sorted(expected)
    assert selection.weights is None
    assert selection.partners is None


def test_cluster_weights_and_partners() -> None:
    scored = random_scores()
    selection = select(Crust(selector="facility_location", weights="cluster", partner="cluster"), scored)
    assert selection.weights.mean() == pytest.approx(1)
    sizes = selection.weights / selection.weights.min()
    alone = selection.partners == selection.indices
    # A medoid that is its own partner is alone in its cluster, and the smallest clusters have one member.
    assert torch.equal(alone, torch.isclose(sizes, torch.ones(())))
    predicted = scored.logits.argmax(1)
    assert torch.equal(predicted[selection.indices], predicted[selection.partners])
    assert not torch.isin(selection.partners[~alone], selection.indices).any()


def test_same_label_partners_come_from_the_whole_set() -> None:
    scored = random_scores()
    selection = select(Crust(partition="observed", partner="same_label"), scored)
    assert torch.equal(scored.targets[selection.partners], scored.targets[selection.indices])
    assert not torch.isin(selection.partners, selection.indices).all()


def test_selection_follows_from_seed_and_epoch() -> None:
    scored = random_scores()
    torch.manual_seed(1)
    first, again = select(Crust(seed=3), scored), select(Crust(seed=3), scored)
    other_epoch, other_seed = select(Crust(seed=3), scored, epoch=11), select(Crust(seed=4), scored)
    for a, b in zip(vars(first).values(), vars(again).values(), strict=True):
        assert a is b is None or torch.equal(a, b)
    for other in (other_epoch, other_seed):
        assert torch.equal(first.indices, other.indices)
        assert not torch.equal(first.partners, other.partners)
        assert not torch.equal(first.lam, other.lam)


@pytest.mark.parametrize("selector", ["centrality", "facility_location", "stochastic_greedy", "distributed_greedy"])
def test_classes_side_by_side_are_the_classes_one_by_one(selector: str) -> None:
    """In threads, and in the order of the classes though the longest is begun first."""
    scored = random_scores(700)
    scored.logits[:300, 3] += 3  # so that the classes differ in size
    before, selections = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            selections.append(select(Crust(selector=selector, weights="cluster"), scored))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*(vars(selection).values() for selection in selections), strict=True):
        assert torch.equal(a, b)
    predicted = scored.logits.argmax(1)
    chosen = predicted[selections[0].indices]
    assert torch.equal(chosen, chosen.sort().values)
    assert torch.equal(torch.bincount(chosen), torch.bincount(predicted) // 2)
    other = select(Crust(selector=selector, weights="cluster", seed=1), scored)
    assert torch.equal(other.indices, selections[0].indices) == (selector != "stochastic_greedy")


def with_rare_classes() -> Scores:
    """20 classes of 3 samples, and one of 40; each is predicted as observed."""
    targets = torch.cat([torch.arange(20).repeat(3), torch.full((40,), 20)])
    return Scores(5.0 * F.one_hot(targets, 21), targets)


@pytest.mark.parametrize("partition", ["predicted", "observed"])
def test_classes_that_keep_no_sample_are_named_once(partition: Any) -> None:
    crust = Crust(0.3, partition=partition)
    message = rf"no sample of 20 of 21 {partition} classes \(labels 0, 1, 2, 3, 4 and 15 more\), .* set min_per_class=1"
    with pytest.warns(UserWarning, match=message):
        select(crust, with_rare_classes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select(crust, with_rare_classes())


@pytest.mark.parametrize(("min_per_class", "kept"), [(1, [1, 12]), (2, [2, 12]), (5, [3, 12]), (20, [3, 20])])
def test_each_class_keeps_a_minimum(min_per_class: int, kept: list[int]) -> None:
    """Or all samples of a smaller class."""
    scored = with_rare_classes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = select(Crust(0.3, min_per_class=min_per_class), scored)
    assert torch.bincount(scored.targets[selection.indices]).tolist() == [kept[0]] * 20 + [kept[1]]


def test_mixing_coefficients_follow_beta() -> None:
    scored = random_scores(4000)
    lam = select(Crust(mixup_alpha=2.0, mixup_beta=6.0), scored).lam
    assert lam.mean() == pytest.approx(2 / 8, abs=0.01)
    assert lam.var() == pytest.approx(2 * 6 / (8**2 * 9), abs=0.003)


def test_no_mixing_before_its_epoch() -> None:
    scored = random_scores()
    assert select(Crust(mixup_start_epoch=11), scored, epoch=10).partners is None
    assert select(Crust(mixup_start_epoch=11), scored, epoch=11).partners is not None


def test_classes_that_are_empty_or_too_small_are_left_out() -> None:
    logits = torch.zeros(9, 4)
    logits[:8, 0] = 1  # class 0 has eight members, class 3 one, classes 1 and 2 none
    logits[8, 3] = 1
    scored = Scores(logits + 0.01 * torch.rand(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4)
    for selector in ("centrality", "facility_location"):
        selection = select(Crust(fraction=0.5, selector=selector, weights="cluster"), scored)
        assert len(selection.indices) == 4
        assert (selection.indices < 8).all()
    assert len(select(Crust(fraction=1.0), scored).indices) == 9
    with pytest.raises(ValueError, match=r"fraction=0.1 of 9 samples keeps none in any class; raise it"):
        select(Crust(fraction=0.1), scored)


def test_one_table_of_logits_is_all_that_grows_with_samples_times_classes(make_trainer: Make) -> None:
    class Wide(WithCriterion):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 50)

    generator = torch.Generator().manual_seed(0)
    samples = TensorDataset(torch.randn(300, 4, generator=generator), torch.arange(300) % 50)
    trainer = make_trainer(Crust(warmup_epochs=0, partition="observed"), max_epochs=1)
    with LargeTensors(300 * 50) as large:
        trainer.fit(Wide(), indexed(DataLoader(samples, batch_size=32, shuffle=True)))
    assert large.count == 2  # the other one is of the batch that is scored before the first epoch


def test_budget_is_not_lost_to_rounding() -> None:
    scored = Scores(torch.eye(2).repeat_interleave(100, 0), torch.zeros(200, dtype=torch.int64))
    assert len(select(Crust(fraction=0.29), scored).indices) == 2 * 29


def test_head_embedding_is_the_gradient_at_the_heads_input() -> None:
    scored = random_scores()
    module = nn.ModuleDict({"body": nn.Linear(7, 5), "head": nn.Linear(5, 4, bias=False)})
    # With W = I, (p - y) W is p - y; a projection to one coordinate selects differently.
    module["head"].weight = nn.Parameter(torch.eye(4))
    plain = select(Crust(), scored)
    assert torch.equal(select(Crust(embedding="head"), scored, module=module).indices, plain.indices)
    module["head"].weight = nn.Parameter(torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
    assert not torch.equal(select(Crust(embedding="head", head="head"), scored, module=module).indices, plain.indices)
    with pytest.raises(TypeError, match=r"head='net\.fc'"):
        select(Crust(embedding="head"), scored, module=nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, r"fraction must lie in \(0, 1\], got 0.0"),
        ({"fraction": 1.5}, r"got 1.5"),
        (
            {"selector": "greedy"},
            "selector must be one of centrality, facility_location, stochastic_greedy",
        ),
        ({"partition": "true"}, "partition must be one of predicted, observed"),
        ({"embedding": "loss"}, "embedding must be one of"),
        ({"weights": "radius"}, "weights must be one of"),
        ({"partner": "random"}, "partner must be one of"),
        ({"mixup_scope": "epoch"}, "mixup_scope must be one of"),
        ({"fraction": "0.5"}, r"fraction must be a number in \(0, 1\], got '0.5'"),
        ({"min_per_class": -1}, "min_per_class must not be negative, got -1"),
        ({"min_per_class": 1.5}, r"min_per_class must be a whole number in \[0, inf\), got 1.5"),
        ({"mixup_start_epoch": float("nan")}, r"mixup_start_epoch must be a number in \[0, inf\), got nan"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"mixup_alpha": 0.0}, "mixup_alpha must be positive, got 0.0"),
        ({"mixup_beta": -1.0}, "mixup_beta must be positive, got -1.0"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Crust(**options)


def test_one_callback_in_a_foreign_project(digits: Make, make_trainer: Make) -> None:
    datamodule = digits(train_size=1000)
    module, callback, history = WithCriterion(), Crust(), History()
    quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
    loader = foreign_loader(datamodule)
    make_trainer(callback, quality, history, max_epochs=15).fit(module, indexed(loader))
    pool = float(quality.is_clean.double().mean())
    precision = [value for value in history.column("selection/precision") if value is not None]
    assert len(precision) == 10
    assert precision[-1] > 0.9 > pool
    assert history.rows[-1]["selection/size"] == pytest.approx(len(loader.dataset) / 2, abs=10)
    assert 0.5 < history.rows[-1]["selection/overlap"] <= 1
    assert history.rows[-1]["selection/scoring_s"] > 0
    assert history.rows[-1]["selection/selecting_s"] > 0


def test_the_released_weights_are_class_sizes() -> None:
    """The public code counts the class members within a radius that its gradients, of a batch's mean, never reach."""
    targets = torch.arange(2).repeat_interleave(torch.tensor([30, 70]))  # 50 each before 40 % asymmetric noise
    generator = torch.Generator().manual_seed(0)
    scored = Scores(torch.randn(100, 2, generator=generator), targets)
    selection = select(Crust(partition="observed", weights="class", partner="none"), scored)
    gradients = (scored.logits.softmax(1) - F.one_hot(targets, 2)) @ torch.randn(2, 64, generator=generator) / 128
    is_near = torch.cdist(gradients, gradients) < 2.0
    is_same_class = targets.unsqueeze(0) == targets.unsqueeze(1)
    neighbors = (is_near & is_same_class).sum(1)[selection.indices].float()
    torch.testing.assert_close(selection.weights, neighbors / neighbors.mean())
    assert selection.weights.max() / selection.weights.min() == pytest.approx(7 / 3)


def test_the_released_loss_divides_by_the_weights_of_the_batch(digits: Make, make_trainer: Make) -> None:
    class Weighted(WithCriterion):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits = self(batch.x)
            loss = self.criterion(logits, batch.y)
            weights = callback.values_for("weights", batch)
            losses = -logits.log_softmax(1)[torch.arange(len(batch.y)), batch.y]
            checked.append((loss, (weights * losses).sum() / weights.sum()))
            return loss

    checked: list[tuple[Tensor, Tensor]] = []
    callback = Crust(warmup_epochs=0, partition="observed", weights="class", partner="none")
    make_trainer(callback, max_epochs=2).fit(Weighted(), indexed(foreign_loader(digits()), as_batches=True))
    assert len(checked) > 4
    for loss, expected in checked:
        torch.testing.assert_close(loss, expected)


def test_what_the_foreign_step_sees_and_returns(digits: Make, make_trainer: Make) -> None:
    datamodule = digits()
    module, callback = WithCriterion(), Crust(warmup_epochs=1, weights="cluster")
    loader = foreign_loader(datamodule)
    x, y = loader.dataset.tensors
    make_trainer(callback, max_epochs=2).fit(module, indexed(loader, as_batches=True))
    mixed = [entry for entry in module.losses if entry[0].partner is not None]
    assert 0 < len(mixed) < len(module.losses)
    selection = callback.selection
    lam, partner = torch.ones(len(y)), torch.arange(len(y))
    lam[selection.indices], partner[selection.indices] = selection.lam, selection.partners
    lam[partner == torch.arange(len(y))] = 1
    for batch, _, _ in mixed:
        index = batch.index
        coefficient = lam[index].view(-1, 1, 1, 1)
        torch.testing.assert_close(batch.x, coefficient * x[index] + (1 - coefficient) * x[partner[index]])
        assert torch.equal(batch.y, y[index])  # the user's metrics go on working
    plain = [entry for entry in module.losses if entry[0].partner is None]
    for _, loss, own in plain:  # before the first selection the module's own loss
        torch.testing.assert_close(loss, own)


def test_the_loss_is_the_weighted_loss_of_the_mixed_labels(digits: Make, make_trainer: Make) -> None:
    class Soft(WithCriterion):
        """Computes the loss again, from soft labels."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits = self(batch.x)
            loss = self.criterion(logits, batch.y)
            if batch.partner is not None:
                alone = batch.partner.index == batch.index
                coefficient = callback.values_for("lam", batch).masked_fill(alone, 1).unsqueeze(1)
                soft = coefficient * F.one_hot(batch.y, 10) + (1 - coefficient) * F.one_hot(batch.partner.y, 10)
                weights = callback.values_for("weights", batch)
                checked.append((loss, -(weights * (soft * logits.log_softmax(1)).sum(1)).mean()))
            return loss

    checked: list[tuple[Tensor, Tensor]] = []
    callback = Crust(warmup_epochs=0, selector="facility_location", weights="cluster")
    make_trainer(callback, max_epochs=2).fit(Soft(), indexed(foreign_loader(digits()), as_batches=True))
    assert len(checked) > 4
    for loss, expected in checked:
        torch.testing.assert_close(loss, expected)


def test_a_module_with_a_functional_loss_trains_as_one_with_a_criterion(digits: Make, make_trainer: Make) -> None:
    states = []
    for module in (Tutorial, WithCriterion):
        torch.manual_seed(0)
        fitted = module()
        callback = Crust(warmup_epochs=1, weights="cluster", selector="facility_location")
        make_trainer(callback, max_epochs=3).fit(fitted, indexed(foreign_loader(digits())))
        states.append(fitted.net.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"selector": "facility_location", "weights": "cluster", "warmup_epochs": 0},
        {
            "partition": "observed",
            "embedding": "head",
            "train_mode": True,
            "weights": "class",
            "partner": "same_label",
            "mixup_beta": 0.1,
            "mixup_scope": "batch",
            "mixup_start_epoch": 6,
        },
    ],
    ids=["crust", "crust_paper", "crust_released"],
)
def test_garbage_for_clean_labels_changes_nothing(
    digits: Make, classifier: Make, make_trainer: Make, options: dict[str, Any]
) -> None:
    states = []
    for garbage in (False, True):
        datamodule, module = digits(), classifier()
        if garbage:
            datamodule.clean_targets = torch.zeros_like(datamodule.clean_targets)
        quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
        make_trainer(Crust(**options), quality, max_epochs=8).fit(module, datamodule=datamodule)
        states.append(module.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_diverged_network_is_named(digits: Make, classifier: Make, make_trainer: Make) -> None:
    module = classifier()
    module.net[1].weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="the network has no finite output for any training sample; it diverged"):
        make_trainer(Crust(warmup_epochs=0), max_epochs=1).fit(module, datamodule=digits())


def test_a_sample_without_finite_outputs_is_named(make_trainer: Make) -> None:
    x = torch.randn(60, 64)
    x[37, 0] = float("nan")
    loader = indexed(DataLoader(TensorDataset(x, torch.arange(60) % 10), batch_size=20, shuffle=True))
    with pytest.raises(ValueError, match="the network's outputs for training sample 37 are not finite"):
        make_trainer(Crust(warmup_epochs=0), max_epochs=1).fit(WithCriterion(), loader)


@pytest.mark.parametrize(
    ("inputs", "as_batches", "message"),
    [
        ("uint8", True, "must be one float tensor, got torch.uint8; or use partner='none'"),
        ("several", True, "must be one float tensor, got list; or use partner='none'"),
        ("uint8", False, r"a batch \(list\) has no floating-point tensor with one row a sample; use partner='none'"),
    ],
)
def test_inputs_that_cannot_be_mixed(make_trainer: Make, inputs: str, as_batches: bool, message: str) -> None:
    class Converts(WithCriterion):
        def forward(self, x: Any) -> Tensor:
            return self.net((x[0] if isinstance(x, list) else x).float())

    x, y = torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.arange(40) % 10
    samples = [(x[i] if inputs == "uint8" else (x[i].float(), x[i].float()), y[i]) for i in range(40)]
    loader = indexed(DataLoader(samples, batch_size=8, shuffle=True), as_batches=as_batches)
    with pytest.raises(TypeError, match=message):
        make_trainer(Crust(warmup_epochs=0), max_epochs=1).fit(Converts(), loader)


@pytest.mark.gpu
def test_on_cuda(digits: Make, classifier: Make, make_trainer: Make) -> None:
    history = History()
    datamodule = digits(train_size=1000)
    quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
    trainer = make_trainer(Crust(weights="cluster"), quality, history, max_epochs=15, accelerator="gpu", devices=1)
    trainer.fit(classifier(), datamodule=datamodule)
    assert history.rows[-1]["selection/precision"] > 0.9
