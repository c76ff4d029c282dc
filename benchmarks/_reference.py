"""The reference generator of ImageNet-C, `imagecorruptions` 1.1.2, made importable on current versions of its dependencies."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def reference() -> Callable[..., np.ndarray]:
    """`imagecorruptions.corrupt` under three shims: a stub of pkg_resources, numpy.float_, and the renamed argument of gaussian."""
    import skimage.filters

    np.float_ = np.float64  # type: ignore[attr-defined]
    plain = skimage.filters.gaussian

    def gaussian(image: np.ndarray, *args: object, multichannel: bool | None = None, **more: object) -> np.ndarray:
        return plain(image, *args, **({"channel_axis": -1} if multichannel else {}), **more)

    skimage.filters.gaussian = gaussian
    with _resources():
        from imagecorruptions import corrupt

    return corrupt  # type: ignore[no-any-return]


@contextmanager
def _resources() -> Iterator[None]:
    """A stub of pkg_resources while the reference is imported: others take a module of that name for the real one."""
    stub = types.ModuleType("pkg_resources")
    stub.resource_filename = _resource  # type: ignore[attr-defined]
    before = sys.modules.get(stub.__name__)
    sys.modules[stub.__name__] = stub
    try:
        yield
    finally:
        if before is None:
            del sys.modules[stub.__name__]
        else:
            sys.modules[stub.__name__] = before


def _resource(package: str, name: str) -> str:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"there is no module '{package}'.")
    return str(Path(found.origin).parent / name)
