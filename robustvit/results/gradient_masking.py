"""Whether the gradients that attacks followed can be believed: a verdict for each model, from its own cells.

The checks are those by which Athalye, Carlini and Wagner (2018, "Obfuscated Gradients Give a False Sense of Security", section 3.1) recognise
gradients that hide adversarial examples; Carlini et al. (2019, "On Evaluating Adversarial Robustness") ask every evaluation for them. An attack that
ought to be weaker is held against those that ought to be stronger, sample by sample: every sample that only the weaker one fells was left by a
fault of the stronger. Loss surfaces come from the analysis `loss_surface`.

A check fails where this happens on more than 1 % of the samples, as an exact binomial test knows it: the chance of as many, were the share 1 %, is
below 5 % after Holm's correction over all tests of the model. A few samples may fall to luck.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import bdtrc

from robustvit.metrics.gradients import probability_outputs, random_step_wins, slope_disagreement
from robustvit.records.cells import asked, opened
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import Attempts, Evidence, Link, Trial
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
_GRAVE = ("suspect", "unchecked", "honest")
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
    """One check of some cells. claim: what is the case where it fails. between: whom it compares.

    count, of: on how many of how many samples the claim holds. p: Holm's, that as many would be if the share were 1 %. status: `passed`, `failed`, or `unchecked`,
    where `between` says why.
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
    """What all findings about a model's gradients come to."""

    findings: tuple[Finding, ...]

    @property
    def status(self) -> str:
        """`suspect` where a check failed, `honest` where all passed, else `unchecked`. Transfer, which takes another model, may be missing."""
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
        """Of each claim that holds, where it holds for the largest share."""
        failed = [finding for finding in self.findings if finding.status == "failed"]
        claims = dict.fromkeys(finding.claim for finding in failed)
        return [max((one for one in failed if one.claim == claim), key=lambda one: one.count / one.of) for claim in claims]


def verdict(evidence: Evidence) -> Verdict:
    """What a model's attacks and loss surfaces say of its gradients."""
    found = [*_beaten(evidence.trials), *_unbounded(evidence.trials), *_larger(evidence.trials), *_surfaces(evidence.surfaces)]
    tested = _tested([one for one in found if one.of])
    checked = {one.check for one in tested}
    untold = {one.check: one for one in found if not one.of}
    missing = [untold.get(name, Finding(name, "", f"needs {NEEDS[name]}")) for name in CHECKS if name not in checked]
    return Verdict(tuple(sorted([*tested, *missing], key=lambda one: CHECKS.index(one.check))))


def verdicts(attempts: Attempts, models: Iterable[str] | None = None) -> dict[str, Verdict]:
    """The verdict beside each attack that was expected, by cell. models: whose cells these are; default, any of the store's."""
    known: dict[int, Verdict] = {}
    gathered = attempts.gathered(models)
    for evidence in gathered.values():
        if id(evidence) not in known:
            known[id(evidence)] = verdict(evidence)
    return {cell: known[id(evidence)] for cell, evidence in gathered.items()}


def gravest(texts: Iterable[str]) -> str:
    """Of several verdicts as the leaderboard tells them the one to mind most; "" where there is none."""
    told = {text for text in texts if text}
    return min(sorted(told), key=lambda text: _GRAVE.index(word(text)), default="")


def word(text: str) -> str:
    """What a verdict begins with: `suspect`, `unchecked` or `honest`."""
    return text.partition(" ")[0].rstrip(":")


def findings(store: Store | Path | str, models: Iterable[str] | None = None) -> pd.DataFrame:
    """Every finding about every model of a store, one row each, with the names that tell its circumstances.

    Raises StoreError for a store or model that is not there.
    """
    place = opened(store)
    attempts, about = Attempts(place), {}
    chosen = None if models is None else list(models)
    for one in asked(place, None, chosen):
        if one.question.kind == "attack":
            attempts.expect(one.question)
            about[one.question.cell] = {name: getattr(one.question, name) for name in _ABOUT}
    told: dict[int, tuple[dict[str, object], Verdict]] = {}
    for cell, found in verdicts(attempts, chosen).items():
        told.setdefault(id(found), (about[cell], found))
    rows = [{**where, **vars(one), "cells": " ".join(one.cells)} for where, found in told.values() for one in found.findings]
    return pd.DataFrame(rows, columns=[*_ABOUT, *Finding.__dataclass_fields__])


def _tested(found: Sequence[Finding]) -> list[Finding]:
    """The findings with their p-values, corrected for their number, and what follows from them."""
    corrected = holm([float(bdtrc(one.count - 1, one.of, SHARE)) if one.count else 1.0 for one in found])
    return [replace(one, p=float(p), status="failed" if p < ALPHA else "passed") for one, p in zip(found, corrected, strict=True)]


