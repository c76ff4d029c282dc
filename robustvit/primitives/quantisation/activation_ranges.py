"""Ranges of activations over calibration samples: recorders in the place of quantisers, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustvit.primitives.quantisation.uniform_quantisation import Granularity, Range, RangeRule, least_error_range

BINS = 2048  # of a histogram: percentiles are exact to that part of a range


class Site(NamedTuple):
    """Where activations are quantised: its name, the axis of its channels, how many there are, and what shares a scale."""

    name: str
    axis: int
    channels: int
    granularity: Granularity
    group: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its scales: () for one, else one for each channel, equal within a group."""
        return () if self.granularity == "tensor" else (self.channels,)

    def rows(self, device: torch.device) -> Tensor:
        """Which row of statistics each channel belongs to, (channels,) int64."""
        each = {"tensor": self.channels, "channel": 1, "group": self.group}[self.granularity]
        return torch.arange(self.channels, device=device) // each


class RangeRecorder(nn.Module):
    """Passes activations on, and keeps the least and largest of each row; then, once `ranged`, their histogram over that range."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site, self.ranged, self.seen = site, False, False

    def forward(self, values: Tensor) -> Tensor:
        """The values, unchanged."""
        channels = values.detach().movedim(self.site.axis, 0).flatten(1).float()
        rows = self.site.rows(values.device)
        if not self.seen:
            count = int(rows[-1]) + 1
            self.low = torch.full((count,), torch.inf, device=values.device)
            self.high, self.seen = -self.low, True
            self.counts = torch.zeros(count, BINS, dtype=torch.int32, device=values.device)
        if not self.ranged:
            self.low.scatter_reduce_(0, rows, channels.amin(dim=1), "amin")
            self.high.scatter_reduce_(0, rows, channels.amax(dim=1), "amax")
            return values
        bins = ((channels - self.low[rows, None]) / self._width[rows, None]).long().clamp(0, BINS - 1) + rows[:, None] * BINS
        self.counts += torch.bincount(bins.flatten(), minlength=self.counts.numel()).view_as(self.counts)
        return values

    def range(self, rule: RangeRule, bits: int, symmetric: bool, percentile: float) -> Range:
        """The range by a rule, in the shape of the site's scales; the latter two rules read the histogram."""
        found = Range(self.low, self.high)
        if rule == "percentile":
            found = Range(self._quantile(1.0 - percentile / 100.0), self._quantile(percentile / 100.0))
        if rule == "mse":
            centres = self.low[:, None] + self._width[:, None] * (torch.arange(BINS, device=self.low.device) + 0.5)
            found = least_error_range(centres, self.counts.float(), found, bits, symmetric)
        rows = self.site.rows(self.low.device)
        return Range(*(one[rows].reshape(self.site.shape) if self.site.shape else one[0] for one in found))

    @property
    def _width(self) -> Tensor:
        width = (self.high - self.low) / BINS
        return torch.where(width > 0, width, 1.0)

    def _quantile(self, share: float) -> Tensor:
        """The value below which a share of each row's counts lies, linear within a bin."""
        before = self.counts.cumsum(dim=1).double()
        wanted = share * before[:, -1:]
        at = (before < wanted).sum(dim=1, keepdim=True).clamp(max=BINS - 1)
        inside = self.counts.gather(1, at).double().clamp(min=1.0)
        part = (wanted - before.gather(1, at) + inside) / inside
        return self.low + self._width * (at + part.clamp(0.0, 1.0))[:, 0].float()


def record_ranges(
    run: Callable[[], None], recorders: Mapping[str, RangeRecorder], rule: RangeRule, bits: Mapping[str, int], *,
    symmetric: bool, percentile: float,
) -> dict[str, Tensor]:  # fmt: skip
    """`NAME.low` and `NAME.high` for every recorder; `run` shows them the calibration samples, twice where a rule needs histograms."""
    run()
    if rule != "minmax":
        for recorder in recorders.values():
            recorder.ranged = True
        run()
    found: dict[str, Tensor] = {}
    for name, recorder in recorders.items():
        span = recorder.range(rule, bits[name], symmetric, percentile)
        found |= {f"{name}.low": span.low, f"{name}.high": span.high}
    return found
