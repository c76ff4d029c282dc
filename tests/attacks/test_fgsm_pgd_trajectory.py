"""FGSM and PGD on a trained network, query by query, against loops written from the papers."""

from __future__ import annotations

import itertools
from typing import Any

import gradient_references as papers
import numpy as np
import pytest
import torch
from torch import Tensor
from trained import SIDE, Array, Digits, Query, Recorder, Trail, batch, network, outcome

from robustvit.attacks.fgsm_pgd import fgsm, pgd
from robustvit.primitives.draws import Draws

COUNT = 8
BALLS = [pytest.param(norm, eps, id=norm) for norm, eps in (("linf", 8 / 255), ("l2", 0.5), ("l1", 24.0))]
DRAWS = Draws(0, "x", [str(i) for i in range(COUNT)])


@pytest.fixture(scope="module")
def digits() -> Digits:
    return batch(COUNT)


def samples(digits: Digits) -> list[papers.Sample]:
    return [papers.Sample(network(), int(label)) for label in digits.labels]


def ranked(digits: Digits) -> np.ndarray:
    """The wrong classes by their logits on the clean images, the most likely first, (N, 9)."""
    order = network()(digits.images).argsort(dim=1, descending=True).tolist()
    return np.array([[one for one in row if one != label] for row, label in zip(order, digits.labels.tolist(), strict=True)])


def first_wrong(path: list[Query], label: int) -> int:
    """The number of the first misclassified query, counted from 1; −1 where there is none."""
    wrong = [int(network()(torch.from_numpy(one.pixels)[None]).argmax()) != label for one in path]
    return wrong.index(True) + 1 if any(wrong) else -1


@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_fgsm_takes_one_gradient_at_the_image_and_one_step(digits: Digits, norm: Any, eps: float) -> None:
    recorder, there = Recorder(network()), samples(digits)
    found = fgsm(recorder, *digits, DRAWS, eps=eps, norm=norm)
    wanted = [papers.fgsm(one, image, eps, norm) for one, image in zip(there, digits.images.numpy(), strict=True)]
    trail = Trail(recorder)
    trail.expect([one.path for one in there])
    trail.end()
    assert np.allclose(found.images.numpy(), wanted, atol=1e-6)
    outcome(found, [one.path for one in there])


@pytest.mark.parametrize(("norm", "eps"), BALLS)
@pytest.mark.parametrize("early", [True, False])
def test_pgd_takes_the_steps_of_the_paper_from_each_start(digits: Digits, norm: Any, eps: float, early: bool) -> None:
    """Three restarts of the samples still robust; where no sample stops early every restart attacks all."""
    recorder, there = Recorder(network()), samples(digits)
    found = pgd(recorder, *digits, DRAWS, eps=eps, norm=norm, steps=20, restarts=3, early=early)
    trail, wanted = Trail(recorder), digits.images.numpy().copy()
    paths: list[list[Any]] = [[] for _ in there]
    for _ in range(3):
        rows = [i for i, one in enumerate(there) if not (early and one.wrong)]
        starts = trail.next
        for i, start in zip(rows, starts, strict=True):
            there[i].path = []
            loss = papers.ce(there[i].label)
            wanted[i] = papers.pgd(there[i], digits.images[i].numpy(), start, loss, eps, norm, 20, 2.5 * eps / 20, early)
            paths[i] += there[i].path
        trail.expect([there[i].path for i in rows])
    trail.end()
    assert norm == "l1" or 0 < sum(one.wrong for one in there) < COUNT  # in l1 a step moves a single value
    assert np.allclose(found.images.numpy(), wanted, atol=1e-6)
    outcome(found, paths)
    assert found.columns["steps"].tolist() == [first_wrong(path, one.label) for path, one in zip(paths, there, strict=True)]


@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_starts_are_in_the_ball_and_differ_from_restart_to_restart_and_sample_to_sample(digits: Digits, norm: Any, eps: float) -> None:
    recorder = Recorder(network())
    pgd(recorder, *digits, DRAWS, eps=eps, norm=norm, steps=1, restarts=4, early=False)
    moves = np.stack([query.pixels for query in recorder.queries[::2]]) - digits.images.numpy()
    flat = moves.reshape(4 * COUNT, -1)
    sizes = np.linalg.norm(flat, ord={"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)
    assert (sizes <= eps * (1 + 1e-9)).all()
    assert sizes.max() > 0.6 * eps
    alike = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(alike).max() < 0.3


@pytest.mark.parametrize("target", ["second", "least_likely"])
def test_a_target_is_a_class_of_the_clean_image_and_its_cross_entropy_falls(digits: Digits, target: Any) -> None:
    recorder, there = Recorder(network()), samples(digits)
    pgd(recorder, *digits, DRAWS, eps=0.04, steps=10, step=0.01, target=target)
    trail = Trail(recorder)
    assert np.array_equal(trail.next, digits.images.numpy())
    trail.skip()
    aims = ranked(digits)[:, 0 if target == "second" else -1].tolist()
    for one, image, start, aim in zip(there, digits.images.numpy(), trail.next, aims, strict=True):
        papers.pgd(one, image, start, papers.ce_towards(aim), 0.04, "linf", 10, 0.01)
    trail.expect([one.path for one in there])
    trail.end()


class Blended(Recorder):
    """A random model: it sees 0.7 of the image and 0.3 of noise of its draws."""

    def __init__(self, queries: list[Query], noises: list[Array], draws: Draws | None = None) -> None:
        super().__init__(network())
        self.queries, self.noises, self.draws = queries, noises, draws

    def bound(self, draws: Draws) -> Blended:
        return Blended(self.queries, self.noises, draws)

    def forward(self, images: Tensor) -> Tensor:
        assert self.draws is not None
        noise = self.draws.uniform(3, SIDE, SIDE).double()
        self.noises.append(noise.numpy())
        return super().forward(0.7 * images + 0.3 * noise)


def test_with_a_random_model_a_step_follows_the_mean_gradient_of_fresh_draws(digits: Digits) -> None:
    queries: list[Query] = []
    noises: list[Array] = []
    pgd(Blended(queries, noises), *digits, DRAWS, eps=0.05, steps=3, step=0.02, eot=4, early=False)
    iterates = [(query.pixels - 0.3 * noise) / 0.7 for query, noise in zip(queries, noises, strict=True)]
    assert len(queries) == 3 * 4 + 1
    for turn in range(3):
        first = 4 * turn
        assert all(np.allclose(iterates[first], one) for one in iterates[first : first + 4])
        for i, label in enumerate(digits.labels.tolist()):
            one = papers.Sample(network(), label)
            total = sum(one.gradient(query.pixels[i], papers.odds(label))[1] for query in queries[first : first + 4])
            image = digits.images[i].numpy()
            wanted = (iterates[first][i] + 0.02 * np.sign(total)).clip(image - 0.05, image + 0.05).clip(0, 1)
            assert np.allclose(iterates[first + 4][i], wanted, atol=1e-6)
    fresh = [noise for turn in range(3) for noise in noises[4 * turn + 1 : 4 * turn + 4]]  # the first of a step is the sample's own draw
    assert all(np.abs(one - other).mean() > 0.1 for one, other in itertools.combinations([noises[0], *fresh], 2))
