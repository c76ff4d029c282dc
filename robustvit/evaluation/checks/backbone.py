"""Whether the models of a run were fine-tuned from the backbone on which attacks on them are crafted."""

from __future__ import annotations

from robustvit.errors import ModelError
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.primitives.surgery.backbones import share_changed
from robustvit.spec.suite import GIVEN


def other_backbones(plan: Plan, part: PlannedCells) -> list[str]:
    """A sentence for each surrogate that a run named and a model was not made from, with the share of weights that differ.

    Nothing for suites that craft on whatever models there are.
    """
    if plan.suite.surrogates != (GIVEN,) or part.model is None:
        return []
    named = dict.fromkeys((cell.surrogate.model, cell.surrogate.weights) for cell in part.cells if cell.surrogate and not cell.crafts)
    identities = {label: identity for identity, label in plan.labels.items()}
    sources = [other for other in plan.planned if other.model is not None and identities.get(other.label) in named]
    found = {}
    for source in sources:
        assert source.model is not None
        card = source.model.card
        if card.fingerprint not in (part.model.card.backbone or ()):
            found[source.label] = f"it is not known to be made from the surrogate '{source.label}'{_share(part, source)}"
    return list(found.values())


def _share(part: PlannedCells, source: PlannedCells) -> str:
    assert part.model is not None
    assert source.model is not None
    try:
        return f": {100 * share_changed(part.model, source.model):.0f} % of that one's weights, its head left out, differ or are missing"
    except ModelError:
        return ""
