"""Loops that numba compiles, where it is installed: the very bits of the torch operations that they stand for, sooner.

A module of loops imports numba, by its decorator `loop`; so it is imported here, when the first tensor is worked on. Loops serve
tensors on a CPU. Everything they do is there in torch as well, for other devices and for machines without numba.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)
_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_wanted: ContextVar[bool] = ContextVar("_wanted", default=True)


def serve(*tensors: Tensor) -> bool:
    """Whether loops may work on these tensors: numba is there, they lie on the CPU, and no gradient is asked for."""
    return _wanted.get() and _installed() and all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in tensors)


def loops(module: str) -> Any:
    """The module of that full name, whose functions are compiled at their first call. Numba must be installed."""
    return importlib.import_module(module)


def loop(function: _Loop) -> _Loop:
    """The function as machine code, made when it is first called and kept on disk; a product and a sum are never fused."""
    numba = importlib.import_module("numba")
    try:
        compiled: _Loop = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError as error:  # neither the folder of the package nor the user's cache can be written
        _log.warning("%s; it is compiled anew in every process. NUMBA_CACHE_DIR may name a folder to keep it in.", error)
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def array(tensor: Tensor, *shape: int) -> NDArray[Any]:
    """The tensor as an array of that shape, for a loop. It shares the memory of a contiguous tensor, so that a loop may fill it."""
    found: NDArray[Any] = tensor.detach().contiguous().view(shape).numpy()
    return found


def planes(tensor: Tensor) -> NDArray[Any]:
    """`array` of a tensor (…, H, W) as (P, H, W)."""
    return array(tensor, math.prod(tensor.shape[:-2]), *tensor.shape[-2:])


@contextmanager
def without() -> Iterator[None]:
    """Inside, loops serve nothing: to compare with them."""
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
        _log.warning("numba is installed but cannot be imported, so the slower torch operations do its work: %s", error)
        return False
    return True
