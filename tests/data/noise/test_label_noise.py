"""Noise of labels that is drawn once; for that of regression targets see test_noise_targets.py."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisylabels_pl.data import LabelNoise
from noisylabels_pl.data.datasets.cifar10 import CLASS_NAMES
from tests.data.noise.noise_samples import ANNOTATED, CLEAN, EACH, LABEL_OPTIONS, MATRIX, counts, draw_labels

# --- draws ------------------------------------------------------------------------------------------------------------


def expected_T(kind: str) -> Tensor:
    """The definitions, written out."""
    T = torch.zeros(10, 10, dtype=torch.float64)
    confused = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
    for i in range(10):
        for j in range(10):
            T[i, j] = {
                "sym": 0.55 if i == j else 0.05,
                "sym_inclusive": 0.55 if i == j else 0.05,  # half of the labels are drawn anew, a tenth of those back
                "pairflip": 0.55 if i == j else 0.45 if j == (i + 1) % 10 else 0.0,
                "asym": (0.6 if i == j else 0.4 if j == confused[i] else 0.0) if i in confused else float(i == j),
                "matrix": MATRIX[i][j],
            }[kind]
    return T


@pytest.mark.parametrize("kind", LABEL_OPTIONS)
def test_exact_counts(kind: str) -> None:
    labels = draw_labels(kind, count="exact")
    T = expected_T(kind)
    assert torch.equal(counts(CLEAN, labels.observed), (EACH * T).round().long())
    assert labels.rate == pytest.approx(float(1 - T.diagonal().mean()), abs=1e-12)
    torch.testing.assert_close(labels.realized_T, T)
    torch.testing.assert_close(labels.T, T)


@pytest.mark.parametrize("kind", LABEL_OPTIONS)
def test_bernoulli_frequencies(kind: str) -> None:
    clean = torch.arange(10).repeat(2000)
    labels = draw_labels(kind, clean)
    T = expected_T(kind)
    gap = (counts(clean, labels.observed) - 2000 * T).abs()
    assert (gap <= 4.5 * (2000 * T * (1 - T)).sqrt() + 1e-6).all()
    assert not torch.equal(counts(clean, labels.observed), (2000 * T).round().long())


@pytest.mark.parametrize(("kind", "count"), [*[(kind, "bernoulli") for kind in LABEL_OPTIONS], ("matrix", "exact")])
def test_realized_rate_and_T_are_those_of_the_labels(kind: str, count: str) -> None:
    clean = torch.randint(0, 10, (700,), generator=torch.Generator().manual_seed(3))
    labels = draw_labels(kind, clean, count=count)
    assert labels.observed.dtype == torch.int64
    assert labels.clean is not None
    assert torch.equal(labels.clean, clean)
    wrong = sum(one != other for one, other in zip(clean.tolist(), labels.observed.tolist(), strict=True))
    assert labels.rate == pytest.approx(wrong / 700)
    shares = counts(clean, labels.observed) / torch.bincount(clean)[:, None]
    torch.testing.assert_close(labels.realized_T, shares.double(), rtol=0, atol=1e-6)


def test_no_noise_is_no_claim_about_the_labels() -> None:
    labels = draw_labels("none")
    assert torch.equal(labels.observed, CLEAN)
    assert labels.clean is None
    assert labels.rate is None
    assert labels.realized_T is None


def test_rate_zero_and_one() -> None:
    assert torch.equal(draw_labels("sym", rate=0).observed, CLEAN)
    assert draw_labels("sym", rate=0).rate == 0
    assert draw_labels("sym", rate=1).rate == 1
    assert torch.equal(draw_labels("pairflip", rate=1.0).observed, (CLEAN + 1) % 10)


def test_cats_and_dogs_are_not_flipped_back() -> None:
    wrong = counts(CLEAN, draw_labels("asym", count="exact").observed)
    assert wrong[3, 5] == wrong[5, 3] == 0.4 * EACH


def test_the_labels_of_the_dataset_stay_as_they_are() -> None:
    clean = CLEAN.clone()
    observed = draw_labels("sym", clean).observed
    assert torch.equal(clean, CLEAN)
    assert observed.data_ptr() != clean.data_ptr()


def test_noise_of_the_dataset_itself() -> None:
    labels = draw_labels("none", ANNOTATED, CLEAN)
    assert torch.equal(labels.observed, ANNOTATED)
    assert labels.rate == pytest.approx(0.25)
    assert labels.realized_T is not None
    torch.testing.assert_close(labels.realized_T, (counts(CLEAN, ANNOTATED) / EACH).double())


def test_noise_on_top_is_measured_against_the_true_labels() -> None:
    labels = draw_labels("pairflip", ANNOTATED, CLEAN, rate=1.0)
    assert torch.equal(labels.observed, (ANNOTATED + 1) % 10)
    assert labels.clean is not None
    assert torch.equal(labels.clean, CLEAN)
    assert labels.rate == 1.0


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count"), [*[(kind, "bernoulli") for kind in LABEL_OPTIONS], ("matrix", "exact")])
def test_draw_follows_from_the_seed(kind: str, count: str) -> None:
    first, again, other = (draw_labels(kind, count=count, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.observed, again.observed)
    assert first.sha256 == again.sha256
    assert not torch.equal(first.observed, other.observed)
    assert first.sha256 != other.sha256


@pytest.mark.parametrize("kind", [*LABEL_OPTIONS, "asym derangement"])
def test_draw_and_global_generators_leave_each_other_alone(kind: str) -> None:
    def observed(seed: int) -> Tensor:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
        options = {"map": "derangement"} if "derangement" in kind else {}
        labels = draw_labels(kind.split()[0], **options).observed
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
        return labels

    assert torch.equal(observed(1), observed(2))


def test_one_object_draws_the_same_again() -> None:
    noise = LabelNoise("sym", rate=0.4, seed=5)
    assert torch.equal(noise.apply(CLEAN, CLASS_NAMES).observed, noise.apply(CLEAN, CLASS_NAMES).observed)


# --- asymmetric maps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mapping", [{"cat": "dog", "ship": "truck"}, {3: 5, 8: 9}, {"cat": 5, 8: "truck"}], ids=["names", "numbers", "both"]
)
def test_map_by_names_and_numbers(mapping: dict[str | int, str | int]) -> None:
    labels = draw_labels("asym", map=mapping, rate=0.5, count="exact")
    flipped = counts(CLEAN, labels.observed) - EACH * torch.eye(10, dtype=torch.int64)
    assert flipped.nonzero().tolist() == [[3, 3], [3, 5], [8, 8], [8, 9]]
    assert flipped[3, 5] == flipped[8, 9] == EACH // 2


def test_map_by_number_of_classes_that_are_numbers() -> None:
    # As YAML and the command line give them: 7 is a number, '1' a name.
    digits = tuple("0123456789")
    one = LabelNoise("asym", rate=1.0, map={7: 1, "2": "7"}).apply(CLEAN, digits)
    expected = CLEAN.clone()
    expected[CLEAN == 7], expected[CLEAN == 2] = 1, 7
    assert torch.equal(one.observed, expected)


def test_derangement_moves_every_class_as_a_whole() -> None:
    found = set()
    for seed in range(20):
        observed = draw_labels("asym", map="derangement", rate=1.0, seed=seed).observed
        image = observed[:10]
        assert torch.equal(observed, image.repeat(EACH))
        assert sorted(image.tolist()) == list(range(10))
        assert (image != torch.arange(10)).all()
        found.add(tuple(image.tolist()))
    assert len(found) > 15


def test_the_derangement_of_crust() -> None:
    """Its public code seeds NumPy with 0 and draws permutations until one has no fixed point."""
    rng, expected = np.random.RandomState(0), np.arange(10)
    while (expected == np.arange(10)).any():
        expected = rng.permutation(10)
    observed = draw_labels("asym", map="crust_released", rate=1.0, seed=7).observed
    assert observed[:10].tolist() == expected.tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    with pytest.raises(ValueError, match=r"^map=crust_released is for 10 classes, got 2; use map=derangement"):
        LabelNoise("asym", rate=1.0, map="crust_released").apply(torch.tensor([0, 1]), ("a", "b"))


def test_the_asymmetric_noise_of_elr_flips_cats_back() -> None:
    """Its public code flips a part of each class in turn, and reads the labels again for the next class."""
    rng, clean = np.random.RandomState(0), np.arange(10).repeat(5000)
    flipped = clean.copy()
    for label, becomes in ((2, 0), (3, 5), (4, 7), (5, 3), (9, 1)):  # birds, cats, deer, dogs, trucks
        members = rng.permutation(np.flatnonzero(flipped == label))
        flipped[members[: int(0.4 * len(members))]] = becomes
    labels = draw_labels("asym", torch.from_numpy(clean), map="elr_released", rate=0.4, count="exact")
    assert labels.T is not None
    frequencies = counts(torch.from_numpy(clean), torch.from_numpy(flipped)) / 5000
    torch.testing.assert_close(labels.T, frequencies.double(), rtol=0, atol=0.02)
    assert labels.T[3].tolist() == pytest.approx([0, 0, 0, 0.76, 0, 0.24, 0, 0, 0, 0])
    assert labels.T[5].tolist() == pytest.approx([0, 0, 0, 0.4, 0, 0.6, 0, 0, 0, 0])
    assert labels.rate == pytest.approx(0.184)
    assert torch.equal(counts(torch.from_numpy(clean), labels.observed), (labels.T * 5000).round().long())


def test_derangement_of_two_classes() -> None:
    labels = LabelNoise("asym", rate=1.0, map="derangement").apply(torch.tensor([0, 1, 1]), ("a", "b"))
    assert labels.observed.tolist() == [1, 0, 0]


def test_derangement_takes_the_rate() -> None:
    labels = draw_labels("asym", map="derangement", rate=0.4, count="exact")
    assert labels.rate == pytest.approx(0.4)
    assert labels.T is not None
    assert torch.equal(labels.T.diagonal(), torch.full((10,), 0.6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("mapping", "name"), [({"cat": "horsefly"}, "horsefly"), ({"fox": "dog"}, "fox"), ({10: 0}, "10")]
)
def test_map_that_names_a_class_that_is_not_there(mapping: dict[Any, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^map names class .?{name}\b.*airplane.*truck"):
        draw_labels("asym", map=mapping)


def test_dataset_without_a_map() -> None:
    with pytest.raises(ValueError, match=r"no asymmetric map.* map="):
        LabelNoise("asym", rate=0.4).apply(CLEAN, CLASS_NAMES)


def test_unknown_word_for_a_map() -> None:
    with pytest.raises(ValueError, match=r"^map must be dataset, .*derangement.* or .*'supercalss'"):
        draw_labels("asym", map="supercalss")


# --- matrices ---------------------------------------------------------------------------------------------------------


def saved_matrix(folder: Path, suffix: str, rows: Any) -> str:
    path = folder / f"T{suffix}"
    if suffix == ".npy":
        np.save(path, np.array(rows))
    else:
        path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return str(path)


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_matrix_from_a_file_is_the_one_given_in_place(tmp_path: Path, suffix: str) -> None:
    from_file = draw_labels("matrix", matrix=saved_matrix(tmp_path, suffix, MATRIX))
    in_place = draw_labels("matrix")
    assert torch.equal(from_file.observed, in_place.observed)
    torch.testing.assert_close(from_file.T, expected_T("matrix"), rtol=0, atol=1e-12)


def test_matrix_of_integers() -> None:
    labels = LabelNoise("matrix", matrix=[[0, 1], [1, 0]]).apply(torch.tensor([0, 1, 1]), ("a", "b"))
    assert labels.observed.tolist() == [1, 0, 0]


WRONG_MATRICES = {
    "two rows of three": ([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], r"T must be square.*\(3, 3\), got \(2, 3\)"),
    "too few classes": ([[0.5, 0.5], [0.0, 1.0]], r"T must be square.*\(3, 3\), got \(2, 2\)"),
    "row sum": ([[1, 0, 0], [0.2, 0.7, 0.2], [0, 0, 1]], r"T\[1\] must sum to 1, got 1\.1"),
    "columns sum to 1": ([[0.5, 0.9, 0], [0, 0.1, 0], [0.5, 0, 1]], r"T\[0\] must sum to 1, got 1\.4"),
    "negative": ([[1, 0, 0], [0, 1, 0], [1.5, 0, -0.5]], r"T\[2\] must be .*not negative.*-0\.5"),
    "NaN": ([[1, 0, 0], [0, math.nan, 1], [0, 0, 1]], r"T\[1\] must be finite"),
}


@pytest.mark.parametrize("where", ["in place", ".npy", ".csv"])
@pytest.mark.parametrize("kind", WRONG_MATRICES)
def test_wrong_matrix(tmp_path: Path, kind: str, where: str) -> None:
    rows, message = WRONG_MATRICES[kind]
    matrix = rows if where == "in place" else saved_matrix(tmp_path, where, rows)
    with pytest.raises(ValueError, match=message):
        LabelNoise("matrix", matrix=matrix).apply(torch.tensor([0, 1, 2]), ("a", "b", "c"))


@pytest.mark.parametrize(
    "rows", [[[1, 0, 0], [0, 1], [0, 0, 1]], [1, 0, 0], [], [["a", 0, 0]] * 3], ids=["ragged", "flat", "empty", "text"]
)
def test_rows_that_are_no_matrix(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"matrix|\bT\b"):
        LabelNoise("matrix", matrix=rows).apply(torch.tensor([0, 1, 2]), ("a", "b", "c"))


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_matrix_file_with_something_else_in_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"T{suffix}"
    path.write_text("true,cat,dog\n1,0,0\n0,1,0\n0,0,1\n")
    with pytest.raises(ValueError, match=rf"^matrix.*T\{suffix}"):
        LabelNoise("matrix", matrix=str(path)).apply(torch.tensor([0, 1, 2]), ("a", "b", "c"))


def test_missing_matrix_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^matrix.*no file .*absent\.npy"):
        draw_labels("matrix", matrix=str(tmp_path / "absent.npy"))


# --- constructor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sym", "asym", "pairflip", "none"])
@pytest.mark.parametrize("rate", [-0.1, 1.01, 40, math.nan, math.inf])
def test_rate_outside_of_its_range(kind: str, rate: float) -> None:
    with pytest.raises(ValueError, match=rf"^rate must lie in \[0, 1\], got {rate}"):
        LabelNoise(kind, rate=rate)


def test_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^kind.*sym_inclusive.*symmetric"):
        LabelNoise("symmetric", rate=0.2)


def test_unknown_count() -> None:
    with pytest.raises(ValueError, match=r"^count.*bernoulli.*exact"):
        LabelNoise("sym", rate=0.2, count="multinomial")


def test_matrix_noise_needs_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"kind='matrix' needs matrix"):
        LabelNoise("matrix")


@pytest.mark.parametrize("kind", ["none", "matrix"])
def test_kinds_without_a_rate(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^kind='{kind}' takes no rate, got 0.2"):
        LabelNoise(kind, rate=0.2, matrix=MATRIX)


# --- maps within groups, two classes ----------------------------------------------------------------------------------


def mapped(option: str, num_classes: int, superclasses: Any = None) -> list[int]:
    """Return what each class becomes at the rate 1."""
    clean = torch.arange(num_classes)
    noise = LabelNoise("asym", rate=1.0, map=option)
    observed: list[int] = noise.apply(clean, [f"c{i}" for i in clean], superclasses=superclasses).observed.tolist()
    return observed


def test_superclasses() -> None:
    assert mapped("superclass", 7, (0, 1, 0, 1, 1, 2, 0)) == [2, 3, 6, 4, 1, 5, 0]
    assert mapped("superclass", 4, ("pet", "pet", "car", "car")) == [1, 0, 3, 2]


def test_blocks() -> None:
    assert mapped("blocks", 10) == [1, 2, 3, 4, 0, 6, 7, 8, 9, 5]
    assert mapped("blocks", 6) == [1, 2, 3, 4, 0, 5]  # alone in its block
    hundred = mapped("blocks", 100)
    assert hundred == [5 * (i // 5) + (i % 5 + 1) % 5 for i in range(100)]


def test_maps_within_groups_take_the_rate() -> None:
    labels = draw_labels("asym", map="blocks", rate=0.4, count="exact")
    assert labels.rate == pytest.approx(0.4)
    torch.testing.assert_close(labels.realized_T, labels.T)


def test_superclasses_that_are_missing() -> None:
    with pytest.raises(ValueError, match=r"^map=superclass: this dataset has no superclasses; take map=blocks"):
        mapped("superclass", 10)
    with pytest.raises(ValueError, match=r"^superclasses must name one for each of the 10 classes, got 3"):
        mapped("superclass", 10, (0, 1, 1))


def test_binary() -> None:
    labels = LabelNoise("binary", rate=0.4, count="exact").apply(torch.tensor([0, 1]).repeat(100), ("neg", "pos"))
    assert labels.T is not None
    assert labels.T.tolist() == [[0.95, 0.05], [0.4, 0.6]]
    torch.testing.assert_close(labels.realized_T, labels.T)
    assert labels.rate == pytest.approx(0.225)
    with pytest.raises(
        ValueError, match=r"^num_classes must lie in \[2, 2\], got 10; kind='binary' is for two classes"
    ):
        draw_labels("binary", rate=0.4)


# --- the draws of earlier versions ------------------------------------------------------------------------------------


DIGESTS = {
    ("sym", "bernoulli"): "dd706d03a2d4",
    ("sym", "exact"): "86fc17820200",
    ("pairflip", "bernoulli"): "a54eb5caa0e7",
    ("asym", "exact"): "da3e4aeb2811",
    ("matrix", "bernoulli"): "316b58fe0268",
}


@pytest.mark.parametrize(("kind", "count"), DIGESTS)
def test_a_seed_draws_the_same_labels_as_ever(kind: str, count: str) -> None:
    assert draw_labels(kind, count=count, seed=3).sha256.startswith(DIGESTS[kind, count])


def test_a_seed_draws_the_same_derangement_as_ever() -> None:
    assert draw_labels("asym", map="derangement", seed=5).sha256.startswith("de9a407e99be")
