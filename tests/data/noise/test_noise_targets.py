"""Noise of regression targets, and of the features of samples with wrong labels."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisylabels_pl.data import Diabetes, Digits, LabelNoise, NoisyDataModule, NoisyLabels
from tests.data.noise.noise_samples import (
    CLASSES,
    FEATURES,
    NAMES,
    ROWS,
    SPREAD,
    TARGET_KINDS,
    TARGETS,
    draw_targets,
    normal,
    standardized,
    wrong_rows,
)

CLASS_KINDS: dict[str, dict[str, Any]] = {
    "sym": {"rate": 0.4},
    "sym_inclusive": {"rate": 0.4},
    "asym": {"rate": 0.4, "map": "derangement"},
    "matrix": {"matrix": [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]},
}
every_kind = pytest.mark.parametrize("kind", TARGET_KINDS)


# --- draws ------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("count", ["exact", "bernoulli"])
def test_attributes_of_drawn_targets(kind: str, count: str) -> None:
    labels = draw_targets(kind, count=count)
    differ = torch.tensor([one != other for one, other in zip(TARGETS.tolist(), labels.observed.tolist(), strict=True)])
    assert labels.observed.shape == (ROWS, 4)
    assert labels.observed.dtype == torch.float32
    assert labels.observed.isfinite().all()
    assert labels.clean is not None
    assert torch.equal(labels.clean, TARGETS)
    assert labels.T is None
    assert labels.realized_T is None
    assert labels.features is None
    assert wrong_rows(labels).dtype == torch.bool
    assert torch.equal(wrong_rows(labels), differ)
    assert labels.rate == pytest.approx(float(differ.double().mean()), abs=1e-12)
    assert torch.equal(labels.observed[~differ], TARGETS[~differ])


@every_kind
@pytest.mark.parametrize("rate", [0.0, 0.123, 0.4, 1.0])
def test_exact_count(kind: str, rate: float) -> None:
    assert wrong_rows(draw_targets(kind, rate=rate, count="exact")).sum() == round(rate * ROWS)


@every_kind
def test_bernoulli_count_is_drawn(kind: str) -> None:
    counts = [int(wrong_rows(draw_targets(kind, seed=seed)).sum()) for seed in range(12)]
    assert len(set(counts)) > 3
    assert all(abs(count - 240) <= 4.5 * (ROWS * 0.4 * 0.6) ** 0.5 for count in counts)
    assert abs(sum(counts) - 12 * 240) <= 4.5 * (12 * ROWS * 0.4 * 0.6) ** 0.5


@every_kind
def test_wrong_rows_lie_anywhere(kind: str) -> None:
    wrong = wrong_rows(draw_targets(kind, rate=0.5, count="exact"))
    assert abs(int(wrong[: ROWS // 2].sum()) - ROWS // 4) < 40  # about 6 standard deviations


def test_signflip() -> None:
    labels = draw_targets("signflip")
    wrong = wrong_rows(labels)
    assert torch.equal(labels.observed[wrong], -TARGETS[wrong])


def test_uninoise_fills_the_range_of_each_coordinate() -> None:
    observed = draw_targets("uninoise", rate=1.0).observed
    low, high = TARGETS.aminmax(dim=0)
    assert (observed >= low).all()
    assert (observed <= high).all()
    shares = (observed - low) / (high - low)
    for quarter in range(4):
        inside = ((shares >= quarter / 4) & (shares < (quarter + 1) / 4)).sum(0)
        assert ((inside - ROWS / 4).abs() < 4.5 * (ROWS * 3 / 16) ** 0.5).all()
    assert torch.corrcoef(torch.cat([shares, TARGETS], dim=1).T).fill_diagonal_(0)[:4].abs().max() < 0.25


@pytest.mark.parametrize("strength", [15.0, 2.0])
def test_linadv_is_one_linear_function_of_the_features(strength: float) -> None:
    labels = draw_targets("linadv", rate=0.5, strength=strength)
    wrong = wrong_rows(labels)
    x = torch.cat([standardized(FEATURES), torch.ones(ROWS, 1)], dim=1)[wrong].double()
    weights = torch.linalg.lstsq(x, labels.observed[wrong].double()).solution
    assert (x @ weights - labels.observed[wrong]).abs().max() < 1e-3 * strength
    assert labels.observed[wrong].std(0).sub(strength).abs().max() < 0.2 * strength


def test_linadv_has_the_default_strength() -> None:
    assert draw_targets("linadv", rate=1.0).observed.std(0, correction=0).tolist() == pytest.approx(
        [15.0] * 4, rel=1e-4
    )


def test_linadv_of_images() -> None:
    x = normal(ROWS, 2, 3, 3)
    labels = LabelNoise("linadv", rate=1.0).apply(TARGETS, NAMES, features=x)
    again = LabelNoise("linadv", rate=1.0).apply(TARGETS, NAMES, features=x.flatten(1))
    torch.testing.assert_close(labels.observed, again.observed)


def test_mixture_has_a_third_of_each() -> None:
    observed = draw_targets("mixture", rate=1.0).observed
    low, high = TARGETS.aminmax(dim=0)
    flipped = (observed == -TARGETS).all(1)
    uniform = ~flipped & (observed >= low).all(1) & (observed <= high).all(1)
    linear = ~flipped & ~uniform
    for kind in (flipped, uniform, linear):
        assert abs(int(kind.sum()) - ROWS / 3) < 4.5 * (ROWS * 2 / 9) ** 0.5
    x = torch.cat([standardized(FEATURES), torch.ones(ROWS, 1)], dim=1)[linear].double()
    weights = torch.linalg.lstsq(x, observed[linear].double()).solution
    assert (x @ weights - observed[linear]).abs().max() < 0.02


def test_pairflip_takes_the_next_coordinate() -> None:
    labels = draw_targets("pairflip")
    wrong = wrong_rows(labels)
    assert torch.equal(labels.observed[wrong], TARGETS[wrong][:, [1, 2, 3, 0]])


@pytest.mark.parametrize(
    ("map", "taken_from"),
    [
        ({"a": "c", "c": "a", "b": "d", "d": "b"}, [2, 3, 0, 1]),
        ({"a": "b", "b": "c", "c": "a"}, [1, 2, 0, 3]),
        ({"d": "a", "a": "d"}, [3, 1, 2, 0]),
        ({}, [1, 2, 3, 0]),
    ],
    ids=["pairs", "cycle", "some stay", "empty"],
)
def test_pairflip_follows_the_datasets_map(map: dict[str, str], taken_from: list[int]) -> None:
    labels = draw_targets("pairflip", map=map, count="exact")
    wrong = wrong_rows(labels)
    assert wrong.sum() == 240
    assert torch.equal(labels.observed[wrong], TARGETS[wrong][:, taken_from])


def test_pairflip_of_one_coordinate() -> None:
    with pytest.raises(ValueError, match=r"pairflip.* at least two coordinates"):
        draw_targets("pairflip", TARGETS[:, :1])


@pytest.mark.parametrize("kind", [kind for kind in TARGET_KINDS if kind != "pairflip"])
def test_one_coordinate_is_enough_for_the_others(kind: str) -> None:
    labels = draw_targets(kind, TARGETS[:, :1], count="exact")
    assert labels.observed.shape == (ROWS, 1)
    assert wrong_rows(labels).sum() == 240


def test_no_noise_is_no_claim_about_the_targets() -> None:
    labels = draw_targets("none", rate=0.0)
    assert torch.equal(labels.observed, TARGETS)
    assert labels.clean is labels.is_wrong is labels.rate is None


def test_no_noise_where_the_true_targets_are_known() -> None:
    other = TARGETS.clone()
    other[5, 2] += 1
    labels = LabelNoise("none").apply(other, NAMES, clean=TARGETS)
    assert wrong_rows(labels).nonzero().flatten().tolist() == [5]
    assert labels.rate == 1 / ROWS


def test_noise_on_top_is_measured_against_the_true_targets() -> None:
    labels = LabelNoise("signflip", rate=1.0).apply(-TARGETS, NAMES, clean=TARGETS)
    assert labels.rate == 0
    assert labels.clean is TARGETS


@every_kind
def test_the_dataset_stays_as_it_is(kind: str) -> None:
    targets, x = TARGETS.clone(), FEATURES.clone()
    observed = draw_targets(kind, targets, x=x, features=1.0).observed
    assert torch.equal(targets, TARGETS)
    assert torch.equal(x, FEATURES)
    assert observed.data_ptr() != targets.data_ptr()


# --- kinds for classes and for numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASS_KINDS)
def test_kinds_of_classes_are_refused_for_numbers(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^kind='{kind}'.*linadv.*signflip.*uninoise.*pairflip.*mixture"):
        LabelNoise(kind, **CLASS_KINDS[kind]).apply(TARGETS, NAMES, features=FEATURES)


@pytest.mark.parametrize("kind", [kind for kind in TARGET_KINDS if kind != "pairflip"])
def test_kinds_of_numbers_are_refused_for_classes(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^kind='{kind}'.*sym.*asym.*pairflip.*matrix"):
        LabelNoise(kind, rate=0.4).apply(CLASSES, NAMES, features=FEATURES)


def test_pairflip_is_for_both() -> None:
    assert torch.equal(LabelNoise("pairflip", rate=1.0).apply(CLASSES, NAMES).observed, (CLASSES + 1) % 4)
    assert torch.equal(draw_targets("pairflip", rate=1.0).observed, TARGETS.roll(-1, 1))


# --- seeds ------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("count", ["exact", "bernoulli"])
@pytest.mark.parametrize("features", [0.0, 1.0])
def test_draw_follows_from_the_seed(kind: str, count: str, features: float) -> None:
    first, again, other = (draw_targets(kind, count=count, features=features, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.observed, again.observed)
    assert first.sha256 == again.sha256
    assert not torch.equal(wrong_rows(first), wrong_rows(other))
    assert first.sha256 != other.sha256
    if features:
        assert first.features is not None
        assert again.features is not None
        assert torch.equal(first.features, again.features)


@every_kind
def test_draw_and_global_generators_leave_each_other_alone(kind: str) -> None:
    def observed(seed: int) -> NoisyLabels:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
        labels = draw_targets(kind, features=1.0)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
        return labels

    assert observed(1).sha256 == observed(2).sha256


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [0.5, 2.0])
def test_noise_has_so_many_standard_deviations(features: float) -> None:
    labels = draw_targets("signflip", rate=0.8, features=features, seed=3)
    wrong = wrong_rows(labels)
    assert labels.features is not None
    assert labels.features.shape == (int(wrong.sum()), 6)
    assert labels.features.dtype == torch.float32
    noise = (labels.features - FEATURES[wrong]) / SPREAD / features
    assert (noise.std(0) - 1).abs().max() < 4.5 / (2 * len(noise)) ** 0.5
    assert noise.mean(0).abs().max() < 4.5 / len(noise) ** 0.5
    assert noise.abs().amax() > 2.5  # a normal distribution's tail
    assert (noise.abs() < 1).double().mean() == pytest.approx(0.683, abs=0.05)
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 4.5 / len(noise) ** 0.5


def test_spread_of_colors() -> None:
    x, spread = torch.zeros(ROWS, 3, 4, 4), torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1)
    labels = LabelNoise("signflip", rate=0.5, features=1.0).apply(TARGETS, NAMES, features=x, spread=spread)
    assert labels.features is not None
    assert labels.features.std((0, 2, 3)).tolist() == pytest.approx([0.1, 1.0, 10.0], rel=0.1)


@pytest.mark.parametrize("labels", [CLASSES, TARGETS], ids=["classes", "numbers"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_whole_numbers_stay_whole_and_in_range(labels: Tensor, dtype: torch.dtype) -> None:
    x = torch.randint(3, 12, (ROWS, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    noisy = LabelNoise("pairflip", rate=0.5, features=1.5).apply(
        labels, NAMES, features=x, spread=torch.full((5,), 2.6)
    )
    assert noisy.features is not None
    assert noisy.features.dtype == dtype
    assert (int(noisy.features.min()), int(noisy.features.max())) == (3, 11)
    assert len(noisy.features.unique()) == 9
    step = noisy.features.double() - x[wrong_rows(noisy)].double()
    assert (step != 0).double().mean() > 0.7


@pytest.mark.parametrize("kind", ["sym", *TARGET_KINDS])
def test_labels_are_the_same_with_and_without_features(kind: str) -> None:
    targets = CLASSES if kind == "sym" else TARGETS

    def observed(features: float) -> Tensor:
        noise = LabelNoise(kind, rate=0.4, features=features, seed=2)
        return noise.apply(targets, NAMES, features=FEATURES, spread=SPREAD).observed

    assert torch.equal(observed(0.0), observed(1.0))


@pytest.mark.parametrize(("kind", "features"), [("sym", -0.1), ("signflip", -3), ("none", 1.0)])
def test_features_that_are_refused(kind: str, features: float) -> None:
    rate = {} if kind == "none" else {"rate": 0.4}
    with pytest.raises(ValueError, match=rf"features.*got {features}"):
        LabelNoise(kind, features=features, **rate)


@pytest.mark.parametrize("missing", ["features", "spread"])
def test_feature_noise_needs_features_and_their_spread(missing: str) -> None:
    arguments = {"features": FEATURES, "spread": SPREAD, missing: None}
    with pytest.raises(ValueError, match=r"features.*spread"):
        LabelNoise("signflip", rate=0.4, features=1.0).apply(TARGETS, NAMES, **arguments)


# --- through a data module --------------------------------------------------------------------------------------------


def module(make: Any, **options: Any) -> NoisyDataModule:
    kind = "sym" if make is Digits else "signflip"
    data: NoisyDataModule = make(
        LabelNoise(kind, rate=0.4, seed=1, **options), train_size=300, batch_size=32, val_fraction=0.2
    )
    data.setup()
    return data


@pytest.mark.parametrize("make", [Digits, Diabetes])
def test_batches_of_training_and_validation_are_corrupted(make: Any) -> None:
    data, plain = module(make, features=2.0), module(make)
    assert torch.equal(data.labels.observed, plain.labels.observed)
    assert torch.equal(data.train_indices, plain.train_indices)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(data.arrays, name), getattr(plain.arrays, name))
    wrong, x = wrong_rows(data.labels), data.arrays.x_train

    rows, seen = [], []
    for batch in data.train_dataloader():
        rows.append(data.train_indices[batch.index])
        seen.append(batch.x)
        assert torch.equal(batch.y, data.labels.observed[rows[-1]])
    val = list(data.val_dataloader()["val"])
    for chosen, inputs in ((torch.cat(rows), torch.cat(seen)), (data.val_indices, torch.cat([x for x, _ in val]))):
        right = ~wrong[chosen]
        assert inputs.dtype == x.dtype
        assert 0.2 < float(right.double().mean()) < 0.8
        assert torch.equal(inputs[right], x[chosen[right]])
        assert (inputs[~right] != x[chosen[~right]]).flatten(1).any(1).all()
        assert torch.equal(inputs, data.labels.training_features(x)[chosen])
    for loader in (data.test_dataloader(), data.val_dataloader()["test"]):
        assert torch.equal(torch.cat([x for x, _ in loader]), data.arrays.x_test)
