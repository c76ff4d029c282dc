"""Transforms of what is shown and where, two in a row, in either order: the pair computes, or is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.structure.anchoring import ImageAnchor
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec
from robustvit.spec.view import View
from robustvit.spec.written.pipeline import bind_pipeline

FAMILIES = {"geometry", "resolution", "depth", "channels", "token-reduction"}
STEPS = (
    "anchor", "aps", "blurpool", "peg", "peg(circular=true,pool=mean)", "image_size(scale=2)", "image_size(size=64,positions=nearest)",
    "image_size(size=64,patch=16)", "image_size(scale=2,enlarged=true)", "lookhere", "elastic_patches(missing=0.5)",
    "elastic_patches(count=1)", "block_order", "block_order(order=drawn,count=2)", "remove_blocks", "keep_channels", "lesion_heads",
    "mixed_scale", "tome(r=2)",
)  # fmt: skip
ANYWHERE = ("elastic_patches(missing=0.5)", "elastic_patches(count=1)", "elastic_patches(jitter=1)")
IN_PLACES = ("lookhere", "peg", "peg(circular=true)", "anchor", "aps", "feature_denoiser", "token_aware_pooling")


def _arch(address: str) -> Callable[[], nn.Module]:
    return lambda: rv.load_model(f"{address}?img_size=32&patch_size=8&dim=24&heads=2&depth=2&num_classes=5").model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": vits.HOSTS["plain"], "channel-vit": _arch("arch/channel_vit"), "hilo": _arch("arch/hilo"), "cpvt": _arch("arch/cpvt"),
    "swin": vits.HOSTS["swin"],
}  # fmt: skip


def host(make: Callable[[], nn.Module]) -> Classifier:
    torch.manual_seed(0)
    module = make()
    card = Card("toy", Spec("toy"), "given", fingerprint(module), 0)
    return Classifier(module, mean=(0.5,) * 3, std=(0.5,) * 3, view=View((32, 32), 32), card=card, tile=2)


def piped(model: Classifier, *steps: str) -> Classifier:
    for spec in bind_pipeline(list(steps), "a test"):
        model = apply_transform(model, spec, artifact={} if lookup("transform", spec.name).fit else None)
    return model


def logits(model: Classifier) -> Tensor:
    images = torch.rand(2, 3, *model.size, generator=torch.Generator().manual_seed(1))
    return model.bound(Draws(0, "test", ["a", "b"]))(images)


def test_the_steps_are_of_every_transform_of_these_families() -> None:
    ours = {name for name, entry in entries("transform").items() if entry.module.startswith("robustvit.")}
    walked = {spec.name for spec in bind_pipeline(list(STEPS), "a test")}
    apart = {name for name in ours if lookup("transform", name).family in FAMILIES - {"token-reduction"}} - walked
    assert not apart


@pytest.mark.parametrize("make", MODELS)
def test_two_in_a_row_compute_or_are_refused_in_a_sentence(make: str) -> None:
    given, taken = host(MODELS[make]), set()
    alone: dict[str, Classifier | None] = {}
    for step in STEPS:
        alone[step] = _tried(given, step)
    for first, second in product(STEPS, STEPS):
        before = alone[first]
        made = None if before is None else _tried(before, second)
        if made is not None:
            taken.add((first, second))
            found = logits(made)
            assert found.shape == (2, 5), (first, second)
            assert torch.isfinite(found).all(), (first, second)
    assert len(taken) > {"plain": 120, "channel-vit": 60}.get(make, 5), "of the pairs some are refused, and not all"


def _tried(model: Classifier, step: str) -> Classifier | None:
    try:
        return piped(model, step)
    except (HostRefused, BadParameter) as refusal:
        text = str(refusal)
        assert "object has no attribute" not in text, (step, text)
        assert "must match the size" not in text, (step, text)
        assert "\n" not in text, (step, text)
        return None


@pytest.mark.parametrize(("anywhere", "places"), list(product(ANYWHERE, IN_PLACES)))
def test_patches_anywhere_and_what_reads_tokens_in_their_places_are_refused_in_either_order(anywhere: str, places: str) -> None:
    for steps in ((anywhere, places), (places, anywhere)):
        with pytest.raises(HostRefused, match=r"places|patch embedding is an? "):
            piped(host(MODELS["plain"]), *steps)


@pytest.mark.parametrize("before", ["keep_channels", "block_order(order=drawn)", "image_size(scale=2,enlarged=true)"])
def test_patches_anywhere_do_not_lose_what_an_earlier_transform_does(before: str) -> None:
    with pytest.raises(HostRefused, match=r"'elastic_patches' does not take 'toy': it is wrapped in an? .*; name elastic_patches before"):
        piped(host(MODELS["plain"]), before, "elastic_patches(jitter=1)")
    sharp = piped(host(MODELS["plain"]), "attention_temperature(temperature=0.1)", "elastic_patches(jitter=1)")
    assert not torch.allclose(logits(sharp), logits(piped(host(MODELS["plain"]), "elastic_patches(jitter=1)")), atol=1e-4)


def test_drawn_orders_are_of_the_blocks_that_there_are() -> None:
    with pytest.raises(HostRefused, match="computes 2 blocks in drawn orders, and this transform leaves 1; name block_order"):
        piped(host(MODELS["plain"]), "block_order(order=drawn)", "remove_blocks")


@pytest.mark.parametrize("step", ["keep_channels", "elastic_patches(jitter=1)", "block_order(order=drawn)"])
def test_a_size_comes_before_what_wraps_the_model(step: str) -> None:
    with pytest.raises(HostRefused, match=r"for images of one size; name image_size before that"):
        piped(host(MODELS["plain"]), step, "image_size(scale=2)")
    assert logits(piped(host(MODELS["plain"]), "image_size(scale=2)", step)).shape == (2, 5)


def test_a_temperature_and_a_size_are_the_same_in_either_order() -> None:
    one, other = (piped(host(MODELS["plain"]), *steps) for steps in (
        ("attention_temperature(temperature=3)", "image_size(scale=2)"), ("image_size(scale=2)", "attention_temperature(temperature=3)"),
    ))  # fmt: skip
    assert torch.allclose(logits(one), logits(other), atol=1e-5)


def test_coarse_regions_are_counted_in_what_the_network_computes_on() -> None:
    """64 px in patches of 8, of images of 32 px: 16 regions, half of them coarse."""
    made: Any = piped(host(MODELS["plain"]), "image_size(scale=2,enlarged=true)", "mixed_scale(share=0.5)")
    assert made.model.policies[0].coarse == 8


@pytest.mark.parametrize("step", ["mixed_scale", "lookhere", "tome(r=4)", "token_aware_pooling", "image_size(scale=2,enlarged=true)"])
@pytest.mark.parametrize("anchoring", ["anchor", "aps"])
def test_what_depends_on_places_is_refused_behind_an_anchor(anchoring: str, step: str) -> None:
    with pytest.raises(HostRefused, match="'toy', which is anchored so that circular shifts change nothing"):
        piped(host(MODELS["plain"]), anchoring, step)


@pytest.mark.parametrize("step", [
    "keep_channels", "remove_blocks", "block_order", "lesion_heads", "image_size(scale=2)", "quantize(bits=8)",
    "attention_temperature(temperature=2)", "evit", "magnitude(amount=0.5)",
])  # fmt: skip
def test_what_does_not_leaves_logits_under_shifts(step: str) -> None:
    made = piped(host(MODELS["plain"]), "anchor", step)
    assert any(isinstance(part, ImageAnchor) for part in made.modules())
    images = (torch.rand(1, 3, *made.size, generator=torch.Generator().manual_seed(3)) * 255).round() / 255
    shifted = torch.cat([images.roll(shift, dims=(2, 3)) for shift in ((0, 0), (1, 5), (13, 2), (7, 29))])
    found = made.configure(tile=4)(shifted)
    assert float((found - found[0]).abs().max()) < 1e-4


@pytest.mark.parametrize("anchoring", ["anchor", "aps"])
def test_a_model_that_enlarges_its_images_is_not_anchored(anchoring: str) -> None:
    with pytest.raises(HostRefused, match=f"'{anchoring}' does not take 'toy': it resizes its images"):
        piped(host(MODELS["plain"]), "image_size(scale=2,enlarged=true)", anchoring)
