"""Seeing the loss of a training step, wherever the step computes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torchmetrics import Metric

from noisylabels_pl.core.loss_call import LOSS_FUNCTIONS, LossCall, call_of_criterion, call_of_function

Handler = Callable[[LossCall, Callable[[], Tensor]], Tensor]


class LossInterception(TorchFunctionMode):
    """Hands every loss that a training step computes to a handler, which returns the loss to use instead.

    It sees calls of torch's loss functions (``F.cross_entropy``, ``F.nll_loss``, ``F.mse_loss``, ...), also inside of
    compiled functions and of models that compute their loss themselves, and calls of criteria: child modules with a
    ``reduction``. A loss function that a criterion calls belongs to the criterion; if the criterion returns its result,
    the function's arguments are what the loss sees, as the scaled logits of a normalized head are.

    Args:
        criteria: the criteria to hook, by name.
        functions: whether to see torch's loss functions, too.
        handler: takes the call, and a function that computes the loss as the step wrote it.
        needs_grad: whether to ignore losses that are computed without gradients, as for a log.
    """

    def __init__(
        self, criteria: dict[str, nn.Module], *, functions: bool, handler: Handler, needs_grad: bool = True
    ) -> None:
        super().__init__()
        self.criteria = criteria
        self.functions = functions
        self.handler = handler
        self.needs_grad = needs_grad
        self._depth = 0  # of criteria that are running
        self._inner: tuple[LossCall, Tensor] | None = None  # the last call of a function in a criterion, and its loss
        self._handles: list[RemovableHandle] = []
        self.is_running = False

    def attach(self) -> None:
        """Hook the criteria, until :meth:`detach`."""
        enter = torch.compiler.disable(self._enter_criterion)  # type: ignore[no-untyped-call]
        leave = torch.compiler.disable(self._leave_criterion)  # type: ignore[no-untyped-call]
        for criterion in self.criteria.values():
            self._handles.append(criterion.register_forward_pre_hook(enter, with_kwargs=True))
            self._handles.append(criterion.register_forward_hook(leave, with_kwargs=True))

    def detach(self) -> None:
        """Remove all hooks."""
        self.stop()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def start(self) -> None:
        """Begin to hand losses to the handler."""
        self._depth = 0
        self._inner = None
        if not self.is_running:
            self.is_running = True
            self.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Leave losses alone again."""
        if self.is_running:
            self.is_running = False
            self._inner = None
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in LOSS_FUNCTIONS or self._ignores_gradients():
            return func(*args, **kwargs)
        return self._handle_function(func, args, kwargs)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _handle_function(self, function: Any, args: Any, kwargs: Any) -> Tensor:
        compute: Callable[[], Tensor] = partial(function, *args, **kwargs)
        if self._depth > 1 or not (self._depth or self.functions):
            return compute()
        call = call_of_function(function, args, kwargs)
        if not self._depth:
            return self.handler(call, compute)
        loss = compute()
        self._inner = call, loss
        return loss

    def _enter_criterion(self, criterion: nn.Module, args: Any, kwargs: Any) -> None:
        self._depth += 1

    def _leave_criterion(self, criterion: nn.Module, args: Any, kwargs: Any, loss: Tensor) -> Tensor | None:
        try:
            if not self.is_running or self._depth > 1 or self._ignores_gradients():
                return None
            if self._inner is not None and self._inner[1] is loss:
                call = self._inner[0]
                call.name = type(criterion).__name__
                call.is_unreduced_function = False
            else:
                call = call_of_criterion(criterion, args, kwargs)
            self._depth += 1  # the handler calls loss functions, too
            adjusted = self.handler(call, lambda: loss)
            self._depth -= 1
            return None if adjusted is loss else adjusted
        finally:
            self._inner = None
            self._depth -= 1

    def _ignores_gradients(self) -> bool:
        return self.needs_grad and not torch.is_grad_enabled()


def depends_on(loss: Tensor, part: Tensor) -> bool:
    """Return whether the gradient of a loss flows into another tensor.

    Args:
        loss: a scalar.
        part: a tensor that may have been used to compute it.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> loss, log = 2 * weight, 3 * weight
        >>> depends_on(loss + 1, loss), depends_on(loss + 1, log)
        (True, False)
    """
    if loss is part:
        return True
    seen = {loss.grad_fn}
    nodes = deque(seen)
    while nodes:  # breadth first, because what is looked for is a few steps away
        node = nodes.popleft()
        if node is None:
            continue
        if node is part.grad_fn:
            return True
        for next_node, _ in node.next_functions:
            if next_node not in seen:
                seen.add(next_node)
                nodes.append(next_node)
    return False


def find_criteria(module: nn.Module) -> dict[str, nn.Module]:
    """Return the child modules with a ``reduction``, by name; torchmetrics have one, too, but are no criteria."""
    return {
        name: child
        for name, child in module.named_children()
        if hasattr(child, "reduction") and not isinstance(child, Metric)
    }


def find_criterion(module: nn.Module, name: str | None, owner: str) -> dict[str, nn.Module]:
    """Return the criterion whose loss a callback changes, by name; nothing if the module has none.

    Args:
        module: of the user.
        name: of the criterion; the only child module with a ``reduction`` if not given.
        owner: name of the callback, for the messages.

    Raises:
        TypeError: there is no module of the name, or there are several criteria to choose from.
    """
    if name is not None:
        named: nn.Module | None = dict(module.named_modules()).get(name)
        if named is not None:
            return {name: named}
        raise TypeError(
            f"{type(module).__name__} has no module named {name!r} whose loss {owner} could change; it has "
            f"{', '.join(child for child, _ in module.named_children())}; criterion=None finds losses"
        )
    criteria = find_criteria(module)
    if len(criteria) > 1:
        raise TypeError(
            f"{type(module).__name__} has {len(criteria)} criteria as child modules: {', '.join(criteria)}; "
            f"name the one that {owner} changes: criterion={next(iter(criteria))!r}"
        )
    return criteria
