"""Loops that numba compiles, where it is installed: bit-identical to the torch operations that they replace, and faster.

A module of loops imports numba through its decorator `loop`, so modules of loops are imported here, when the first tensor needs one.
Loops work on CPU tensors. Everything they do is implemented in torch as well, for other devices and for machines without numba.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)
_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_wanted: ContextVar[bool] = ContextVar("_wanted", default=True)


def serve(*tensors: Tensor) -> bool:
    """Whether loops may work on these tensors: numba is installed, they are on the CPU, and none requires a gradient."""
    return _wanted.get() and _installed() and all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in tensors)


def loops(module: str) -> Any:
    """Imports the module of loops with this full name; its functions are compiled at their first call. Numba must be installed."""
    return importlib.import_module(module)


def loop(function: _Loop) -> _Loop:
    """Decorator: compiles a function with numba when it is first called, and caches it on disk. Products and sums are never fused."""
    numba = importlib.import_module("numba")
    try:
        compiled: _Loop = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError as error:  # neither the package's folder nor the user's cache can be written
        _log.warning("%s; it is compiled anew in every process. Set NUMBA_CACHE_DIR to a folder that can be written.", error)
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def array(tensor: Tensor, *shape: int) -> NDArray[Any]:
    """The tensor as a NumPy array of that shape. It shares the memory of a contiguous tensor, so that a loop may write into it."""
    shared: NDArray[Any] = tensor.detach().contiguous().view(shape).numpy()
    return shared


def planes(tensor: Tensor) -> NDArray[Any]:
    """`array` of a tensor (…, H, W) as (P, H, W)."""
    return array(tensor, math.prod(tensor.shape[:-2]), *tensor.shape[-2:])


def filled(out: Tensor, loop: Callable[..., None], *arguments: Any, shape: Sequence[int] | None = None) -> Tensor:
    """The contiguous tensor `out`, after `loop(*arguments, array)` wrote into it: as `planes`, or as an array of that shape."""
    loop(*arguments, planes(out) if shape is None else array(out, *shape))
    return out


@contextmanager
def without() -> Iterator[None]:
    """Context without compiled loops, to compare torch's operations with them."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


@functools.lru_cache(maxsize=1)
def _installed() -> bool:
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        importlib.import_module("numba")
    except ImportError as error:
        _log.warning("numba is installed but cannot be imported, so the slower torch operations are used: %s", error)
        return False
    return True
