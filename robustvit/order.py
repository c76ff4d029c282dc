"""The order in which samples are evaluated: by the hash of their id.

Any prefix is then a fair sample of the data (the first hundred ids of ImageNet are the first hundred classes; the first hundred hashes
are not), and shards, limits and restarts agree on who comes next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

SHARD = 512


def order(ids: Sequence[str]) -> np.ndarray:
    """Positions of `ids` in evaluation order, (N,) int64."""
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids]
    return np.array(sorted(range(len(ids)), key=lambda i: (keys[i], ids[i])), dtype=np.int64)
