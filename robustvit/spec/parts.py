"""Named parts of a data set, told by the hash of a sample's id: `?part=calibration` of any data set's address.

What is fitted on one part (a threshold, a temperature, the statistics of features) is evaluated on another. A sample is in the same part
on every machine, in every variant of the data, and at any limit; the frames of a clip are together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robustvit.errors import BadParameter, nearest

if TYPE_CHECKING:
    import numpy as np

PARAMETER = "part"  # of every data set's address
PARTS = {"calibration": (0.0, 0.5), "evaluation": (0.5, 1.0)}
"""The share of hashes that each part has, from and up to."""


def check_part(name: object, where: str = "") -> str:
    """The name of a part. Raises BadParameter for another."""
    if name not in PARTS:
        raise BadParameter(f"{where}part is '{name}'.{nearest(str(name), PARTS)} It takes {' or '.join(PARTS)}.")
    return str(name)


def in_part(ids: Sequence[str], name: str) -> np.ndarray:
    """(N,) bool: which samples are in the part of that name. Independent of the order in which samples are evaluated."""
    import numpy as np  # late: reading an address needs none

    low, high = PARTS[check_part(name)]
    places = np.array([_place(one) for one in ids], dtype=np.float64)
    return (places >= low) & (places < high)


def _place(name: str) -> float:
    from robustvit.spec.sample_order import clip

    digest = hashlib.blake2b(clip(name)[0].encode(), digest_size=6, person=b"part").digest()
    return int.from_bytes(digest, "big") / 2**48
