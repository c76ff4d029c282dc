"""Estimates what a plan will take: seconds from MACs and this machine's speed, or from passes timed now; bytes from what rows took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustvit.evaluation.cost.cell_costs import CountedCosts, TimedCosts
from robustvit.evaluation.cost.rates import Rate, of_this_machine
from robustvit.evaluation.plan import Plan
from robustvit.spec.view import View

_ROW_BYTES = 45  # a stored row of a corruption, measured on suites of 500 to 50,000 samples
_PIXEL_BYTES = 15  # of an attack's image that is kept: float32, and the clean one in bytes
_GALLERY_BYTES = 60_000  # the gallery images of a cell at 224 px


@dataclass(frozen=True)
class Estimate:
    """rows in all and to do; seconds for those to do (None where the model is not at hand); bytes added to the store and the cache.

    bound: these seconds are an upper bound, because a scenario may take fewer passes than it declares, or an attack in a chain is run only
    on samples that the ones before it did not make the model misclassify. factor: how far they may be off, either way; origin: what they
    are estimated from; unknown: scenarios that declare no passes, which count as one.
    """

    rows: int
    rows_to_do: int
    seconds: float | None
    store_bytes: int
    cache_bytes: int
    bound: bool = False
    factor: float = 1.0
    origin: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For people."""
        disk = f"About {_size(self.store_bytes)} of records and {_size(self.cache_bytes)} of decoded images."
        if self.rows_to_do == 0:
            return "Nothing will be computed."
        if self.seconds is None:
            return f"No estimate of time: a model's weights are not at hand. {disk}"
        sure = f", give or take a factor of {self.factor:.2g} (from {self.origin})" if self.origin else ""
        least = f" {', '.join(self.unknown)} may take longer: --measure times them." if self.unknown else ""
        return f"{'Up to' if self.bound else 'About'} {_duration(self.seconds)} on this machine{sure}.{least} {disk}"


def estimate(plan: Plan, done: Mapping[str, int], *, measure: bool = False) -> Estimate:
    """Multiplies a forward pass by the passes that each scenario declares and by the rows still to do.

    done: the rows that are there, by cell id. A forward pass takes the model's MACs at this machine's speed, or, with `measure`, what it
    takes now; scenarios that declare no passes are then timed on a few noise images, and else count as one pass.
    """
    speeds = of_this_machine()
    unsure: list[Rate] = []
    unknown: list[str] = []
    to_do, seconds, bound, images = 0, 0.0, False, 0
    decoded: dict[tuple[str, View], int] = {}
    for part in plan.planned:
        timer = None if part.model is None else TimedCosts(plan, part.model) if measure else CountedCosts(plan, part.model, speeds)
        for cell in plan.defined(part):
            rows = part.samples.asked - (done.get(cell.id, 0) if cell.resolved else 0)
            to_do += rows
            if rows and not part.samples.traits.fleeting:
                decoded[part.samples.data.fingerprint, cell.view] = part.samples.asked * cell.view.size[0] * cell.view.size[1] * 3
            images += rows * cell.view.size[0] * cell.view.size[1] * _PIXEL_BYTES if "adversarial" in plan.kept_of(cell) else 0
            if rows and timer is not None:
                cost = timer.cost(cell)
                seconds += cost.once + rows * cost.row + timer.learning(cell)
                bound = bound or cost.at_most or bool(cell.after)
        if isinstance(timer, CountedCosts):
            unsure += timer.rates
            unknown += timer.unknown
    kept = images + to_do * _ROW_BYTES + (len(plan.cells) * _GALLERY_BYTES if to_do else 0)
    known = all(part.model is not None for part in plan.planned)
    widest = max(unsure, key=lambda one: one.factor, default=Rate(0.0, 1.0, ""))
    images_bytes = sum(decoded.values()) if to_do else 0
    names = tuple(dict.fromkeys(unknown))
    return Estimate(plan.rows, to_do, seconds if known else None, kept, images_bytes, bound, widest.factor, widest.origin, names)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    whole = max(1, round(seconds))
    return f"{whole} second{'' if whole == 1 else 's'}"


def _size(count: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
