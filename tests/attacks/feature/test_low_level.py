"""L4A and fast feature fool against loops written from their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from feature_data import loaded, others
from torch import Tensor
from vits import images, made, vit

from robustvit.attacks.feature.fast_feature_fool import fff, fit_fff
from robustvit.attacks.feature.low_level import fit_l4a, l4a
from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.spec.sample_order import order

EPS, EPOCHS = 0.05, 3
ONE = Draws(0, "fit", ["l"])


def tokens(model: Classifier, image: Tensor) -> list[Tensor]:
    """Of one image (1, 3, H, W) all tokens after each block."""
    net: Any = model.model
    at, found = net.norm_pre(net._pos_embed(net.patch_embed((image - model.mean) / model.std))), []  # type: ignore[operator]
    for block in net.blocks:
        at = block(at)
        found.append(at)
    return found


def squared(model: Classifier, image: Tensor, layer: int) -> Tensor:
    return tokens(model, image)[layer].square().mean()


def shrunk(turn: int, turns: int) -> float:
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn / turns))


def gradient(value: Any, pixels: Tensor, delta: Tensor) -> Tensor:
    leaf = (pixels + delta).clamp(0, 1).requires_grad_(True)
    return torch.autograd.grad(value(leaf), leaf)[0]


def noise(turn: int) -> Tensor:
    """The eight images of noise of a step."""
    stream = ONE.at(turn).at("noise").stream
    shared = Draws(0, stream, ["statistics"])
    mean, deviation = shared.at("mean").uniform(3, 1, 1, low=0.4, high=0.6), shared.at("deviation").uniform(3, 1, 1, low=0.05, high=0.1)
    return (Draws(0, stream, [f"noise {i}" for i in range(8)]).normal(3, 32, 32) * deviation + mean).clamp(0, 1)


@pytest.mark.parametrize(("variant", "weight"), [("base", None), ("fused", None), ("fused", 0.3), ("gaussian", None), ("gaussian", 2.0)])
def test_l4a_lifts_the_mean_squared_activation(variant: str, weight: float | None) -> None:
    model, train = made(vit).double(), others()
    delta, chosen = ONE.at("start").uniform(3, 32, 32, low=-EPS, high=EPS).double(), order(train.ids)[:5]
    for turn in range(EPOCHS):
        batch = loaded(train, chosen[ONE.at(turn).permutation(5)[0].numpy()])
        total = torch.zeros_like(delta)
        for image in batch.images.double():
            if variant == "fused":
                total += gradient(lambda at: squared(model, at, 1) + (weight or 1.0) * squared(model, at, 2), image[None], delta)
            else:
                total += gradient(lambda at: squared(model, at, 1), image[None], delta) * ((weight or 0.01) if variant == "gaussian" else 1)
        total /= 5
        for one in noise(turn).double() if variant == "gaussian" else ():
            total += gradient(lambda at: squared(model, at, 1), one[None], delta) / 8
        delta = (delta + EPS / 10 * shrunk(turn, EPOCHS) * total.sign()).clamp(-EPS, EPS)
    given: dict[str, Any] = {"eps": EPS, "train": train, "variant": variant, "layer": 1, "second": 2, "weight": weight}
    found = fit_l4a(model, loaded, ONE, **given, samples=5, epochs=EPOCHS, step=None)
    assert torch.allclose(found["perturbation"].double(), delta, atol=1e-6)
    labels, draws = torch.zeros(4, dtype=torch.int64), Draws(0, "x", list("abcd"))
    left = l4a(model, images(4), labels, draws, found, **given).images
    assert torch.allclose(left.double(), (images(4) + delta).clamp(0, 1), atol=1e-6)


def fitted(model: Classifier, **given: Any) -> Tensor:
    own = {"eps": EPS, "prior": "none", "train": None, "layers": None, "steps": EPOCHS, "samples": 5, "epochs": EPOCHS, "step": None}
    return fit_fff(model, loaded, ONE, **own | given)["perturbation"]


@pytest.mark.parametrize(("prior", "layers"), [("none", None), ("none", (2, 0)), ("gaussian", None), ("data", None)])
def test_fff_raises_the_product_of_norms_of_all_blocks(prior: str, layers: tuple[int, ...] | None) -> None:
    model, train = made(vit).double(), others()
    mean, deviation = (torch.tensor(of).view(1, 3, 1, 1) for of in ((0.5, 0.4, 0.3), (0.5, 0.25, 0.2)))

    def product(at: Tensor) -> Tensor:
        seen = tokens(model, at)
        return torch.stack([seen[layer].norm() ** 2 for layer in layers or range(3)]).prod().log()

    delta = ONE.at("start").uniform(3, 32, 32, low=-EPS, high=EPS).double()
    for turn in range(EPOCHS):
        if prior == "data":
            pixels = loaded(train, order(train.ids)[:5]).images
        elif prior == "none":
            pixels = mean.expand(1, 3, 32, 32)
        else:
            drawn = Draws(0, ONE.at(turn).stream, [f"noise {i}" for i in range(8)]).normal(3, 32, 32)
            pixels = (drawn * deviation + mean).clamp(0, 1)
        total = sum(gradient(product, one[None], delta) for one in pixels.double())
        delta = (delta + EPS / 10 * shrunk(turn, EPOCHS) * total.sign()).clamp(-EPS, EPS)
    more: dict[str, Any] = {"train": train} if prior == "data" else {"prior": prior}
    assert torch.allclose(fitted(model, layers=layers, **more).double(), delta, atol=1e-6)


def test_fff_reads_no_image_unless_it_is_given_data_and_refuses_both() -> None:
    own: dict[str, Any] = {"eps": EPS, "layers": None, "steps": 2, "samples": 5, "epochs": 1, "step": None}
    fit_fff(made(vit), lambda *_: pytest.fail("it loaded images"), ONE, **own, prior="gaussian", train=None)
    with pytest.raises(BadParameter, match="attack 'fff': prior is gaussian and train is named; it takes one of them"):
        fitted(made(vit), prior="gaussian", train=others())


@pytest.mark.parametrize("name", ["l4a", "fff"])
def test_activations_of_other_images_rise(name: str) -> None:
    model = made(vit)
    given: dict[str, Any] = {"eps": EPS, "layer": 0, "second": 1, "weight": None, "variant": "base", "train": others()}
    if name == "l4a":
        found = fit_l4a(model, loaded, ONE, **given, samples=7, epochs=30, step=None)
    else:
        found = {"perturbation": fitted(model, steps=40)}
    draws, labels = Draws(0, "x", list("abcdef")), torch.zeros(6, dtype=torch.int64)
    attack: Any = l4a if name == "l4a" else fff
    moved = attack(model, images(6), labels, draws, found, **({"eps": EPS, "train": others()} if name == "l4a" else {"eps": EPS})).images
    noisy = (images(6) + draws.uniform(3, 32, 32, low=-EPS, high=EPS)).clamp(0, 1)
    rise, by_chance = (
        sum(float(squared(model, of[[i]], 0) - squared(model, images(6)[[i]], 0)) for i in range(6)) for of in (moved, noisy)
    )
    assert rise > 3 * abs(by_chance)
