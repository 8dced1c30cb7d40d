"""The autograd graph of the losses of a batch."""

from __future__ import annotations

from torch import Tensor

_REENTRANT_CHECKPOINT = "CheckpointFunctionBackward"


def count_nodes(losses: Tensor) -> int:
    """Return the number of nodes of the autograd graph of some losses, which is the same for batches of any size.

    Args:
        losses: ``(B,)``.

    Raises:
        ValueError: a part of the network is checkpointed with ``use_reentrant=True``; its layers are not in the graph.

    Example:
        >>> import torch
        >>> weight = torch.ones(3, requires_grad=True)
        >>> count_nodes(weight * 2), count_nodes(weight * 2 + weight)
        (2, 3)
    """
    root = losses.grad_fn
    if root is None:
        return 0
    seen = {root}
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node.name() == _REENTRANT_CHECKPOINT:
            raise ValueError(
                "the network calls torch.utils.checkpoint with use_reentrant=True, which hides the checkpointed layers "
                "from the autograd graph, so their gradients of single samples are not known; set use_reentrant=False"
            )
        for next_node, _ in node.next_functions:
            if next_node is not None and next_node not in seen:
                seen.add(next_node)
                nodes.append(next_node)
    return len(seen)
