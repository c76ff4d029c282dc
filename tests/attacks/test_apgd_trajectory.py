"""APGD on a trained network, query by query, against loops written from the papers and against the code of its authors."""

from __future__ import annotations

import itertools
from typing import Any

import gradient_references as papers
import numpy as np
import pytest
import torch
from trained import Array, Digits, Query, Recorder, Trail, batch, network, outcome

from robustvit.attacks.apgd import apgd_ce, apgd_dlr, apgd_t, steps_in_balls
from robustvit.primitives.draws import Draws

COUNT = 8
BALLS = [pytest.param("linf", 7 / 255, id="linf"), pytest.param("l2", 0.5, id="l2")]
DRAWS = Draws(0, "x", [str(i) for i in range(COUNT)])
ATTACKS = {"apgd_ce": (apgd_ce, papers.ce), "apgd_dlr": (apgd_dlr, papers.dlr)}


@pytest.fixture(scope="module")
def digits() -> Digits:
    return batch(COUNT)


@pytest.fixture(scope="module")
def ranked(digits: Digits) -> list[list[int]]:
    """The wrong classes by their logits on the clean images, the most likely first."""
    order = network()(digits.images).argsort(dim=1, descending=True).tolist()
    return [[one for one in row if one != label] for row, label in zip(order, digits.labels.tolist(), strict=True)]


class Followed:
    """References for all samples beside one recorded attack."""

    def __init__(self, recorder: Recorder, digits: Digits) -> None:
        self.trail, self.images = Trail(recorder), digits.images.numpy()
        self.samples = [papers.Sample(network(), int(label)) for label in digits.labels]
        self.paths: list[list[Query]] = [[] for _ in self.samples]
        self.wanted, self.slow, self.stuck, self.kept = self.images.copy(), 0, 0, 0

    @property
    def robust(self) -> list[int]:
        return [i for i, one in enumerate(self.samples) if not one.wrong]

    def run(self, rows: list[int], follow: Any, starts: Array) -> None:
        """`follow(i, start)` makes the run of sample i and gives its end; compares the queries of all."""
        for i, start in zip(rows, starts, strict=True):
            self.samples[i].path = []
            end = follow(i, start)
            self.wanted[i] = self.samples[i].path[-1].pixels if self.samples[i].wrong else end.best
            self.paths[i] += self.samples[i].path
            self.slow, self.stuck, self.kept = self.slow + end.slow, self.stuck + end.stuck, self.kept + end.kept
        self.trail.expect([self.samples[i].path for i in rows])

    def end(self, found: Any) -> None:
        self.trail.end()
        assert np.allclose(found.images.numpy(), self.wanted, atol=1e-6)
        outcome(found, self.paths)


