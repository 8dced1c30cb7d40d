"""Self-paced learning: the samples that it drops, and training on the rest."""

from __future__ import annotations

import pytest

from noisylabels_pl import SPL
from tests.core.filter_helpers import RATE, Make, assert_a_loop_restates, assert_kept_samples_are_cleaner


@pytest.mark.parametrize("second_forward", [False, True])
@pytest.mark.parametrize("task", ["ce", "mse"])
def test_a_loop_that_restates_it(task: str, second_forward: bool, make_trainer: Make) -> None:
    assert_a_loop_restates(SPL(RATE, second_forward=second_forward), "loss", task, second_forward, make_trainer)


def test_kept_samples_are_cleaner_than_the_rest(digits: Make, classifier: Make, make_trainer: Make) -> None:
    assert_kept_samples_are_cleaner(SPL(0.4, ramp_epochs=2), digits, classifier, make_trainer)


def test_other_options_are_refused() -> None:
    with pytest.raises(TypeError, match="forget_rate"):
        SPL()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="convert_batchnorm"):
        SPL(0.2, convert_batchnorm=True)  # type: ignore[call-arg]
