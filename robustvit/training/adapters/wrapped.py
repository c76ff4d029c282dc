"""Computing within the forward pass of DistributedDataParallel, so that it averages the gradients of whatever was computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def through(wrapper: DistributedDataParallel | None, compute: Callable[[], Tensor]) -> Tensor:
    """What `compute` returns, computed within the wrapper's forward pass, in which it may call the wrapped module in any way.

    Without a wrapper it is computed at once. The module's own forward is in its place while it computes.
    """
    if wrapper is None:
        return compute()
    module, own = wrapper.module, vars(wrapper.module).get("forward")

    def put_back() -> None:
        if own is None:
            vars(module).pop("forward", None)
        else:
            module.forward = own

    def forward(*_: Any, **__: Any) -> Tensor:
        put_back()
        return compute()

    module.forward = forward
    try:
        found: Tensor = wrapper()
    finally:
        put_back()
    return found
