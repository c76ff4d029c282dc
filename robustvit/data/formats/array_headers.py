"""The headers of arrays in a .npz file, held against what lies in it before any memory is taken."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from robustvit.errors import DataUnreadable

_LARGEST_RATIO, _SMALL = 500, 64 << 20  # an archive of images is compressed a few times; bytes below which nobody minds


def refuse_lies(path: Path) -> None:
    """Raises DataUnreadable for a .npz file in which an array is said to be larger than it is, or unfolds to hundreds of times its size.

    Raises what zipfile and numpy do for a file that is damaged; nothing for one that is no zip file.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > max(_SMALL, _LARGEST_RATIO * member.compress_size):
                raise DataUnreadable(f"{path}: {member.filename} unfolds from {member.compress_size:,} bytes to {member.file_size:,}.")
            if member.filename.endswith(".npy"):
                with archive.open(member) as content:
                    promised = _promised(content)
                    held = member.file_size - content.tell()
                if promised is not None and promised != held:
                    raise DataUnreadable(f"{path}: the header of {member.filename} promises {promised:,} bytes; it has {held:,}.")


def _promised(content: IO[bytes]) -> int | None:
    """The bytes that the header of an array promises; None for an array of Python objects. Leaves the file after the header."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(content))  # type: ignore[no-untyped-call]
    if read is None:
        raise ValueError("a version of the .npy format that holds no numbers or text")
    shape, _, dtype = read(content)
    if any(isinstance(side, bool) or side < 0 for side in shape):
        raise ValueError(f"the shape {shape}")
    return None if np.dtype(dtype).hasobject else math.prod(shape) * np.dtype(dtype).itemsize
