"""Laws of every attack on features, found by its family: no labels, no company, the ball, its counts, and hosts that have no blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from feature_data import loaded, others
from torch import Tensor
from vits import cnn, images, made, swin, vit

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.attack_search import GRADIENTS, Crafted
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.model_card import Card
from robustvit.primitives.passes import declared_passes
from robustvit.primitives.scenario import parameters
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import entries
from robustvit.spec.spec import Spec, parse

EPS, COUNT, STEPS = 8 / 255, 6, 3
FEWER = {"steps": STEPS, "epochs": 1, "samples": 5, "searched": 5, "trials": 2}
ATTACKS = [entry for entry in entries("attack").values() if entry.family == "feature"]
EACH = pytest.mark.parametrize("entry", ATTACKS, ids=[entry.name for entry in ATTACKS])


def ids(count: int = COUNT) -> list[str]:
    return [f"sample {i}" for i in range(count)]


def bound(entry: Entry, **given: Any) -> tuple[Spec, dict[str, Data]]:
    known = {param.name: param for param in entry.params}
    data = {name: others() for name, param in known.items() if param.hint.plugin == "data"}
    arguments = {name: value for name, value in FEWER.items() if name in known} | dict.fromkeys(data, "digits") | {"eps": EPS} | given
    return bind(entry, parse({entry.name: arguments})[0]), data


def crafted(entry: Entry, model: Classifier, rows: list[int], labels: Tensor, **given: Any) -> Crafted:
    spec, data = bound(entry, **given)
    arguments = parameters(spec, data)
    artifact = [entry.load_beside(entry.fit)(model, loaded, Draws(0, "l", ["l"]), **arguments)] if entry.fit else []
    draws = Draws(0, "x", [ids()[i] for i in rows])
    found: Crafted = entry.load()(keyed_by(model, draws), images(COUNT)[rows], labels[rows], draws, *artifact, **arguments)
    return found


@EACH
def test_labels_are_not_read_and_right_or_wrong_images_are_attacked_alike(entry: Entry) -> None:
    model, rows = made(vit), list(range(COUNT))
    right = model(images(COUNT)).argmax(dim=1)
    first, second = (crafted(entry, model, rows, labels).images for labels in (right, (right + 1) % 5))
    assert torch.equal(first, second)
    assert bool((first != images(COUNT)).flatten(1).any(dim=1).all())
    assert entry.label_free


@EACH
def test_a_row_is_what_it_is_alone_and_in_any_order(entry: Entry) -> None:
    model, zeros = made(vit), torch.zeros(COUNT, dtype=torch.int64)
    whole = crafted(entry, model, list(range(COUNT)), zeros).images
    assert torch.equal(crafted(entry, model, [4, 1, 3], zeros).images, whole[[4, 1, 3]])
    assert torch.equal(crafted(entry, model, [2], zeros).images, whole[[2]])


@EACH
def test_images_stay_in_the_ball_and_the_range_and_reach_its_edge(entry: Entry) -> None:
    found = crafted(entry, made(vit), list(range(COUNT)), torch.zeros(COUNT, dtype=torch.int64)).images
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    assert EPS / 2 < float((found - images(COUNT)).abs().max()) <= EPS + 1e-7


@EACH
def test_queries_and_gradients_are_counted_and_declared(entry: Entry) -> None:
    model = made(vit)
    found = crafted(entry, model, list(range(COUNT)), torch.zeros(COUNT, dtype=torch.int64))
    spec, data = bound(entry)
    declared = declared_passes(entry, spec, model, data)
    assert declared is not None
    gradients = int(declared.gradients)
    assert found.columns["gradients"].tolist() == [gradients] * COUNT
    assert found.columns["queries"].tolist() == [gradients + int(declared.forward)] * COUNT
    assert found.columns["steps"].tolist() == [-1] * COUNT
    assert {GRADIENTS[code] for code in found.columns["gradient"].tolist()} == {"exact" if gradients else "not used"}
    assert gradients == (STEPS if "universal" not in entry.load().__name__ and "train" not in {p.name for p in entry.params} else 0)
    assert found.fooled is None


@EACH
def test_the_gradients_of_a_fit_are_those_declared(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    if not entry.fit:
        return
    spent = {"forward": 0, "gradient": 0}
    whole = Classifier.forward

    def counted(model: Classifier, pixels: Tensor) -> Tensor:
        spent["gradient" if pixels.requires_grad else "forward"] += 1
        return whole(model, pixels)

    model = made(vit).configure(tile=8)  # all of a batch is one call
    spec, data = bound(entry)
    declared = declared_passes(entry, spec, model, data)
    monkeypatch.setattr(Classifier, "forward", counted)
    entry.load_beside(entry.fit)(model, loaded, Draws(0, "l", ["l"]), **parameters(spec, data))
    assert declared is not None
    rows = 1 if entry.name == "fff" and not data else 5
    taken = rows * (spent["gradient"] + spent["forward"] / 3.4)
    assert declared.fit == pytest.approx(taken, rel=0.15)


@EACH
@pytest.mark.parametrize(("make", "why"), [(cnn, "has no sequences"), (swin, "has 3 sequences")], ids=["cnn", "swin"])
def test_models_without_one_sequence_of_blocks_are_refused(entry: Entry, make: Any, why: str) -> None:
    with pytest.raises(HostRefused, match=f"model 'toy' {why} of blocks; features are taken after the blocks of a plain"):
        crafted(entry, made(make), [0], torch.zeros(1, dtype=torch.int64))


@EACH
def test_blocks_that_a_model_does_not_have_are_refused(entry: Entry) -> None:
    known = {param.name for param in entry.params}
    wrong: dict[str, Any] = {"layers": [[1, 3]]} if "layers" in known else {"layer": 3}
    with pytest.raises(BadParameter, match=rf"attack '{entry.name}': layers are (1, )?3; name each once, of 0 to 2, the blocks of model"):
        crafted(entry, made(vit), [0], torch.zeros(1, dtype=torch.int64), **wrong)


class Noisy(Classifier):
    """A classifier that adds noise, drawn for each row, to the pixels."""

    def __init__(self, host: Classifier, draws: Draws | None = None) -> None:
        card = Card("noisy", Spec("given"), host.card.fingerprint, "given")
        super().__init__(host.model, mean=(0.0,) * 3, std=(1.0,) * 3, view=host.view, card=card, tile=host.tile)
        self.host, self.draws = host, draws

    def bound(self, draws: Draws) -> Classifier:
        return Noisy(self.host, draws)

    def forward(self, pixels: Tensor) -> Tensor:
        noise = 0.0 if self.draws is None else 0.2 * self.draws.normal(*pixels.shape[1:])
        with self.host.unbounded_pixels():
            logits: Tensor = self.host(pixels + noise)
        return logits


@EACH
def test_a_row_of_a_random_model_is_what_it_is_alone(entry: Entry) -> None:
    model, zeros = Noisy(made(vit)), torch.zeros(COUNT, dtype=torch.int64)
    whole = crafted(entry, model, list(range(COUNT)), zeros).images
    for row in (0, 5):
        assert torch.equal(crafted(entry, model, [row], zeros).images, whole[[row]])
    if not entry.fit:
        assert not torch.equal(whole, crafted(entry, model.host, list(range(COUNT)), zeros).images)
