"""Whether a model masks its gradients, so that attacks which follow them overestimate its robustness: a verdict from its own cells.

The checks are those by which Athalye, Carlini and Wagner (2018, "Obfuscated Gradients Give a False Sense of Security", section 3.1)
recognise gradients that hide adversarial examples; Carlini et al. (2019, "On Evaluating Adversarial Robustness") require them of every
evaluation. An attack that should be weaker is compared with those that should be stronger, sample by sample: on every sample that only the
weaker one gets misclassified the stronger one failed. Loss surfaces come from the analysis `loss_surface`.

A check fails where this happens on more than 1 % of the samples by an exact binomial test: the probability of as many, were the share 1 %,
is below 5 % after Holm's correction over all tests of the model. A few samples may be misclassified by luck.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import bdtrc

from robustvit.metrics.gradients import probability_outputs, random_step_wins, slope_disagreement
from robustvit.records.cells import RowReader, StoredCell, open_store, stored_cells
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import COLUMNS, AttackCell, AttackStep, ModelAttacks, attacks_beside
from robustvit.spec.grouping import grouped
from robustvit.statistics.intervals import holm

SHARE, ALPHA = 0.01, 0.05
_ABOUT = ("model", "transforms", "data", "seed", "precision", "view", "storage")
NEEDS = {
    "one step": "an attack of one step and an iterative one with the same norm and eps",
    "random search": "square and an iterative attack with the same norm and eps",
    "transfer": "transfer and an iterative attack with the same norm and eps",
    "unbounded": "an iterative attack with an eps of 0.5 or more (linf), or with none",
    "larger ball": "one iterative attack with two eps",
    "loss surface": "the analysis loss_surface, in float32",
}
CHECKS = tuple(NEEDS)

_OPTIONAL = "transfer"
_WORST_FIRST = ("suspect", "unchecked", "honest")
_BEATS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "one step": ("one step beats iterative", "one step", ("iterative",)),
    "random search": ("random search beats gradients", "search", ("iterative", "one step")),
    "transfer": ("transfer beats white-box", "transfer", ("iterative", "one step")),
}
_SURFACES: tuple[tuple[str, Callable[[pd.DataFrame], np.ndarray]], ...] = (
    ("the loss does not follow its gradient", slope_disagreement),
    ("a random step beats the gradient's", random_step_wins),
    ("the outputs are probabilities", probability_outputs),
)


@dataclass(frozen=True)
class Finding:
    """One check of some cells. claim: what holds where it fails. between: the attacks that it compares.

    count, of: on how many of how many samples the claim holds. p: the probability of as many if the share were 1 %, corrected by Holm.
    status: `passed`, `failed`, or `unchecked`, where `between` gives the reason.
    """

    check: str
    claim: str
    between: str
    cells: tuple[str, ...] = ()
    count: int = 0
    of: int = 0
    p: float = 1.0
    status: str = "unchecked"

    def __str__(self) -> str:
        return f"{self.claim} ({self.count} of {self.of}: {self.between})"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a model's gradients, from all findings about them."""

    findings: tuple[Finding, ...]

    @property
    def status(self) -> str:
        """`suspect` where a check failed, `honest` where all passed but transfer, which needs another model; else `unchecked`."""
        if any(finding.status == "failed" for finding in self.findings):
            return "suspect"
        return "unchecked" if set(self._lacking()) - {_OPTIONAL} else "honest"

    def __str__(self) -> str:
        if self.status == "suspect":
            return f"suspect: {'; '.join(map(str, self._worst()))}"
        lacking = self._lacking()
        if self.status == "honest":
            return f"honest ({_OPTIONAL} unchecked)" if lacking else "honest"
        return f"unchecked: {', '.join(lacking)} ({len(CHECKS) - len(lacking)} of {len(CHECKS)} checks passed)"

    def _lacking(self) -> list[str]:
        return [finding.check for finding in self.findings if finding.status == "unchecked"]

    def _worst(self) -> list[Finding]:
        """For each claim that holds, the finding with the largest share of samples."""
        failed = [finding for finding in self.findings if finding.status == "failed"]
        claims = dict.fromkeys(finding.claim for finding in failed)
        return [max((one for one in failed if one.claim == claim), key=lambda one: one.count / one.of) for claim in claims]


