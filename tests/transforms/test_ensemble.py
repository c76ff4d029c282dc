"""Ensembles of models: closed forms, gradients, sizes, orders of classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import vits
from torch.nn.functional import interpolate

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.spec.view import View
from robustvit.transforms.ensemble import ensemble


def named(model: Classifier, *classes: str) -> Classifier:
    model.card = dataclasses.replace(model.card, classes=classes)
    return model


def pair() -> tuple[Classifier, Classifier]:
    return vits.made(vits.HOSTS["plain"], 2.0), vits.made(vits.HOSTS["registers"], 2.0)


def test_logits_and_probabilities_are_averaged_with_their_weights() -> None:
    first, second = pair()
    images = vits.images(5)
    a, b = first(images), second(images)
    assert torch.allclose(ensemble(first, other=second, weight=0.25)(images), 0.75 * a + 0.25 * b, atol=1e-6)
    mixed = ensemble(first, other=second, weight=0.25, fused="probabilities")(images)
    assert torch.allclose(mixed.softmax(dim=1), 0.75 * a.softmax(dim=1) + 0.25 * b.softmax(dim=1), atol=1e-6)
    assert torch.allclose(mixed.exp().sum(dim=1), torch.ones(5), atol=1e-5), "the logits are logarithms of probabilities"


def test_gradients_are_the_sum_of_both() -> None:
    first, second = pair()
    leaf = vits.images(3).requires_grad_()
    found = torch.autograd.grad(ensemble(first, other=second, weight=0.25)(leaf)[:, 1].sum(), leaf)[0]
    a, b = (torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0] for model in (first, second))
    assert torch.allclose(found, 0.75 * a + 0.25 * b, atol=1e-6)


def test_one_of_another_size_sees_the_images_resized() -> None:
    first, _ = pair()
    small = vits.made(lambda: vits.vit(img_size=16, patch_size=4), 2.0)
    small.view = View((16, 16), 16)
    images = vits.images(2)
    seen = interpolate(images, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.allclose(ensemble(first, other=small)(images), (first(images) + small(seen)) / 2, atol=1e-6)


def test_classes_in_another_order_are_brought_into_that_of_the_first() -> None:
    first, second = pair()
    named(first, "cat", "dog", "owl", "bee", "cow")
    named(second, "dog", "cat", "cow", "owl", "bee")
    images = vits.images(2)
    expected = (first(images) + second(images)[:, [1, 0, 3, 4, 2]]) / 2
    assert torch.allclose(ensemble(first, other=second)(images), expected, atol=1e-6)
    named(second, "dog", "cat", "cow", "owl", "ant")
    with pytest.raises(BadParameter, match="models of the same classes"):
        ensemble(first, other=second)


def test_other_numbers_of_classes_are_refused() -> None:
    first, _ = pair()
    with pytest.raises(BadParameter, match="'toy' has 5 outputs, and 'demo' 10"):
        ensemble(first, other=rv.load_model("demo"))


def test_three_models_weigh_alike_and_one_is_named_by_its_address() -> None:
    model = rv.load_model("demo+ensemble(other=demo+quantize(bits=4))+ensemble(other=demo+tome(r=4),weight=1/3)")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = [rv.load_model(f"demo{steps}")(images) for steps in ("", "+quantize(bits=4)", "+tome(r=4)")]
    assert torch.allclose(model(images), torch.stack(parts).mean(dim=0), atol=1e-5)


def test_an_ensemble_is_as_honest_about_gradients_as_its_worst_member() -> None:
    first = rv.load_model("demo")
    absent = rv.transformed(first, "dynamic_int8(bits=8, gradient=none)")
    assert ensemble(first, other=absent).gradient == absent.gradient
    assert ensemble(first, other=first).gradient == "exact"
