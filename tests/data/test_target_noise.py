"""Noise of regression targets, and of the features of samples with wrong labels."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisylabels_pl.data import Diabetes, Digits, LabelNoise, NoisyDataModule, NoisyLabels

ROWS, NAMES = 600, ("a", "b", "c", "d")
KINDS = ("linadv", "signflip", "uninoise", "pairflip", "mixture")
CLASS_KINDS: dict[str, dict[str, Any]] = {
    "sym": {"rate": 0.4},
    "sym_inclusive": {"rate": 0.4},
    "asym": {"rate": 0.4, "map": "derangement"},
    "matrix": {"matrix": [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def standardized(values: Tensor) -> Tensor:
    return ((values - values.mean(0)) / values.std(0, correction=0)).float()


# Skewed, so that the least and the largest value are not each other's negative.
TARGETS = standardized(normal(ROWS, 4, seed=1).exp())
FEATURES = 3 + torch.tensor([0.01, 1.0, 50.0, 2.0, 0.3, 7.0]) * normal(ROWS, 6, seed=2)
SPREAD = FEATURES.std(0)
CLASSES = torch.arange(ROWS) % 4


def draw(kind: str, targets: Tensor = TARGETS, **options: Any) -> NoisyLabels:
    """Noise on the targets, 40 % if not said otherwise."""
    names, map, x = options.pop("names", NAMES), options.pop("map", None), options.pop("x", FEATURES)
    noise = LabelNoise(kind, **({"rate": 0.4} | options))
    spread = x.float().std(0) if x is not None else None
    return noise.apply(targets, names[: targets.shape[1]], asymmetric_map=map, features=x, spread=spread)


def wrong_rows(labels: NoisyLabels) -> Tensor:
    assert labels.is_wrong is not None
    return labels.is_wrong


# --- what is drawn ----------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("count", ["exact", "bernoulli"])
def test_what_is_known_of_drawn_targets(kind: str, count: str) -> None:
    labels = draw(kind, count=count)
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


@kinds
@pytest.mark.parametrize("rate", [0.0, 0.123, 0.4, 1.0])
def test_exact_count(kind: str, rate: float) -> None:
    assert wrong_rows(draw(kind, rate=rate, count="exact")).sum() == round(rate * ROWS)


@kinds
def test_bernoulli_count_is_drawn(kind: str) -> None:
    counts = [int(wrong_rows(draw(kind, seed=seed)).sum()) for seed in range(12)]
    assert len(set(counts)) > 3
    assert all(abs(count - 240) <= 4.5 * (ROWS * 0.4 * 0.6) ** 0.5 for count in counts)
    assert abs(sum(counts) - 12 * 240) <= 4.5 * (12 * ROWS * 0.4 * 0.6) ** 0.5


@kinds
def test_wrong_rows_lie_anywhere(kind: str) -> None:
    wrong = wrong_rows(draw(kind, rate=0.5, count="exact"))
    assert abs(int(wrong[: ROWS // 2].sum()) - ROWS // 4) < 40  # about 6 standard deviations


def test_signflip() -> None:
    labels = draw("signflip")
    wrong = wrong_rows(labels)
    assert torch.equal(labels.observed[wrong], -TARGETS[wrong])


def test_uninoise_fills_the_range_of_each_coordinate() -> None:
    observed = draw("uninoise", rate=1.0).observed
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
    labels = draw("linadv", rate=0.5, strength=strength)
    wrong = wrong_rows(labels)
    x = torch.cat([standardized(FEATURES), torch.ones(ROWS, 1)], dim=1)[wrong].double()
    weights = torch.linalg.lstsq(x, labels.observed[wrong].double()).solution
    assert (x @ weights - labels.observed[wrong]).abs().max() < 1e-3 * strength
    assert labels.observed[wrong].std(0).sub(strength).abs().max() < 0.2 * strength


def test_linadv_has_the_default_strength() -> None:
    assert draw("linadv", rate=1.0).observed.std(0, correction=0).tolist() == pytest.approx([15.0] * 4, rel=1e-4)


def test_linadv_of_images() -> None:
    x = normal(ROWS, 2, 3, 3)
    labels = LabelNoise("linadv", rate=1.0).apply(TARGETS, NAMES, features=x)
    again = LabelNoise("linadv", rate=1.0).apply(TARGETS, NAMES, features=x.flatten(1))
    torch.testing.assert_close(labels.observed, again.observed)


def test_mixture_has_a_third_of_each() -> None:
    observed = draw("mixture", rate=1.0).observed
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
    labels = draw("pairflip")
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
def test_pairflip_as_the_dataset_says(map: dict[str, str], taken_from: list[int]) -> None:
    labels = draw("pairflip", map=map, count="exact")
    wrong = wrong_rows(labels)
    assert wrong.sum() == 240
    assert torch.equal(labels.observed[wrong], TARGETS[wrong][:, taken_from])


def test_pairflip_of_one_coordinate() -> None:
    with pytest.raises(ValueError, match=r"pairflip.* at least two coordinates"):
        draw("pairflip", TARGETS[:, :1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pairflip"])
def test_one_coordinate_is_enough_for_the_others(kind: str) -> None:
    labels = draw(kind, TARGETS[:, :1], count="exact")
    assert labels.observed.shape == (ROWS, 1)
    assert wrong_rows(labels).sum() == 240


def test_no_noise_is_no_claim_about_the_targets() -> None:
    labels = draw("none", rate=0.0)
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


@kinds
def test_the_dataset_stays_as_it_is(kind: str) -> None:
    targets, x = TARGETS.clone(), FEATURES.clone()
    observed = draw(kind, targets, x=x, features=1.0).observed
    assert torch.equal(targets, TARGETS)
    assert torch.equal(x, FEATURES)
    assert observed.data_ptr() != targets.data_ptr()


# --- kinds for classes and for numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASS_KINDS)
def test_kinds_of_classes_are_refused_for_numbers(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"noise={kind}\b.*linadv.*signflip.*uninoise.*pairflip.*mixture"):
        LabelNoise(kind, **CLASS_KINDS[kind]).apply(TARGETS, NAMES, features=FEATURES)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pairflip"])
def test_kinds_of_numbers_are_refused_for_classes(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"noise={kind}\b.*sym.*asym.*pairflip.*matrix"):
        LabelNoise(kind, rate=0.4).apply(CLASSES, NAMES, features=FEATURES)


def test_pairflip_is_for_both() -> None:
    assert torch.equal(LabelNoise("pairflip", rate=1.0).apply(CLASSES, NAMES).observed, (CLASSES + 1) % 4)
    assert torch.equal(draw("pairflip", rate=1.0).observed, TARGETS.roll(-1, 1))


# --- seeds and hash ---------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("count", ["exact", "bernoulli"])
@pytest.mark.parametrize("features", [0.0, 1.0])
def test_draw_follows_from_the_seed(kind: str, count: str, features: float) -> None:
    first, again, other = (draw(kind, count=count, features=features, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.observed, again.observed)
    assert first.sha256 == again.sha256
    assert not torch.equal(wrong_rows(first), wrong_rows(other))
    assert first.sha256 != other.sha256
    if features:
        assert first.features is not None
        assert again.features is not None
        assert torch.equal(first.features, again.features)


@kinds
def test_draw_and_global_generators_leave_each_other_alone(kind: str) -> None:
    def observed(seed: int) -> NoisyLabels:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
        labels = draw(kind, features=1.0)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
        return labels

    assert observed(1).sha256 == observed(2).sha256


@pytest.mark.parametrize("row", [0, 17, ROWS - 1])
@pytest.mark.parametrize("column", [0, 3])
def test_hash_notices_one_value(row: int, column: int) -> None:
    observed = TARGETS.clone()
    observed[row, column] = torch.nextafter(observed[row, column], torch.tensor(9.0))
    assert NoisyLabels(observed, TARGETS, None, 0).sha256 != NoisyLabels(TARGETS, TARGETS, None, 0).sha256


def test_hash_notices_one_feature() -> None:
    labels = draw("signflip", features=1.0)
    assert labels.features is not None
    other = labels.features.clone()
    other[-1, -1] += 1
    hashes = {
        NoisyLabels(labels.observed, labels.clean, None, 0, features).sha256
        for features in (labels.features, other, None)
    }
    assert len(hashes) == 3


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [0.5, 2.0])
def test_noise_has_so_many_standard_deviations(features: float) -> None:
    labels = draw("signflip", rate=0.8, features=features, seed=3)
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


def test_spread_of_colours() -> None:
    x, spread = torch.zeros(ROWS, 3, 4, 4), torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1)
    labels = LabelNoise("signflip", rate=0.5, features=1.0).apply(TARGETS, NAMES, features=x, spread=spread)
    assert labels.features is not None
    assert labels.features.std((0, 2, 3)).tolist() == pytest.approx([0.1, 1.0, 10.0], rel=0.1)


@pytest.mark.parametrize("labels", [CLASSES, TARGETS], ids=["classes", "numbers"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
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


def test_training_features() -> None:
    labels = draw("uninoise", features=1.0)
    wrong, x = wrong_rows(labels), FEATURES.clone()
    seen = labels.training_features(x)
    assert labels.features is not None
    assert torch.equal(x, FEATURES)
    assert torch.equal(seen[wrong], labels.features)
    assert torch.equal(seen[~wrong], FEATURES[~wrong])
    assert (seen[wrong] != FEATURES[wrong]).any(1).all()


def test_without_noise_training_sees_the_features() -> None:
    labels = draw("signflip", features=0.0)
    assert labels.features is None
    assert torch.equal(labels.training_features(FEATURES), FEATURES)


@pytest.mark.parametrize("kind", ["sym", *KINDS])
def test_labels_are_the_same_with_and_without_features(kind: str) -> None:
    targets = CLASSES if kind == "sym" else TARGETS

    def observed(features: float) -> Tensor:
        noise = LabelNoise(kind, rate=0.4, features=features, seed=2)
        return noise.apply(targets, NAMES, features=FEATURES, spread=SPREAD).observed

    assert torch.equal(observed(0.0), observed(1.0))


@pytest.mark.parametrize(("kind", "features"), [("sym", -0.1), ("signflip", -3), ("none", 1.0), ("file", 1.0)])
def test_features_that_are_refused(kind: str, features: float) -> None:
    rate = {} if kind in ("none", "file") else {"rate": 0.4}
    with pytest.raises(ValueError, match=rf"noise\.features.*got {features}"):
        LabelNoise(kind, features=features, path="noise.npz", **rate)


@pytest.mark.parametrize("missing", ["features", "spread"])
def test_what_features_need(missing: str) -> None:
    given = {"features": FEATURES, "spread": SPREAD, missing: None}
    with pytest.raises(ValueError, match=r"noise\.features.*spread"):
        LabelNoise("signflip", rate=0.4, features=1.0).apply(TARGETS, NAMES, **given)


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


# --- save, load -------------------------------------------------------------------------------------------------------


def load(path: Path, reference: Tensor = TARGETS, **options: Any) -> NoisyLabels:
    return LabelNoise("file", path=str(path)).apply(reference, NAMES, **options)


@kinds
@pytest.mark.parametrize("features", [0.0, 1.0])
def test_saved_targets_come_back(tmp_path: Path, kind: str, features: float) -> None:
    labels = draw(kind, features=features)
    labels.save(tmp_path / "noise.npz")
    loaded = load(tmp_path / "noise.npz", features=FEATURES, spread=SPREAD)
    assert loaded.sha256 == labels.sha256
    assert torch.equal(loaded.observed, labels.observed)
    assert torch.equal(wrong_rows(loaded), wrong_rows(labels))
    assert loaded.clean is not None
    assert torch.equal(loaded.clean, TARGETS)
    assert loaded.rate == labels.rate
    assert loaded.T is None
    assert (loaded.features is None) == (features == 0)
    assert torch.equal(loaded.training_features(FEATURES), labels.training_features(FEATURES))


def test_saved_features_of_classes_come_back(tmp_path: Path) -> None:
    x = torch.randint(0, 255, (ROWS, 3, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    noise = LabelNoise("sym", rate=0.4, features=1.0)
    labels = noise.apply(CLASSES, NAMES, features=x, spread=torch.full((3, 1, 1), 70.0))
    labels.save(tmp_path / "noise.npz")
    loaded = load(tmp_path / "noise.npz", CLASSES, features=x)
    assert loaded.sha256 == labels.sha256
    assert loaded.training_features(x).dtype == torch.uint8
    assert torch.equal(loaded.training_features(x), labels.training_features(x))


def test_saved_targets_without_true_ones_come_back(tmp_path: Path) -> None:
    draw("none", rate=0.0).save(tmp_path / "noise.npz")
    loaded = load(tmp_path / "noise.npz")
    assert torch.equal(loaded.observed, TARGETS)
    assert loaded.rate is None


def test_file_is_plain_numpy(tmp_path: Path) -> None:
    labels = draw("signflip", features=1.0)
    labels.save(tmp_path / "noise.npz")
    with np.load(tmp_path / "noise.npz", allow_pickle=False) as file:
        assert sorted(file) == ["clean", "features", "observed"]
        assert file["observed"].dtype == np.float32
        assert np.array_equal(file["observed"], labels.observed.numpy())


def test_targets_of_another_dataset(tmp_path: Path) -> None:
    draw("signflip").save(tmp_path / "noise.npz")
    other = TARGETS.clone()
    other[41, 2] = 7
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz.*another dataset.*\b41\b"):
        load(tmp_path / "noise.npz", other)


@pytest.mark.parametrize("rows", [ROWS - 1, 1])
def test_targets_of_a_dataset_of_another_size(tmp_path: Path, rows: int) -> None:
    draw("signflip").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=rf"noise\.path: .*noise\.npz.*\(600, 4\).*\b{rows} samples"):
        load(tmp_path / "noise.npz", TARGETS[:rows])


@pytest.mark.parametrize(
    "columns",
    [
        1,
        3,
    ],
)
def test_targets_of_another_width(tmp_path: Path, columns: int) -> None:
    draw("signflip").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz"):
        load(tmp_path / "noise.npz", TARGETS[:, :columns])


def test_classes_where_numbers_are_wanted(tmp_path: Path) -> None:
    LabelNoise("sym", rate=0.4).apply(CLASSES, NAMES).save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz"):
        load(tmp_path / "noise.npz")


def test_classes_without_true_ones_where_numbers_are_wanted(tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", observed=CLASSES.numpy())
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz"):
        load(tmp_path / "noise.npz")


def test_another_width_without_true_ones(tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", observed=TARGETS[:, :2].numpy())
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz"):
        load(tmp_path / "noise.npz")


def test_numbers_where_classes_are_wanted(tmp_path: Path) -> None:
    draw("signflip").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz.*label"):
        load(tmp_path / "noise.npz", CLASSES)


@pytest.mark.parametrize("name", ["observed", "clean"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stored_targets_that_are_no_numbers(tmp_path: Path, name: str, value: float) -> None:
    arrays = {"observed": TARGETS.numpy().copy(), "clean": TARGETS.numpy().copy()}
    arrays[name][23, 1] = value
    np.savez(tmp_path / "noise.npz", **arrays)
    with pytest.raises(ValueError, match=rf"noise\.path: .*noise\.npz: {name}\[23\]"):
        load(tmp_path / "noise.npz")


def without_a_row(features: Tensor) -> Tensor:
    return features[1:]


def narrower(features: Tensor) -> Tensor:
    return features[:, 1:]


def with_nan(features: Tensor) -> Tensor:
    features = features.clone()
    features[3, 0] = torch.nan
    return features


@pytest.mark.parametrize("spoil", [without_a_row, narrower, with_nan])
def test_stored_features_that_do_not_fit(tmp_path: Path, spoil: Any) -> None:
    labels = draw("signflip", features=1.0)
    assert labels.features is not None
    spoilt = NoisyLabels(labels.observed, labels.clean, None, 0, spoil(labels.features))
    spoilt.save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"noise\.path: .*noise\.npz.*features"):
        load(tmp_path / "noise.npz", features=FEATURES, spread=SPREAD)