def verdict(attacks: ModelAttacks) -> Verdict:
    """The verdict on a model's gradients from its attacks and loss surfaces."""
    found = [*_beaten(attacks.cells), *_unbounded(attacks.cells), *_larger(attacks.cells), *_surfaces(attacks.surfaces)]
    tested = _tested([one for one in found if one.of])
    checked = {one.check for one in tested}
    empty = {one.check: one for one in found if not one.of}
    missing = [empty.get(name, Finding(name, "", f"needs {NEEDS[name]}")) for name in CHECKS if name not in checked]
    return Verdict(tuple(sorted([*tested, *missing], key=lambda one: CHECKS.index(one.check))))


def verdicts(reader: RowReader, cells: Sequence[StoredCell], others: Iterable[StoredCell]) -> dict[str, str]:
    """The text of the verdict beside each attack among `cells`, by cell id. others: the cells that count as evidence, too."""
    found: dict[str, str] = {}
    for setting in attacks_beside(reader, cells, others):
        found |= dict.fromkeys(setting.requested, str(verdict(setting.attacks)))
    return found


def worst_verdict(texts: Iterable[str]) -> str:
    """The worst of several verdicts as the leaderboard writes them; "" where there is none."""
    return min(sorted({text for text in texts if text}), key=lambda text: _WORST_FIRST.index(verdict_word(text)), default="")


def verdict_word(text: str) -> str:
    """The first word of a verdict: `suspect`, `unchecked` or `honest`."""
    return text.partition(" ")[0].rstrip(":")


def findings(store: Store | Path | str, models: Iterable[str] | None = None) -> pd.DataFrame:
    """Every finding about every model of a store, one row each, with model, transforms, data, seed, precision, view and storage.

    Raises StoreError for a store or model that is not there.
    """
    reader = RowReader(open_store(store), COLUMNS)
    cells = stored_cells(reader.store, None, models)
    about = {one.question.cell: {name: getattr(one.question, name) for name in _ABOUT} for one in cells}
    settings = sorted(attacks_beside(reader, cells, ()), key=lambda setting: min(setting.requested))
    found = [(about[min(setting.requested)], one) for setting in settings for one in verdict(setting.attacks).findings]
    rows = [{**names, **vars(one), "cells": " ".join(one.cells)} for names, one in found]
    return pd.DataFrame(rows, columns=[*_ABOUT, *Finding.__dataclass_fields__])


def _tested(found: Sequence[Finding]) -> list[Finding]:
    """The findings with their p-values, corrected for their number, and the status that follows."""
    corrected = holm([float(bdtrc(one.count - 1, one.of, SHARE)) if one.count else 1.0 for one in found])
    return [replace(one, p=float(p), status="failed" if p < ALPHA else "passed") for one, p in zip(found, corrected, strict=True)]


class _Part(NamedTuple):
    """A step of an attack and the cell that it is of."""

    cell: AttackCell
    step: AttackStep


def _parts(cells: Sequence[AttackCell]) -> list[_Part]:
    return [_Part(cell, step) for cell in cells for step in cell.steps]


def _beaten(cells: Sequence[AttackCell]) -> Iterator[Finding]:
    """Attacks that should be weaker against all that should be stronger, at each radius where there are both."""
    balls = dict.fromkeys((part.step.norm, part.step.eps) for part in _parts(cells))
    for check, (claim, weak, strong) in _BEATS.items():
        for ball in balls:
            weaker, others = _at(cells, ball, (weak,)), _at(cells, ball, strong)
            # many surrogates and attacks together are many attempts, against the one of each attack on the model itself
            for ones in [[one] for one in weaker] if weak == "transfer" else [weaker] if weaker else []:
                if any(part.step.role == "iterative" for part in others):
                    between = f"{_names(ones)} against {_names(others)}, {ones[0].step.ball}"
                    yield _finding(check, claim, between, [*ones, *others], *_only(_fooled(ones), _fooled(others)))


