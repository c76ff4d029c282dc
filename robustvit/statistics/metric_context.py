"""What a metric can know of the cell that its records are of, besides their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustvit.spec.ablations import Ablations


@dataclass(frozen=True)
class MetricContext:
    """The cell that records are of, for a metric that takes it as its second positional parameter: `(records, context, *, …)`.

    radius: of the attack, as tables show it (`4/255`), empty for an attack without one and for other kinds of scenario. reading_columns:
    the logits that the data's first reading takes, None for all. classes: how many the data has, 0 where that is not known.
    Of a certificate: ablations, those that its votes are counted over, None where it is by others; stop_at, the patch size at whose
    decision counting stopped, None where all votes were counted.
    """

    radius: str = ""
    reading_columns: Sequence[int] | None = None
    classes: int = 0
    ablations: Ablations | None = None
    stop_at: int | None = None
