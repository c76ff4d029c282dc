"""A law of every registered attack and certificate on a model with randomness of its own: a sample alone is the sample among others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from exact import images, linear, load_batch
from torch import Tensor
from vits import made, vit

from robustvit.attacks.fgsm_pgd import pgd
from robustvit.attacks.patch_fool import patch_fool
from robustvit.attacks.transfer import transfer
from robustvit.data.formats.arrays import ArrayDataset
from robustvit.errors import ModelError
from robustvit.evaluation.evaluate import evaluate
from robustvit.evaluation.perturb import perturb
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import JUDGEMENTS, chance, keyed_by
from robustvit.primitives.model_card import Card
from robustvit.primitives.reading import Reading
from robustvit.primitives.scenario import parameters, scenario
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec, parse

COUNT, SIDE = 7, 8
FEWER = {
    "steps": 3, "epochs": 1, "samples": COUNT, "searches": 2, "selection": 5, "patches": 1, "size": 3, "width": 3, "smallest": 0.3,
    "angles": 3, "shifts": 3,
}  # fmt: skip
LEFT_OUT = (
    "foolbox/",
    "pyautoattack/",
    "torchattacks/",
    "transfer",
    "replay",
    "patch_fool",
    "inflate",  # of token reducers alone, as the next
    "inflate_patch",
    "attribution_attack",  # of transformers alone: tests/attacks/test_attribution_attack.py
)  # the first draw for a batch; for the last see below
ATTACKS = [  # those on features are of transformers alone: tests/attacks/feature/test_feature_attacks.py
    entry for entry in entries("attack").values() if not entry.chain and entry.name not in LEFT_OUT and entry.family != "feature"
]
CERTIFICATES = list(entries("certificate").values())


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


def noisy() -> Noisy:
    return Noisy(linear(SIDE)[0])


def batch() -> Batch:
    """Samples that the model is right about under their own draws, but for the last."""
    pixels, ids = images(COUNT, SIDE), tuple(f"sample {i}" for i in range(COUNT))
    labels = keyed_by(noisy(), Draws(0, "x", ids))(pixels).argmax(dim=1)
    labels[-1] = 1 - labels[-1]
    return Batch(pixels, labels, ids)


def lifted(entry: Entry, given: dict[str, Any] | None = None) -> Any:
    known = {param.name: param for param in entry.params}
    arguments: dict[str, Any] = {name: value for name, value in FEWER.items() if name in known}
    arguments |= {"eps": 0.03} if "eps" in known else {}
    arguments |= {"sigma": 0.1, "samples": 20} if "sigma" in known and entry.kind == "certificate" else {}
    arguments |= {name: "digits" for name, param in known.items() if param.hint.plugin == "data"}
    spec = bind(entry, parse({entry.name: arguments | (given or {})})[0])
    rows = batch()
    data = ArrayDataset(
        "some", np.zeros((COUNT, SIDE, SIDE, 3), np.uint8).__getitem__, rows.ids, rows.labels.numpy(), ("a", "b"), (READING,), "f"
    )
    plugins = {name: data for name, param in known.items() if param.hint.plugin == "data"}
    fitted = {}
    if entry.fit:
        loader = load_batch(rows.images, rows.labels)
        fitted = entry.load_beside(entry.fit)(noisy(), loader, Draws(0, "l", ["l"]), **parameters(spec, plugins))
    return scenario(entry, spec, plugins, fitted)


READING = Reading("all", 2)
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("pgd", {"restarts": 2, "eot": 2}), ("apgd_ce", {"norm": "l1", "eot": 2}), ("apgd_t", {"restarts": 2}), ("pgd", {"target": "second"}),
    ("adversarial_patch", {"position": "every"}), ("adversarial_patch", {"position": "worst"}),
    ("adversarial_patch", {"position": "saliency"}),
]  # fmt: skip
EACH = [(entry, {}) for entry in (*ATTACKS, *CERTIFICATES)] + [(lookup("attack", name), given) for name, given in OPTIONS]


@pytest.mark.parametrize(("entry", "given"), EACH, ids=[f"{entry.name} {given or ''}" for entry, given in EACH])
def test_a_row_of_a_random_model_is_what_it_is_alone(entry: Entry, given: dict[str, Any]) -> None:
    together, does = batch(), lifted(entry, given)
    whole = does(noisy(), together, Draws(0, "x", together.ids))
    for i in range(COUNT):
        one = together[torch.tensor([i])]
        alone = does(noisy(), one, Draws(0, "x", one.ids))
        if whole.images is not None:
            assert torch.equal(alone.images[0], whole.images[i]), i
        for name, values in whole.columns.items():
            assert torch.equal(alone.columns[name][0].nan_to_num(-9.0), values[i].nan_to_num(-9.0)), (name, i)


@pytest.mark.parametrize("name", ["clean", "pgd", "fgsm", "autoattack"])
def test_records_judge_a_random_model_as_each_sample_alone_and_under_new_draws(name: str) -> None:
    rows, data = _records(name, np.arange(COUNT))
    alone = [_records(name, np.array([i]))[0] for i in range(COUNT)]
    for i, row in enumerate(alone):
        assert {key: value for key, value in rows.iloc[i].items() if key != "top5"} == pytest.approx(
            {key: value for key, value in row.iloc[0].items() if key != "top5"}, nan_ok=True
        )
    assert set(rows["draws"]) == {JUDGEMENTS}
    assert rows["draws_right"].between(0, JUDGEMENTS).all()
    if name == "clean":
        fresh = [noisy().bound(chance(Draws(0, "", data.ids)).at(f"judgement {turn}")) for turn in range(JUDGEMENTS)]
        right = sum((one(_pixels(data)).argmax(dim=1).numpy() == data.labels).astype(int) for one in fresh)
        assert rows["draws_right"].tolist() == right.tolist()


def _records(name: str, positions: np.ndarray) -> tuple[Any, ArrayDataset]:
    levels = (255 * images(COUNT, SIDE).permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    ids = tuple(f"sample {i}" for i in range(COUNT))
    labels = noisy()(torch.from_numpy(levels).permute(0, 3, 1, 2) / 255).argmax(dim=1).numpy()
    data = ArrayDataset("some", levels.__getitem__, ids, labels, ("a", "b"), (READING,), "f")
    kind = "corruption" if name == "clean" else "attack"
    first = "apgd_ce" if name == "autoattack" else name
    spec = bind(lookup(kind, first), parse({first: {} if name == "clean" else {"eps": 0.03}})[0])
    model = noisy()
    cell = Cell(Spec("given"), "w", Spec("some"), "f", model.view, spec)
    found = evaluate(cell, model, data, levels[positions], positions).rows.to_pandas()
    if name == "autoattack":
        after = bind(lookup("attack", "apgd_t"), parse({"apgd_t": {"eps": 0.03, "steps": 3}})[0])
        cell = Cell(Spec("given"), "w", Spec("some"), "f", model.view, after, after=(spec,))
        found = evaluate(cell, model, data, levels[positions], positions, earlier=found).rows.to_pandas()
    return found, data


def _pixels(data: ArrayDataset) -> Tensor:
    return torch.stack([torch.from_numpy(data[i].image).permute(2, 0, 1).float() / 255 for i in range(COUNT)])


def test_perturb_keys_a_random_model_by_the_ids() -> None:
    rows = batch()
    for name in ("pgd", "autoattack"):
        given = {"eps": 0.03} | ({"version": "fast"} if name == "autoattack" else {})
        whole = perturb(noisy(), rows.images, rows.labels, name, ids=rows.ids, **given)
        for i in range(COUNT):
            alone = perturb(noisy(), rows.images[i : i + 1], rows.labels[i : i + 1], name, ids=rows.ids[i : i + 1], **given)
            assert torch.equal(alone[0], whole[i])


def test_an_attack_that_asks_a_random_model_about_unnamed_rows_is_refused() -> None:
    def hasty(model: Classifier, pixels: Tensor, labels: Tensor, draws: Draws, *, eps: float) -> Tensor:
        return pixels + 0.0 * model(pixels[:2]).sum()

    rows = batch()
    entry = Entry("attack", "hasty", "mine", "mine", (), "", "", 0, live=hasty)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"keyed by 6 samples, and is queried with 2 images.*search\.query\(rows, pixels\)"):
        scenario(entry, Spec("hasty", (("eps", 0.1),), kind="attack"))(noisy(), rows, Draws(0, "x", rows.ids))


def test_a_wrapper_of_a_deterministic_model_is_deterministic() -> None:
    model = linear(SIDE)[0]
    wrapped = ReadClassifier(model, Reading("some", 2, columns=(1, 0)))
    assert keyed_by(wrapped, Draws(0, "x", ["a"])) is wrapped
    assert keyed_by(ReadClassifier(noisy(), Reading("some", 2, columns=(1, 0))), Draws(0, "x", ["a"])) is not wrapped


def test_a_random_surrogate_is_keyed_by_the_rows_too() -> None:
    rows = batch()

    def inner(model: Classifier, pixels: Tensor, labels: Tensor, draws: Draws) -> Any:
        return pgd(model, pixels, labels, draws, eps=0.03, steps=3, early=False)

    whole = transfer(linear(SIDE)[0], rows.images, rows.labels, Draws(0, "x", rows.ids), surrogate=noisy(), attack=inner).images
    for i in range(COUNT):
        one = rows[torch.tensor([i])]
        alone = transfer(linear(SIDE)[0], one.images, one.labels, Draws(0, "x", one.ids), surrogate=noisy(), attack=inner).images
        assert torch.equal(alone[0], whole[i])


@pytest.mark.parametrize("position", ["attention", "saliency", "random"])
def test_patch_fool_hears_the_attention_of_each_row_under_its_own_draws(position: str) -> None:
    model = Noisy(made(lambda: vit(depth=6), sharp=3.0))
    pixels, ids = images(5, 32), tuple(f"sample {i}" for i in range(5))
    labels = keyed_by(model, Draws(0, "x", ids))(pixels).argmax(dim=1)

    def left(rows: list[int]) -> Tensor:
        draws = Draws(0, "x", [ids[i] for i in rows])
        found: Tensor = patch_fool(keyed_by(model, draws), pixels[rows], labels[rows], draws, steps=2, position=position).images  # type: ignore[arg-type]
        return found

    whole = left(list(range(5)))
    for i in range(5):
        assert torch.allclose(left([i])[0], whole[i], atol=1e-5)
