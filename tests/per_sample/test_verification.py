"""Networks that do not treat samples as assumed: norms stay exact, by ordinary backward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from noisylabels_pl.per_sample import GradientNorms, per_sample_gradient_norms
from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    Net,
    assert_norms_agree,
    build,
    image_head,
    norms_by_loop,
    random_inputs,
    random_labels,
)


@pytest.mark.parametrize("steps", [3, NUM_SAMPLES])
@pytest.mark.parametrize("kind", ["parameter", "rows", "layer"])
def test_learned_positions(kind: str, steps: int) -> None:
    """A parameter, or an embedding whose input has no batch dimension, whatever the number of steps."""

    def forward(s: Any, x: Tensor) -> Tensor:
        if kind == "parameter":
            positions = s.table
        elif kind == "rows":
            positions = s.table.weight[: x.shape[1]]
        else:
            positions = s.table(torch.arange(x.shape[1]))
        return s.out((s.embed(x) + positions).tanh().mean(1))

    def make() -> nn.Module:
        table = nn.Parameter(torch.randn(1, steps, 6)) if kind == "parameter" else nn.Embedding(steps + 2, 6)
        return Net(forward, table=table, embed=nn.Linear(3, 6), out=nn.Linear(6, NUM_CLASSES))

    assert_norms_agree(build(make), F.cross_entropy, random_inputs(NUM_SAMPLES, steps, 3), random_labels(NUM_SAMPLES))


def flattened(s: Any, x: Tensor) -> Tensor:
    return s.out(s.a(x.flatten(0, 1)).tanh().unflatten(0, x.shape[:2]).mean(1))


def transposed(s: Any, x: Tensor) -> Tensor:
    return s.out(s.a(x.transpose(0, 1)).tanh().mean(0))


def transposed_with_norm(s: Any, x: Tensor) -> Tensor:
    return s.out(s.norm(s.a(x.transpose(0, 1))).mean(0))


@pytest.mark.parametrize("steps", [3, NUM_SAMPLES])
@pytest.mark.parametrize("forward", [flattened, transposed, transposed_with_norm])
def test_nets_that_move_the_batch_dimension(forward: Callable[[Any, Tensor], Tensor], steps: int) -> None:
    """A layer's first dimension need not be the batch, even where it has its size."""
    net = build(lambda: Net(forward, a=nn.Linear(3, 6), norm=nn.LayerNorm(6), out=nn.Linear(6, NUM_CLASSES)))
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, steps, 3), random_labels(NUM_SAMPLES))


@pytest.mark.parametrize("steps", [3, NUM_SAMPLES])
def test_a_transformer_block_with_the_steps_first(steps: int) -> None:
    net = build(
        lambda: Net(
            lambda s, x: s.out(s.block(x.transpose(0, 1)).mean(0)),
            block=nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0),
            out=nn.Linear(8, NUM_CLASSES),
        )
    )
    x, y = random_inputs(NUM_SAMPLES, steps, 8), random_labels(NUM_SAMPLES)
    assert_norms_agree(net, F.cross_entropy, x, y, by_func=False)


def use_weight_outside_of_its_layer(s: Any, x: Tensor) -> Tensor:
    return F.linear(s.a(x).tanh(), s.out.weight)


def test_a_batch_without_finite_norms_verifies_nothing() -> None:
    """The first batch is verified; where that is impossible, the next one is."""
    net = build(lambda: Net(use_weight_outside_of_its_layer, a=nn.Linear(6, 8), out=nn.Linear(8, NUM_CLASSES)))
    x, y = random_inputs(NUM_SAMPLES, 6), random_labels(NUM_SAMPLES)
    with GradientNorms(net) as gradient_norms:
        for batch in (torch.full_like(x, torch.nan), x):
            norms = gradient_norms.compute(F.cross_entropy(net(batch), y, reduction="none"))
            gradient_norms.clear()
    torch.testing.assert_close(norms, per_sample_gradient_norms(net, F.cross_entropy, x, y))
    assert norms.isfinite().all()


