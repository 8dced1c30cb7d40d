"""Co-teaching against a loop that restates it."""

from __future__ import annotations

import pytest

from noisylabels_pl import CoTeaching
from tests.core.filter_helpers import Make, assert_peers_choose_for_each_other


@pytest.mark.parametrize("second_forward", [False, True])
@pytest.mark.parametrize("task", ["ce", "mse"])
def test_peers_choose_for_each_other(task: str, second_forward: bool, make_trainer: Make) -> None:
    assert_peers_choose_for_each_other(CoTeaching, "loss", task, second_forward, make_trainer)
