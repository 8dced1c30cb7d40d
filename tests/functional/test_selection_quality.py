"""How clean a selection is."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisylabels_pl.functional import label_precision_recall


def test_by_hand() -> None:
    is_clean = torch.tensor([True, False, True, False, False, True, True])
    precision, recall = label_precision_recall(torch.tensor([6, 1, 2]), is_clean)
    assert type(precision) is float
    assert type(recall) is float
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([0, 1, 2, 3, 4], (0.4, 1.0)), ([1, 3], (1.0, 1.0)), ([3], (1.0, 0.5)), ([0, 2, 4], (0.0, 0.0))],
)
def test_ends_of_the_scale(indices: list[int], expected: tuple[float, float]) -> None:
    is_clean = torch.tensor([False, True, False, True, False])
    assert label_precision_recall(torch.tensor(indices), is_clean) == pytest.approx(expected)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_equals_set_arithmetic(flags: list[bool], data: st.DataObject) -> None:
    rows = st.integers(0, len(flags) - 1)
    chosen = data.draw(st.lists(rows, unique=True), label="indices")
    precision, recall = label_precision_recall(torch.tensor(chosen, dtype=torch.int64), torch.tensor(flags))
    clean = {i for i, flag in enumerate(flags) if flag}
    hits = len(clean & set(chosen))
    assert precision == pytest.approx(hits / len(chosen) if chosen else math.nan, nan_ok=True)
    assert recall == pytest.approx(hits / len(clean) if clean else math.nan, nan_ok=True)


def test_empty_selection_has_no_precision() -> None:
    precision, recall = label_precision_recall(torch.tensor([], dtype=torch.int64), torch.tensor([True, False]))
    assert math.isnan(precision)
    assert recall == 0.0


def test_no_clean_rows_have_no_recall() -> None:
    precision, recall = label_precision_recall(torch.tensor([1]), torch.tensor([False, False]))
    assert precision == 0.0
    assert math.isnan(recall)


def test_nothing_chosen_and_nothing_clean() -> None:
    precision, recall = label_precision_recall(torch.tensor([], dtype=torch.int64), torch.tensor([False, False]))
    assert math.isnan(precision)
    assert math.isnan(recall)


def test_large_counts_are_not_rounded() -> None:
    # A mean over float16 or a float32 running sum would stall here.
    n = 2**24 + 1
    precision, recall = label_precision_recall(torch.arange(n), torch.ones(n, dtype=torch.bool))
    assert (precision, recall) == (1.0, 1.0)