@pytest.mark.parametrize(("norm", "eps"), BALLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_run_takes_the_steps_of_the_paper_and_halves_them_at_its_checkpoints(digits: Digits, name: str, norm: Any, eps: float) -> None:
    (attack, loss), recorder = ATTACKS[name], Recorder(network())
    found, there = attack(recorder, *digits, DRAWS, eps=eps, norm=norm), Followed(recorder, digits)
    there.run(
        there.robust,
        lambda i, start: papers.apgd(there.samples[i], there.images[i], start, loss(there.samples[i].label), eps, norm),
        there.trail.next,
    )
    there.end(found)
    assert 0 < len(there.robust) < COUNT
    assert there.slow > 0
    assert name == "apgd_dlr" or there.kept > 0  # both outcomes of the checks are compared
    assert (name, norm) != ("apgd_ce", "l2") or there.stuck > 0  # and the second condition alone


@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_restarts_attack_what_is_robust_and_few_steps_have_windows_of_one_or_two(digits: Digits, norm: Any, eps: float) -> None:
    recorder = Recorder(network())
    found, there = apgd_ce(recorder, *digits, DRAWS, eps=eps, norm=norm, steps=10, restarts=3), Followed(recorder, digits)
    for _ in range(3):

        def follow(i: int, start: Array) -> papers.Ascent:
            one = there.samples[i]
            return papers.apgd(one, there.images[i], start, papers.ce(one.label), eps, norm, checkpoints=range(2, 11), steps=10)

        there.run(there.robust, follow, there.trail.next)
    there.end(found)
    assert 0 < len(there.robust) < COUNT


@pytest.mark.parametrize("target", ["second", "least_likely"])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_target_is_a_class_of_the_clean_image(digits: Digits, ranked: list[list[int]], name: str, target: Any) -> None:
    attack, recorder = ATTACKS[name][0], Recorder(network())
    found, there = attack(recorder, *digits, DRAWS, eps=0.03, target=target), Followed(recorder, digits)
    there.trail.skip()  # of the clean images
    place = 0 if target == "second" else -1

    def loss(i: int) -> papers.Loss:
        aim, label = ranked[i][place], there.samples[i].label
        return papers.ce_towards(aim) if name == "apgd_ce" else papers.dlr_towards(label, aim)

    there.run(there.robust, lambda i, start: papers.apgd(there.samples[i], there.images[i], start, loss(i), 0.03, "linf"), there.trail.next)
    there.end(found)


@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_targeted_apgd_tries_the_most_likely_classes_in_order(digits: Digits, ranked: list[list[int]], norm: Any, eps: float) -> None:
    recorder = Recorder(network())
    found, there = apgd_t(recorder, *digits, DRAWS, eps=eps, norm=norm, targets=3), Followed(recorder, digits)
    there.trail.skip()
    begun = []
    for turn in range(3):
        begun.append(there.trail.next[0])

        def follow(i: int, start: Array, turn: int = turn) -> papers.Ascent:
            one = there.samples[i]
            return papers.apgd(one, there.images[i], start, papers.dlr_towards(one.label, ranked[i][turn]), eps, norm)

        there.run(there.robust, follow, there.trail.next)
    there.end(found)
    assert 0 in there.robust
    assert len(there.robust) < COUNT
    assert min(np.abs(one - other).max() for one, other in itertools.combinations(begun, 2)) > eps / 100


def test_by_default_targeted_apgd_has_nine_targets_of_a_hundred_steps(digits: Digits) -> None:
    two = torch.arange(2)
    found = apgd_t(Recorder(network()), digits.images[two], digits.labels[two], DRAWS[two], eps=0.001)
    assert set(found.columns["queries"].tolist()) == {9 * 101}


@pytest.mark.parametrize("counts", [(30, 30, 40), (12, 12, 13), (5, 5, 5), (2, 2, 0)], ids=sum)
def test_in_l1_a_run_goes_through_three_balls(digits: Digits, counts: tuple[int, int, int]) -> None:
    """Three tenths of the steps in each of the larger ones, rounded up."""
    eps, recorder = 4.0, Recorder(network())
    found, there = apgd_ce(recorder, *digits, DRAWS, eps=eps, norm="l1", steps=sum(counts)), Followed(recorder, digits)
    begin = there.trail.next
    for factor, steps in zip((3, 2, 1), counts, strict=True):
        rows = there.robust
        starts = np.stack([
            there.images[i] + papers.in_ball_and_box(there.images[i], here - there.images[i], factor * eps, "l1")
            for i, here in zip(rows, begin, strict=True)
        ])  # fmt: skip
        ends: dict[int, papers.Ascent] = {}

        def follow(i: int, start: Array, factor: int = factor, steps: int = steps, ends: Any = ends) -> papers.Ascent:
            one = there.samples[i]
            inner = eps if factor > 1 else None
            ends[i] = papers.apgd_l1_ball(one, there.images[i], start, papers.ce(one.label), factor * eps, steps, inner)
            return ends[i]

        there.run(rows, follow, starts)
        begin = np.stack([ends[i].best for i in there.robust])
    there.end(found)
    assert 0 < len(there.robust) < COUNT
    assert sum(counts) < 100 or min(there.slow, there.kept) > 0


def test_the_code_of_its_authors_divides_steps_among_the_balls_of_l1_alike(digits: Digits) -> None:
    pyautoattack = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is not installed: robustvit[pyautoattack]")

    class Divided(Exception):
        """Carries the steps of each ball."""

    def model(images: torch.Tensor) -> torch.Tensor:
        return network()(images.double())

    def stop(images: Any, labels: Any, radii: Any, counts: list[int]) -> None:
        raise Divided(counts)

    for steps in range(2, 130):
        attack = pyautoattack.APGDAttack(
            lambda images: network()(images.double()), n_iter=steps, eps=1.0, norm="L1", device="cpu", use_largereps=True
        )
        attack.decr_eps_pgd = stop
        with pytest.raises(Divided) as divided:
            attack.perturb(*digits)
        assert steps_in_balls(steps) == divided.value.args[0]
    assert steps_in_balls(1) == [1, 0, 0]


@pytest.mark.parametrize(("norm", "eps"), [*BALLS, pytest.param("l1", 4.0, id="l1")])
def test_starts_are_on_the_surface_of_the_ball_and_differ(digits: Digits, norm: Any, eps: float) -> None:
    """From restart to restart, target to target and sample to sample. In l1 of the largest ball, three times the budget."""
    recorder = Recorder(network())
    apgd_ce(recorder, *digits, DRAWS, eps=1e-9 + eps / 1e3, norm=norm, steps=1, restarts=3)
    calls = [query.pixels for query in recorder.queries if len(query.pixels) == COUNT]
    every = len(calls) // 3
    flat = (np.stack(calls[::every]) - digits.images.numpy()).reshape(3 * COUNT, -1)
    sizes = np.linalg.norm(flat, ord={"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)
    wanted = (3 if norm == "l1" else 1) * (1e-9 + eps / 1e3)
    assert (sizes <= wanted * (1 + 1e-9)).all()
    assert sizes.max() > 0.9 * wanted
    alike = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(alike).max() < 0.4


@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_the_code_of_its_authors_makes_the_same_queries(digits: Digits, norm: str, eps: float) -> None:
    """pyautoattack's run from the same starts, up to each sample's first misclassified iterate, in float64."""
    pyautoattack = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is not installed: robustvit[pyautoattack]")
    ours, theirs = Recorder(network()), Recorder(network())
    apgd_ce(ours, *digits, DRAWS, eps=eps, norm=norm)  # type: ignore[arg-type]
    attack = pyautoattack.APGDAttack(theirs, eps=eps, norm={"linf": "Linf", "l2": "L2"}[norm], device="cpu")
    torch.set_default_dtype(torch.float64)
    try:
        attack.init_hyperparam(digits.images)
        attack.attack_single_run(digits.images, digits.labels, x_init=torch.from_numpy(ours.queries[0].pixels))
    finally:
        torch.set_default_dtype(torch.float32)
    rows = np.arange(COUNT)
    for mine, other in zip(ours.queries, theirs.queries, strict=True):
        assert np.allclose(mine.pixels, other.pixels[rows], atol=1e-6)
        wrong = network()(torch.from_numpy(mine.pixels)).argmax(dim=1).numpy() != digits.labels.numpy()[rows]
        rows = rows[~wrong]
    assert 0 < len(rows) < COUNT
