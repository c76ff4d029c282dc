"""Patch-Fool, against an independent loop with torch's own Adam."""

from __future__ import annotations

import pytest
import torch
import vits
from torch import Tensor

from robustvit.attacks.patch_fool import patch_fool
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference import attention_maps
from robustvit.primitives.norms import size


def draws(rows: int = 6) -> Draws:
    return Draws(0, "x", [str(i) for i in range(rows)])


@pytest.fixture(scope="module")
def deep() -> Classifier:
    return vits.made(lambda: vits.vit(depth=6), sharp=3.0)


@pytest.fixture(scope="module")
def batch(deep) -> tuple[Tensor, Tensor]:
    pixels = vits.images(6)
    return pixels, deep(pixels).argmax(dim=1)


def changed(crafted: Crafted, pixels: Tensor) -> Tensor:
    """The tokens of 8x8 pixels in which a pixel changed, (N, 4, 4)."""
    return (crafted.images != pixels).any(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).any(dim=4).any(dim=3)


def reference(
    model: Classifier, pixels: Tensor, label: int, noise: Tensor, tokens: list[int], steps: int, weight: float
) -> list[Tensor]:  # fmt: skip
    """One sample, optimised in normalised pixels as in the authors' code: the image that is queried at each step, and the last."""
    mean, std, mask, path = model.mean[0], model.std[0], torch.zeros(1, *pixels.shape[1:], dtype=pixels.dtype), []
    for token in tokens:
        row, column = 8 * (token // 4), 8 * (token % 4)
        mask[:, row : row + 8, column : column + 8] = 1
    delta = ((noise - mean) / std).requires_grad_()
    optimiser = torch.optim.Adam([delta], lr=0.22)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 10, 0.95)
    for _ in range(steps):
        patched = (((pixels - mean) / std) * (1 - mask) + delta * mask) * std + mean
        patched = patched + (patched.clamp(0, 1) - patched).detach()  # rounding errors
        path.append(patched.detach().clone())
        logits, maps = attention_maps.forward_with_attention(model, patched[None])
        loss = logits[0, torch.arange(logits.shape[1]) != label].logsumexp(dim=0) - logits[0, label]
        lead = torch.autograd.grad(loss, delta, retain_graph=True)[0]
        total = lead.clone()
        for layer in maps[1:3]:
            towards = layer[0].mean(dim=0)[:, [1 + token for token in tokens]]
            pull = torch.autograd.grad(towards.log().mean(), delta, retain_graph=True)[0]
            if (pull * lead).sum() < 0:
                pull = pull - (pull * lead).sum() / lead.norm() ** 2 * lead
            total += weight * pull
        delta.grad = -total
        optimiser.step()
        schedule.step()
        delta.data = ((delta.data * std + mean).clamp(0, 1) - mean) / std
    return [*path, torch.where(mask.bool(), delta.detach() * std + mean, pixels)]


@pytest.mark.parametrize(("weight", "patches"), [(0.0, 1), (0.002, 1), (0.5, 1), (0.5, 3)])
def test_every_query_is_that_of_the_same_loop_with_torchs_adam(batch, weight, patches, monkeypatch) -> None:
    """In float64 through 22 steps, in which the step size decays twice; no sample stops early."""
    deep, pixels, labels = vits.made(lambda: vits.vit(depth=6), sharp=3.0).double(), batch[0][:3].double(), batch[1][:3]
    monkeypatch.setattr(
        "robustvit.primitives.attack_search.Search.fooled", lambda self, rows, images, logits: torch.zeros(len(rows), dtype=torch.bool)
    )
    seen: list[Tensor] = []
    hook = deep.model.register_forward_pre_hook(lambda module, given: seen.append(given[0][:3].detach() * deep.std + deep.mean))
    found = patch_fool(deep, pixels, labels, draws(3), patches=patches, steps=22, weight=weight).images
    hook.remove()
    tokens = attention_maps.received_attention(deep, pixels, 4).flatten(1).argsort(dim=1, descending=True)[:, :patches].tolist()
    noise = draws(3).at("start").uniform(3, 32, 32).double()
    for i in range(2):
        path = reference(deep, pixels[i], int(labels[i]), noise[i], tokens[i], 22, weight)
        assert torch.allclose(torch.stack([one[i] for one in seen[-23:]]), torch.stack(path), atol=1e-6)
        assert torch.allclose(found[i], path[-1], atol=1e-6)


@pytest.mark.parametrize("position", ["attention", "saliency", "random"])
@pytest.mark.parametrize("patches", [1, 3])
def test_only_pixels_of_as_many_tokens_change(deep, batch, position, patches) -> None:
    pixels, labels = batch
    crafted = patch_fool(deep, pixels, labels, draws(), patches=patches, position=position, steps=3)
    assert changed(crafted, pixels).flatten(1).sum(dim=1).tolist() == [patches] * 6
    assert float(size(crafted.images - pixels, "l0").max()) <= patches * 64
    assert 0.0 <= float(crafted.images.min()) <= float(crafted.images.max()) <= 1.0


