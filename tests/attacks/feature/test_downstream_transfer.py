"""The downstream transfer attack against a loop over single images written from its description, and its search for a layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import classifier
from feature_data import loaded, others
from torch import Tensor, nn
from vits import images, made, registers, vit

import robustvit as rv
from robustvit.attacks.feature.downstream_transfer import dta, dta_universal, fit_layers, fit_universal
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.spec.sample_order import order

EPS = 8 / 255
NAMES = ["a", "b", "c", "d", "e"]
DRAWS = Draws(0, "x", NAMES)
ONE = Draws(0, "fit", ["l"])
LABELS = torch.zeros(len(NAMES), dtype=torch.int64)


def precise(make: Any = vit) -> Classifier:
    return made(make).double()


def mean_token(model: Classifier, image: Tensor, layer: int) -> Tensor:
    """(D,): the mean patch token of one image after a block, block by block."""
    net: Any = model.model
    tokens = net.norm_pre(net._pos_embed(net.patch_embed((image - model.mean) / model.std)))  # type: ignore[operator]
    for number in range(layer + 1):
        tokens = net.blocks[number](tokens)
    total = sum(tokens[0, place] for place in range(net.num_prefix_tokens, tokens.shape[1]))
    return total / (tokens.shape[1] - net.num_prefix_tokens)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum() / ((one * one).sum().sqrt() * (other * other).sum().sqrt())


def by_hand(model: Classifier, image: Tensor, noise: Tensor, layers: list[int], steps: int, step: float) -> Tensor:
    """Signed descent on the sum of cosines for one image (1, 3, H, W), from the image with noise on it."""
    low, high = (image - EPS).clamp(min=0), (image + EPS).clamp(max=1)
    clean = [mean_token(model, image, layer).detach() for layer in layers]
    at = torch.minimum(torch.maximum(image + noise, low), high)
    for _ in range(steps):
        at = at.detach().requires_grad_(True)
        value = sum(cosine(mean_token(model, at, layer), known) for layer, known in zip(layers, clean, strict=True))
        at = torch.minimum(torch.maximum(at.detach() - step * torch.autograd.grad(value, at)[0].sign(), low), high)
    return at.detach()


def attacked(model: Classifier, pixels: Tensor, layers: list[int], **given: Any) -> Tensor:
    return dta(model, pixels, LABELS, DRAWS, {"layers": torch.tensor(layers)}, **{"eps": EPS} | given).images


@pytest.mark.parametrize("make", [vit, registers], ids=["class token", "registers"])
@pytest.mark.parametrize(("layers", "step"), [([1], None), ([0, 2], 0.02)])
def test_each_step_descends_the_cosine_of_mean_patch_tokens(make: Any, layers: list[int], step: float | None) -> None:
    model, pixels = precise(make), images(len(NAMES)).double()
    noise = DRAWS.uniform(3, 32, 32, low=-EPS, high=EPS).double()
    for steps in (1, 4):
        expected = [by_hand(model, image[None], noise[[i]], layers, steps, step or EPS / 10)[0] for i, image in enumerate(pixels)]
        assert torch.allclose(attacked(model, pixels, layers, steps=steps, step=step), torch.stack(expected), atol=1e-9)


def test_thirty_steps_of_a_tenth_are_the_default_and_turn_the_features_away() -> None:
    model, pixels = made(vit), images(len(NAMES))
    found = attacked(model, pixels, [1])
    assert torch.equal(found, attacked(model, pixels, [1], steps=30, step=EPS / 10))
    noise = DRAWS.uniform(3, 32, 32, low=-EPS, high=EPS)
    apart = [
        [float(cosine(mean_token(model, of[[i]], 1), mean_token(model, pixels[[i]], 1))) for i in range(5)]
        for of in (found, pixels + noise)
    ]
    assert max(apart[0]) < min(apart[1])


def test_a_ball_without_a_radius_leaves_the_image() -> None:
    assert torch.equal(attacked(made(vit), images(len(NAMES)), [1], eps=0.0), images(len(NAMES)))


def searched(model: Classifier, probe: Data, **given: Any) -> dict[str, Tensor]:
    own = {"eps": EPS, "steps": 30, "step": None, "layers": None, "probe": probe, "samples": 5, "trials": 3, "top": 1} | given
    return fit_layers(model, loaded, ONE, **own)


def test_layers_are_compared_after_the_last_block_by_the_mean_cosine() -> None:
    model, probe = precise(), others()
    positions = order(probe.ids)[:5]
    batch = loaded(probe, positions)
    noise = Draws(0, ONE.at("probe").stream, batch.ids).uniform(3, 32, 32, low=-EPS, high=EPS)
    scores = []
    for layer in range(3):
        cosines = []
        for i in range(5):
            image = batch.images[[i]].double()
            moved = by_hand(model, image, noise[[i]].double(), [layer], 3, EPS / 10)
            cosines.append(float(cosine(mean_token(model, moved, 2), mean_token(model, image, 2))))
        scores.append(math.fsum(cosines) / 5)
    found = searched(model, probe, top=2)
    assert found["scores"].tolist() == pytest.approx(scores, abs=1e-6)
    assert found["layers"].tolist() == sorted(range(3), key=scores.__getitem__)[:2]


class Planted(nn.Module):
    """Four blocks over a prefix token, with the image's green, and 2x2 patch tokens (1, red of the patch, 0).

    The second block drops the red and moves the green to the patches; the third rounds, so that later blocks have no gradient.
    """

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Step(number) for number in range(4))

    def forward(self, pixels: Tensor) -> Tensor:
        red, green = (nn.functional.avg_pool2d(pixels, 2).flatten(2) - 0.5)[:, :2].unbind(dim=1)
        patches = torch.stack((torch.ones_like(red), 20 * red, torch.zeros_like(red)), dim=2)
        prefix = torch.stack((torch.zeros_like(red[:, 0]), torch.zeros_like(red[:, 0]), green.mean(dim=1)), dim=1)
        tokens = torch.cat((prefix[:, None], patches), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens.mean(dim=1)


class _Step(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, tokens: Tensor) -> Tensor:
        one, red, green = tokens.unbind(dim=2)
        if self.number == 1:
            return torch.stack((one, torch.zeros_like(red), 30 * green[:, :1].expand(-1, 5)), dim=2)
        return (tokens * 1024).round() / 1024 if self.number == 2 else tokens


def test_the_one_block_whose_features_lead_to_the_end_is_found() -> None:
    names = tuple(f"p{i}" for i in range(6))
    pixels = Draws(0, "pixels", names).uniform(3, 4, 4, low=0.4, high=0.6)

    class Probe:
        name, ids = "others", names

    def load(data: Any, positions: np.ndarray) -> Batch:
        return Batch(pixels[positions], torch.zeros(len(positions), dtype=torch.int64), tuple(names[i] for i in positions))

    found = fit_layers(
        classifier(Planted()), load, ONE, eps=EPS, steps=30, step=None, layers=None, probe=Probe(), samples=6, trials=5, top=4  # type: ignore[arg-type]
    )  # fmt: skip
    scores = found["scores"].tolist()
    assert scores[1] < scores[0] - 0.02
    assert scores[0] == scores[2] == scores[3]  # nothing there leads to the end: noise alone is left, and the earlier comes first
    assert found["layers"].tolist() == [1, 0, 2, 3]


def test_the_search_is_shown_the_first_probe_images_and_nothing_else() -> None:
    shown: list[tuple[str, list[int]]] = []

    def load(data: Data, positions: np.ndarray) -> Batch:
        shown.append((data.name, positions.tolist()))
        return loaded(data, positions)

    fit_layers(made(vit), load, ONE, eps=EPS, steps=30, step=None, layers=None, probe=others(), samples=4, trials=1, top=1)
    assert shown == [("others", order(others().ids)[:4].tolist())]
    shown.clear()
    given = fit_layers(made(vit), load, ONE, eps=EPS, steps=30, step=None, layers=[2, 0], probe=others(), samples=4, trials=1, top=1)
    assert given["layers"].tolist() == [2, 0]
    assert not shown


def test_an_image_of_the_probe_is_not_attacked() -> None:
    probe, artifact = others(), {"layers": torch.tensor([1])}
    first = probe.ids[int(order(probe.ids)[0])]
    last = probe.ids[int(order(probe.ids)[4])]
    draws = Draws(0, "x", [first, "mine"])
    with pytest.raises(BadParameter, match=f"attack 'dta': 1 of the images that it is evaluated on are among .*first {first}"):
        dta(made(vit), images(2), LABELS[:2], draws, artifact, eps=EPS, steps=1, probe=probe, samples=4)
    beyond = Draws(0, "x", [last, "mine"])  # the probe's fifth image is not looked at
    assert len(dta(made(vit), images(2), LABELS[:2], beyond, artifact, eps=EPS, steps=1, probe=probe, samples=4).images) == 2


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"attack 'dta' needs layers \(layers: \[\[7\]\]\), or data to choose them on"):
        searched(made(vit), None)  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match="attack 'dta': top is 4; model 'toy' has 3 blocks"):
        searched(made(vit), others(), top=4)
    with pytest.raises(BadParameter, match="layers are 1, 1; name each once"):
        searched(made(vit), others(), layers=[1, 1])


def test_the_universal_perturbation_takes_the_steps_of_a_loop_over_batches() -> None:
    model, train, epochs = precise(), others(), 2
    start = ONE.at("start").uniform(3, 32, 32, low=-EPS, high=EPS).double()
    delta, chosen = start, order(train.ids)[:5]
    for turn in range(epochs):
        batch = loaded(train, chosen[ONE.at(turn).permutation(5)[0].numpy()])
        total = torch.zeros_like(delta)
        for image in batch.images.double():
            leaf = (image[None] + delta).clamp(0, 1).requires_grad_(True)
            total += torch.autograd.grad(-cosine(mean_token(model, leaf, 1), mean_token(model, image[None], 1).detach()), leaf)[0]
        shrunk = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn / epochs))
        delta = (delta + EPS / 10 * shrunk * total.sign()).clamp(-EPS, EPS)
    given: dict[str, Any] = {"eps": EPS, "train": train, "samples": 5, "epochs": epochs, "step": None, "layers": [1]}
    found = fit_universal(model, loaded, ONE, **given, searched=5, trials=2, top=1)
    assert torch.allclose(found["perturbation"].double(), delta, atol=1e-6)
    assert found["layers"].tolist() == [1]
    left = dta_universal(model, images(5), LABELS, DRAWS, found, **given).images
    assert torch.allclose(
        left.double(), torch.minimum(torch.maximum(images(5) + delta, images(5) - EPS), images(5) + EPS).clamp(0, 1), atol=1e-6
    )


def test_the_universal_attack_searches_its_layer_on_its_own_training_images() -> None:
    given: dict[str, Any] = {"eps": EPS, "train": others(), "samples": 6, "epochs": 1, "step": None, "layers": None, "searched": 5}
    found = fit_universal(made(vit), loaded, ONE, **given, trials=3, top=1)
    assert torch.equal(found["scores"], searched(made(vit), others())["scores"])


def test_it_runs_in_a_suite_with_a_probe_of_another_split(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\ndata: digits\nmetrics: [attack_success]\nscenarios:\n"
        "  - dta: {eps: 24/255, probe: {digits: {split: train}}, samples: 16, steps: 10}\n"
        "  - ssp: {eps: 24/255, steps: 10}\n  - random_noise: {eps: 24/255}\n"
    )
    done = rv.run(tmp_path / "mine.yaml", ["demo"], store=tmp_path / "store", settings=rv.Settings(limit=40))
    assert not done.failed
    board = rv.leaderboard(tmp_path / "store").set_index("scenario")["value"].astype(float)
    assert board["dta"] > board["random_noise"]
    (tmp_path / "same.yaml").write_text(
        "name: same\ntitle: Same\ndata: digits\nmetrics: [attack_success]\nscenarios: [{dta: {eps: 8/255, probe: {digits: {}}}}]\n"
    )
    same = rv.run(tmp_path / "same.yaml", ["demo"], store=tmp_path / "other", settings=rv.Settings(limit=8))
    assert same.failed