def _beaten(trials: Sequence[Trial]) -> Iterator[Finding]:
    """Attacks that ought to be weaker against all that ought to be stronger, at each radius where there are both."""
    balls = dict.fromkeys((link.norm, link.eps) for trial in trials for link in trial.links)
    for check, (claim, weak, strong) in _BEATS.items():
        for ball in balls:
            ones, others = _at(trials, ball, (weak,)), _at(trials, ball, strong)
            if ones and any(link.role == "iterative" for _, link in others):
                only, both = _only(_fell(ones), _fell(others))
                told = f"{_names(ones)} against {_names(others)}, {ones[0][1].ball}"
                yield _finding(check, claim, told, _trials([*ones, *others]), only, both)


def _at(trials: Sequence[Trial], ball: tuple[str, float], roles: Sequence[str]) -> list[tuple[Trial, Link]]:
    return [(trial, link) for trial in trials for link in trial.links if link.role in roles and (link.norm, link.eps) == ball]


def _fell(part: Sequence[tuple[Trial, Link]]) -> pd.Series:
    """Whether each sample that any of some attacks was asked about fell to one of them, by sample."""
    return pd.concat([pd.Series(link.felled, index=trial.samples) for trial, link in part], axis=1).eq(True).any(axis=1)


def _only(ones: pd.Series, others: pd.Series) -> tuple[int, int]:
    """How many samples fell to the first alone, of how many that both sides were asked about."""
    both = pd.concat([ones, others], axis=1, join="inner").to_numpy(dtype=bool)
    return int((both[:, 0] & ~both[:, 1]).sum()), len(both)


def _names(part: Sequence[tuple[Trial, Link]]) -> str:
    return ", ".join(dict.fromkeys(link.name for _, link in part))


def _trials(part: Sequence[tuple[Trial, Link]]) -> list[Trial]:
    return [trial for trial, _ in part]


def _finding(check: str, claim: str, between: str, trials: Iterable[Trial], count: int, of: int) -> Finding:
    cells = tuple(dict.fromkeys(trial.cell for trial in trials))
    return Finding(check, claim, between if of else "no sample that both sides attacked", cells, count, of)


def _unbounded(trials: Sequence[Trial]) -> Iterator[Finding]:
    """Attacks whose ball holds the grey picture whatever the image: what they missed.

    In linf that is eps 0.5, in l2 and l1 half the distance from black to white. The grey picture has one answer: of the samples left, those of all
    classes but one have an adversarial example within reach. With twice that radius every picture is within reach, and each sample has one. Where all
    samples have one label the model may know one answer only, and cannot be fooled.
    """
    part = [(trial, link) for trial in trials for link in trial.links if link.role == "iterative" and _reach(trial, link) >= 0.5]
    if not part:
        return
    labels = pd.concat([pd.Series(trial.labels, index=trial.samples) for trial, _ in part])
    labels = labels[~labels.index.duplicated()]
    if labels.nunique() == 1:
        yield Finding("unbounded", "", "all samples that were attacked have one label")
        return
    left = labels[~_fell(part).reindex(labels.index)].value_counts()
    spared = 0 if any(_reach(trial, link) >= 1.0 for trial, link in part) else int(left.max()) if len(left) else 0
    told = f"{_names(part)}, {' and '.join(dict.fromkeys(link.ball for _, link in part))}"
    yield _finding("unbounded", "an unbounded attack leaves samples", told, _trials(part), int(left.sum()) - spared, len(labels))


def _reach(trial: Trial, link: Link) -> float:
    """The radius as a share of the distance from black to white; 0 in a norm that knows no such distance."""
    widest = {"linf": 1.0, "l2": trial.values**0.5, "l1": float(trial.values)}.get(link.norm, math.inf)
    return math.inf if math.isinf(link.eps) else link.eps / widest


def _larger(trials: Sequence[Trial]) -> Iterator[Finding]:
    """One attack at a radius and at the next larger one: what fell in the smaller ball is in the larger, too."""
    alike: dict[str, list[Trial]] = {}
    for trial in trials:
        if any(link.role == "iterative" and math.isfinite(link.eps) for link in trial.links):
            alike.setdefault(trial.same, []).append(trial)
    for part in alike.values():
        ordered = sorted(part, key=lambda trial: trial.links[-1].eps)
        for small, large in itertools.pairwise(ordered):
            only, both = _only(*(pd.Series(trial.felled, index=trial.samples) for trial in (small, large)))
            told = f"{' and '.join(link.name for link in large.links)}, {small.links[-1].ball} against {large.links[-1].ball}"
            yield _finding("larger ball", "a larger ball leaves more", told, (small, large), only, both)


def _surfaces(surfaces: Mapping[str, pd.DataFrame]) -> Iterator[Finding]:
    for cell, rows in surfaces.items():
        for claim, share in _SURFACES:
            values = share(rows)
            counted = int((~np.isnan(values)).sum())
            yield Finding("loss surface", claim, "loss_surface" if counted else "", (cell,), int(np.nansum(values)), counted)