def test_by_attention_the_patch_is_the_token_that_receives_most_at_the_layer(deep, batch) -> None:
    pixels, labels = batch
    for layer in (0, 4):
        best = attention_maps.received_attention(deep, pixels, layer).flatten(1).argmax(dim=1)
        assert torch.equal(
            changed(patch_fool(deep, pixels, labels, draws(), layer=layer, steps=1), pixels).flatten(1).int().argmax(dim=1), best
        )


def test_by_saliency_the_patch_is_where_the_gradient_is_largest(deep, batch) -> None:
    pixels, labels = batch
    leaf = ((pixels - deep.mean) / deep.std).requires_grad_()
    loss = torch.nn.functional.cross_entropy(deep.model(leaf), labels, reduction="sum")
    saliency = torch.nn.functional.avg_pool2d(torch.autograd.grad(loss, leaf)[0].abs(), 8).sum(dim=1).flatten(1)
    found = changed(patch_fool(deep, pixels, labels, draws(), position="saliency", steps=1), pixels)
    assert torch.equal(found.flatten(1).int().argmax(dim=1), saliency.argmax(dim=1))


def test_random_patches_are_keyed_by_the_sample(deep, batch) -> None:
    pixels, labels = batch
    one, other = (
        changed(patch_fool(deep, pixels, labels, Draws(seed, "x", draws().ids), position="random", steps=1), pixels) for seed in (0, 1)
    )
    assert not torch.equal(one, other)


def test_a_sample_gets_the_same_image_in_any_batch(deep, batch) -> None:
    pixels, labels = batch
    whole = patch_fool(deep, pixels, labels, draws(), steps=8)
    part = patch_fool(deep, pixels[3:5], labels[3:5], draws()[torch.arange(3, 5)], steps=8)
    assert torch.equal(whole.images[3:5], part.images)
    assert all(torch.equal(whole.columns[name][3:5], part.columns[name]) for name in whole.columns)


def test_samples_counted_as_misclassified_are_so_and_cost_nothing_more(deep, batch) -> None:
    pixels, labels = batch
    crafted = patch_fool(deep, pixels, labels, draws(), patches=4, steps=60)
    fooled, columns = deep(crafted.images).argmax(dim=1) != labels, crafted.columns
    assert bool(fooled.any())
    assert torch.equal(fooled, columns["steps"] >= 0)
    assert torch.equal(columns["queries"][fooled], columns["steps"][fooled])
    assert bool((columns["queries"][~fooled] == 62).all())  # one to choose the tokens, one for each step, one for the last image


def test_gradients_of_the_attention_are_counted(deep, batch) -> None:
    pixels, labels = batch
    columns = patch_fool(deep, pixels, labels, draws(), steps=1).columns
    assert set(columns["gradients"].tolist()) == {3}  # of the cross-entropy, and of the attention of blocks 1 and 2
    assert set(patch_fool(deep, pixels, labels, draws(), steps=1, weight=0.0).columns["gradients"].tolist()) == {1}


def test_its_weight_draws_attention_to_the_patch(deep, batch) -> None:
    pixels, labels = batch
    share = []
    for weight in (0.0, 100.0):
        images = patch_fool(deep, pixels, labels, draws(), position="random", steps=30, weight=weight).images
        tokens = draws().at("position").permutation(16)[:, :1]
        share.append(attention_maps.received_attention(deep, images, 1).flatten(1).gather(1, tokens).mean())
    assert share[1] > share[0]


def test_registers_and_distillation_tokens_are_never_patches() -> None:
    for make in (vits.registers, vits.distilled, vits.HuggingFace):
        model, pixels = vits.made(make), vits.images(4)
        crafted = patch_fool(model, pixels, model(pixels).argmax(dim=1), draws(4), steps=2)
        assert changed(crafted, pixels).flatten(1).sum(dim=1).tolist() == [1] * 4


@pytest.mark.parametrize("make", [vits.swin, vits.cnn], ids=["swin", "cnn"])
def test_models_whose_attention_maps_cannot_be_captured_are_refused(make) -> None:
    model, pixels = vits.made(make, sharp=1.0), vits.images(1)
    with pytest.raises(ModelError, match=r"attend|attention"):
        patch_fool(model, pixels, model(pixels).argmax(dim=1), draws(1), position="random")


def test_more_patches_than_tokens_are_refused(deep, batch) -> None:
    with pytest.raises(BadParameter, match="patches is 17; model 'toy' has 16 tokens"):
        patch_fool(deep, *batch, draws(), patches=17)
