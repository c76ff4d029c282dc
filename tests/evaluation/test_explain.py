"""The façade's one call for attribution maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vits import images, made, vit

import robustvit as rv
from robustvit.errors import BadParameter, PixelRange
from robustvit.primitives.attribution.methods import attribution
from robustvit.primitives.draws import Draws


def test_the_predicted_class_is_explained_unless_another_is_asked_for() -> None:
    model, pixels = made(vit, 3.0), images(5)
    answers, draws = model(pixels).argmax(dim=1), Draws(0, "explain", [str(row) for row in range(5)])
    assert torch.equal(rv.explain(model, pixels), attribution("legrad", model, pixels, answers, draws))
    others = (answers + 1) % 5
    assert torch.equal(rv.explain(model, pixels, "gradcam", others.int()), attribution("gradcam", model, pixels, others, draws))
    assert not torch.equal(rv.explain(model, pixels), rv.explain(model, pixels, classes=others))


@pytest.mark.parametrize("name", ["legrad", "rollout", "gradient", "gradcam", "identifiability", "random", "centre"])
def test_every_method_takes_the_demo(name: Any) -> None:
    model = rv.load_model("demo")
    found = rv.explain(model, images(3), name)
    assert found.shape[0] == 3
    assert found.shape[1] == found.shape[2] > 1
    assert float(found.min()) >= 0 < float(found.max())


def test_chance_is_keyed_by_ids_and_seed() -> None:
    model, pixels = made(vit), images(3)
    whole = rv.explain(model, pixels, "random", ids=["a", "b", "c"])
    assert torch.equal(rv.explain(model, pixels[1:2], "random", ids=["b"])[0], whole[1])
    assert not torch.equal(rv.explain(model, pixels, "random", ids=["a", "b", "c"], seed=1), whole)


def test_what_is_wrong_is_said_in_one_line() -> None:
    model, pixels = made(vit), images(2)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((model.model, pixels), r"explain takes a Classifier; this is a VisionTransformer"),
        ((model, pixels, "legrat"), r"no attribution is called 'legrat'\. Did you mean 'legrad'\?"),
        ((model, pixels[0]), r"a floating-point tensor \(N, 3, H, W\) in \[0, 1\]; this is \(3, 32, 32\) torch.float32"),
        ((model, pixels[:0]), r"explain takes one image or more"),
        ((model, pixels, "legrad", torch.zeros(3, dtype=torch.int64)), r"a tensor \(2,\), one for each image; this is \(3,\)"),
        ((model, pixels, "legrad", torch.tensor([0, 5])), r"classes span 0 … 5; the model has classes 0 … 4"),
    ]
    for given, why in cases:
        with pytest.raises(BadParameter, match=why):
            rv.explain(*given)
    with pytest.raises(BadParameter, match="explain got 2 images and 1 ids"):
        rv.explain(model, pixels, ids=["a"])
    with pytest.raises(PixelRange, match="the images given to explain must be pixels"):
        rv.explain(model, pixels * 2)
