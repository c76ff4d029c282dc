"""The order in which samples are evaluated: by the hash of their id, the frames of a clip together.

Any prefix is then a fair sample of the data (the first hundred ids of ImageNet are the first hundred classes; the first hundred hashes
are not), and shards, limits and restarts agree on the next sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

SHARD = 512


class Frames(Sequence[str]):
    """The ids of the frames of clips, `each` frames per clip, computed on access: `cat#0`, `cat#1`, …, `dog#0`, …"""

    def __init__(self, clips: Sequence[str], each: int) -> None:
        self.clips = clips
        self.each = each

    def __len__(self) -> int:
        return len(self.clips) * self.each

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        clip, frame = divmod(index % len(self), self.each)
        return f"{self.clips[clip]}#{frame}"


def order(ids: Sequence[str]) -> np.ndarray:
    """The positions of `ids` in evaluation order, (N,) int64. The frames of a clip are consecutive."""
    if isinstance(ids, Frames):
        return (order(ids.clips)[:, None] * ids.each + np.arange(ids.each)).reshape(-1)
    keys = [_key(name) for name in ids]
    return np.array(sorted(range(len(ids)), key=keys.__getitem__), dtype=np.int64)


def clip(name: str) -> tuple[str, int]:
    """The clip of a sample and the number of its frame: `cat#12` is frame 12 of `cat`. Any other sample is a clip of its own."""
    stem, mark, frame = name.rpartition("#")
    return (stem, int(frame)) if mark and frame.isdecimal() else (name, 0)


def starts(ids: Sequence[str], positions: np.ndarray) -> np.ndarray:
    """The offset at which each clip begins among samples in evaluation order, and at the end their number, (clips + 1,)."""
    if isinstance(ids, Frames):
        return np.append(np.arange(0, len(positions), ids.each), len(positions))
    clips = [clip(ids[position])[0] for position in positions.tolist()]
    return np.array([i for i, name in enumerate(clips) if i == 0 or name != clips[i - 1]] + [len(clips)], dtype=np.int64)


def _key(name: str) -> tuple[bytes, str, int]:
    stem, frame = clip(name)
    return hashlib.blake2b(stem.encode(), digest_size=8).digest(), stem, frame
