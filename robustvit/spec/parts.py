"""Parts of a data set, told by the hash of a sample's id: `?part=calibration` or `?part=2/5` of any data set's address.

What is fitted on one part (a threshold, a temperature, the statistics of features) is evaluated on another. `calibration` and `evaluation`
are halves; `2/5` is the second of five equal parts, and `1-3/5` the first three together, so that pretraining, fine-tuning and evaluation
may share a set and no sample of it. A sample is in the same part on every machine, in every variant of the data, and at any limit; the
frames of a clip are together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robustvit.errors import BadParameter, nearest

if TYPE_CHECKING:
    import numpy as np

PARAMETER = "part"  # of every data set's address
PARTS = {"calibration": (0.0, 0.5), "evaluation": (0.5, 1.0)}
"""The share of hashes that each named part has, from and up to."""
_MOST = 1000  # equal parts
_NUMBERED = re.compile(r"([1-9]\d*)(?:-([1-9]\d*))?/([1-9]\d*)")


def check_part(name: object, where: str = "") -> str:
    """The name of a part. Raises BadParameter for another."""
    if name not in PARTS and _bounds(str(name)) is None:
        raise BadParameter(
            f"{where}part is '{name}'.{nearest(str(name), PARTS)} It takes {', '.join(PARTS)}, or equal parts by their numbers: 2/5 is the "
            f"second of five, 1-3/5 the first three; of at most {_MOST}, and fewer than all."
        )
    return str(name)


def in_part(ids: Sequence[str], name: str) -> np.ndarray:
    """(N,) bool: which samples are in the part of that name. Independent of the order in which samples are evaluated."""
    import numpy as np  # late: reading an address needs none

    low, high = PARTS.get(check_part(name)) or _bounds(name) or (0.0, 0.0)
    places = np.array([_place(one) for one in ids], dtype=np.float64)
    return (places >= low) & (places < high)


def _bounds(name: str) -> tuple[float, float] | None:
    """The share of hashes of equal parts, from and up to; None where the name is of none, or of all of them."""
    if (found := _NUMBERED.fullmatch(name)) is None:
        return None
    first, last, count = int(found[1]), int(found[2] or found[1]), int(found[3])
    ordered = first < last if found[2] else True
    return ((first - 1) / count, last / count) if ordered and last <= count <= _MOST and last - first + 1 < count else None


def _place(name: str) -> float:
    from robustvit.spec.sample_order import clip

    digest = hashlib.blake2b(clip(name)[0].encode(), digest_size=6, person=b"part").digest()
    return int.from_bytes(digest, "big") / 2**48
