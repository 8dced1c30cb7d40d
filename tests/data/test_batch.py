"""Batches that know their samples' positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor

from noisylabels_pl.data import Batch


def features(index: Tensor) -> Tensor:
    """What sample ``index`` looks like: a row tells which sample it is."""
    return torch.stack([10.0 * index, 10.0 * index + 1], dim=1)


def with_partner() -> Batch:
    index, partners = torch.tensor([4, 0, 7]), torch.tensor([1, 2, 3])
    return Batch(features(index), index % 3, index, Batch(features(partners), partners % 3, partners))


# --- Batch ------------------------------------------------------------------------------------------------------------


def test_unpacks_as_inputs_and_labels() -> None:
    batch = with_partner()
    x, y = batch
    assert x is batch.x
    assert y is batch.y


def test_looks_like_a_pair() -> None:
    batch = with_partner()
    assert len(batch) == 2
    assert batch[0] is batch.x
    assert batch[1] is batch.y
    assert batch[-1] is batch.y
    with pytest.raises(IndexError, match="out of range"):
        batch[2]


def test_the_step_sees_values_that_a_callback_set() -> None:
    batch = with_partner()
    batch.x, batch.y = torch.zeros(3, 2), torch.tensor([2, 2, 2])
    x, y = batch
    assert torch.equal(x, torch.zeros(3, 2))
    assert y.tolist() == [2, 2, 2]
    assert batch[0] is x


def test_has_no_partner_unless_given() -> None:
    assert Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1)).partner is None


def assert_moved(moved: Batch, original: Batch) -> None:
    """All tensors of both batches lie on the meta device now, and the original still holds its values."""
    assert isinstance(moved, Batch)
    assert moved is not original
    assert moved.partner is not None
    for part in (moved, moved.partner):
        assert [value.device.type for value in (part.x, part.y, part.index)] == ["meta"] * 3
    assert original.index.tolist() == [4, 0, 7]
    assert original.partner is not None
    assert original.partner.x.device.type == "cpu"


def test_to_copies_everything_to_the_device() -> None:
    batch = with_partner()
    assert_moved(batch.to("meta"), batch)


def test_lightning_moves_it_with_its_positions() -> None:
    batch = with_partner()
    assert_moved(move_data_to_device(batch, torch.device("meta")), batch)


def test_lightning_finds_the_batch_size() -> None:
    assert extract_batch_size(with_partner()) == 3


def test_pin_memory_copies_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    # Page-locked memory needs a GPU; here a pinned tensor is one that is 1000 more.
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, *_: self + 1000)
    batch = with_partner()
    pinned = batch.pin_memory()
    assert isinstance(pinned, Batch)
    assert pinned.partner is not None
    assert batch.partner is not None
    for copy, original in ((pinned, batch), (pinned.partner, batch.partner)):
        for name in ("x", "y", "index"):
            assert torch.equal(getattr(copy, name), getattr(original, name) + 1000)
    assert batch.index.tolist() == [4, 0, 7]


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_several_inputs_move_together(kind: type) -> None:
    inputs = {"ids": torch.ones(3, 4), "mask": torch.zeros(3, 4)}
    x = inputs if kind is dict else kind(inputs.values())
    moved = Batch(x, torch.arange(3), torch.arange(3)).to("meta")
    values = list(moved.x.values()) if kind is dict else list(moved.x)
    assert [value.device.type for value in values] == ["meta", "meta"]
    assert isinstance(moved.x, kind)


class Graph:
    """An input that is no tensor but can be moved, as those of torch_geometric."""

    def __init__(self, nodes: Tensor) -> None:
        self.nodes = nodes

    def to(self, *args: Any, **kwargs: Any) -> Graph:
        return Graph(self.nodes.to(*args, **kwargs))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, torch.zeros(3))], ids=["alone", "beside a tensor"])
def test_inputs_that_move_themselves(wrap: Callable[[Any], Any]) -> None:
    pair = wrap(Graph(torch.ones(5, 2))), torch.arange(3)
    plain, _ = move_data_to_device(pair, torch.device("meta"))
    moved, _ = move_data_to_device(Batch(*pair, torch.arange(3)), torch.device("meta"))
    for x in (plain, moved):
        graph = x[0] if isinstance(x, tuple) else x
        assert graph.nodes.device.type == "meta"