def test_dropout_inside_of_a_layer_takes_ordinary_backward_passes(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5, batch_first=True)
    x, y = torch.randn(NUM_SAMPLES, 3, 8), torch.randn(NUM_SAMPLES, 3, 8)
    torch.manual_seed(1)
    norms = per_sample_gradient_norms(net, nn.MSELoss(), x, y)
    assert "each sample takes a backward pass of its own" in caplog.text
    torch.manual_seed(1)
    output = net(x)
    for i in range(NUM_SAMPLES):
        gradients = torch.autograd.grad(F.mse_loss(output[i], y[i]), list(net.parameters()), retain_graph=True)
        torch.testing.assert_close(norms[i], torch.cat([gradient.flatten() for gradient in gradients]).norm())


def test_layers_that_work_in_place_take_no_ordinary_backward_passes(caplog: pytest.LogCaptureFixture) -> None:
    """As in torchvision's networks in evaluation mode."""
    net = build(lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding="same"), nn.ReLU(inplace=True), nn.BatchNorm2d(6),
                                      nn.ReLU(inplace=True), *image_head(6)).eval())  # fmt: skip
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 3, 8, 8), random_labels(NUM_SAMPLES))
    assert not caplog.records


def checkpointed(use_reentrant: bool) -> Callable[[Any, Tensor], Tensor]:
    def forward(s: Any, x: Tensor) -> Tensor:
        hidden: Any = checkpoint(s.hidden, x.clone().requires_grad_(), use_reentrant=use_reentrant)
        return s.out(hidden)

    return forward


def with_hidden(forward: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    def make() -> nn.Module:
        hidden = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 6))
        return Net(forward, hidden=hidden, out=nn.Linear(6, NUM_CLASSES))

    return build(make)


def test_checkpointed_layers() -> None:
    x, y = random_inputs(NUM_SAMPLES, 3), random_labels(NUM_SAMPLES)
    plain, net = with_hidden(lambda s, x: s.out(s.hidden(x))), with_hidden(checkpointed(False))
    net.load_state_dict(plain.state_dict())
    with GradientNorms(net) as gradient_norms:
        for _ in range(2):
            losses = F.cross_entropy(net(x), y, reduction="none")
            norms = gradient_norms.compute(losses)
            torch.testing.assert_close(norms, per_sample_gradient_norms(plain, F.cross_entropy, x, y))
            assert gradient_norms.is_layerwise
            net.zero_grad()
            gradient_norms.reweighted(losses, torch.ones(NUM_SAMPLES)).sum().backward()
            gradient_norms.clear()
    F.cross_entropy(plain(x), y, reduction="sum").backward()
    for parameter, expected in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_layers_under_a_reentrant_checkpoint_are_refused() -> None:
    net = with_hidden(checkpointed(True))
    with pytest.raises(ValueError, match=r"hides the checkpointed layers .*; set use_reentrant=False"):
        per_sample_gradient_norms(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 3), random_labels(NUM_SAMPLES))


def test_a_parameter_that_is_used_outside_of_its_layer_later_in_a_fit(caplog: pytest.LogCaptureFixture) -> None:
    """The first batches say nothing of what a later epoch does."""

    def forward(s: Any, x: Tensor) -> Tensor:
        hidden = s.hidden(x)
        return s.out(hidden) + (F.linear(hidden, s.out.weight.square()) if s.is_late else 0)

    net: Any = with_hidden(forward)
    x, y = random_inputs(NUM_SAMPLES, 3), random_labels(NUM_SAMPLES)
    with GradientNorms(net) as gradient_norms:
        for net.is_late in (False, False, True, False):
            norms = gradient_norms.compute(F.cross_entropy(net(x), y, reduction="none"))
            torch.testing.assert_close(norms, norms_by_loop(net, F.cross_entropy, x, y))
            gradient_norms.clear()
    assert caplog.text.count("each sample takes a backward pass of its own") == 1