def _at(cells: Sequence[AttackCell], ball: tuple[str, float], roles: Sequence[str]) -> list[_Part]:
    return [part for part in _parts(cells) if part.step.role in roles and (part.step.norm, part.step.eps) == ball]


def _fooled(parts: Sequence[_Part]) -> pd.Series:
    """Whether any of some attacks fooled the model, by sample, for the samples that at least one of them attacked."""
    return pd.concat([pd.Series(part.step.fooled, index=part.cell.samples) for part in parts], axis=1).eq(True).any(axis=1)


def _only(ones: pd.Series, others: pd.Series) -> tuple[int, int]:
    """On how many samples only the first fooled the model, of how many that both sides attacked."""
    both = pd.concat([ones, others], axis=1, join="inner").to_numpy(dtype=bool)
    return int((both[:, 0] & ~both[:, 1]).sum()), len(both)


def _names(parts: Sequence[_Part]) -> str:
    return ", ".join(dict.fromkeys(part.step.name for part in parts))


def _finding(check: str, claim: str, between: str, parts: Iterable[_Part], count: int, of: int) -> Finding:
    cells = tuple(dict.fromkeys(part.cell.cell for part in parts))
    return Finding(check, claim, between if of else "no sample that both sides attacked", cells, count, of)


def _unbounded(cells: Sequence[AttackCell]) -> Iterator[Finding]:
    """Attacks whose ball holds the uniform grey image whatever the input: the samples that they left robust.

    In linf that is eps 0.5, in l2 and l1 half the distance from black to white. The grey image has one predicted class: of the robust
    samples, those of all classes but one have an adversarial example within reach. With twice that radius every image is within reach, and
    each sample has one. Where all samples have one label the model may predict one class only, and cannot be fooled.
    """
    parts = [part for part in _parts(cells) if part.step.role == "iterative" and _reach(part) >= 0.5]
    if not parts:
        return
    labels = pd.concat([pd.Series(part.cell.labels, index=part.cell.samples) for part in parts])
    labels = labels[~labels.index.duplicated()]
    if labels.nunique() == 1:
        yield Finding("unbounded", "", "all samples that were attacked have one label")
        return
    left = labels[~_fooled(parts).reindex(labels.index)].value_counts()
    spared = 0 if any(_reach(part) >= 1.0 for part in parts) else int(left.max()) if len(left) else 0
    between = f"{_names(parts)}, {' and '.join(dict.fromkeys(part.step.ball for part in parts))}"
    yield _finding("unbounded", "an unbounded attack leaves samples", between, parts, int(left.sum()) - spared, len(labels))


def _reach(part: _Part) -> float:
    """The radius as a share of the distance from black to white; 0 in a norm without such a distance."""
    widest = {"linf": 1.0, "l2": part.cell.values**0.5, "l1": float(part.cell.values)}.get(part.step.norm, math.inf)
    return math.inf if math.isinf(part.step.eps) else part.step.eps / widest


def _larger(cells: Sequence[AttackCell]) -> Iterator[Finding]:
    """One attack at a radius and at the next larger one: what fools the model in the smaller ball is in the larger, too."""
    bounded = [cell for cell in cells if any(step.role == "iterative" and math.isfinite(step.eps) for step in cell.steps)]
    for part in grouped((cell.same, cell) for cell in bounded).values():
        ordered = sorted(part, key=lambda cell: cell.steps[-1].eps)
        for small, large in itertools.pairwise(ordered):
            counts = _only(*(_fooled(_parts([cell])) for cell in (small, large)))
            between = f"{' and '.join(step.name for step in large.steps)}, {small.steps[-1].ball} against {large.steps[-1].ball}"
            yield _finding("larger ball", "a larger ball leaves more", between, _parts((small, large)), *counts)


def _surfaces(surfaces: Mapping[str, pd.DataFrame]) -> Iterator[Finding]:
    for cell, rows in surfaces.items():
        for claim, share in _SURFACES:
            values = share(rows)
            counted = int((~np.isnan(values)).sum())
            yield Finding("loss surface", claim, "loss_surface" if counted else "", (cell,), int(np.nansum(values)), counted)
