"""Published numbers next to the measured ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustvit.report.provenance import web_link
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.published.agreement import beside
from robustvit.results.summary import with_interval

_BADGES = {"agrees": "good", "differs": "bad", "other rules": "warn"}


@dataclass(frozen=True)
class PublishedComparison:
    """A measured number and the published one. badge: the CSS class of the verdict."""

    model: str
    tag: str
    number: str
    suite: str
    measured: str
    published: str
    difference: str
    errors: str
    verdict: str
    badge: str
    why: str
    rules: str
    source: str
    url: str


def published_comparisons(board: Leaderboard) -> tuple[PublishedComparison, ...]:
    """The numbers of a leaderboard that have published counterparts."""
    return tuple(
        PublishedComparison(
            str(one["model"]), str(one["tag"]),
            " ".join(part for part in (one["scenario"], one["severity"], one["metric"]) if part), str(one["suite"]),
            with_interval(one["measured"], one["low"], one["high"]), f"{one['published']:g}", f"{one['difference']:+.2f}",
            "" if math.isnan(one["standard_errors"]) else f"{one['standard_errors']:+.1f}", str(one["verdict"]), _BADGES[one["verdict"]],
            str(one["why"]), str(one["rules"]), str(one["source"]), web_link(one["url"]),
        )
        for _, one in beside(board).iterrows()
    )  # fmt: skip
