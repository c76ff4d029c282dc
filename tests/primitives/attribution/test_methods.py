"""Attributions against steps by hand, other libraries, finite differences and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_patches import linear_patches
from torch import Tensor, nn
from vits import TILE, HuggingFace, Torchs, cnn, distilled, images, layer_scale, made, pooled, registers, swin, vit

from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.primitives.attribution.attention_gradients import legrad
from robustvit.primitives.attribution.methods import (
    attribution,
    differentiable_attribution,
    patch_order,
    patches_of,
)
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import forward_with_attention
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.reading import Reading

EXPLAINING: tuple[Any, ...] = ("legrad", "rollout", "gradient", "gradcam", "identifiability")
HOSTS: tuple[Any, ...] = (vit, registers, distilled, layer_scale, pooled)
COUNT = TILE + 2
IDS = [str(row) for row in range(COUNT)]
DRAWS = Draws(0, "x", IDS)
CLASSES = torch.tensor([0, 3, 4, 1, 2, 2])


class Step:
    """One attention of a block, by hand: what the block is given, its map, what attention adds, and what the block returns."""

    def __init__(self, block: Any, given: Tensor) -> None:
        attention = block.attn
        tokens = block.norm1(given)
        heads, width = attention.num_heads, given.shape[2] // attention.num_heads
        query, key, value = attention.qkv(tokens).reshape(*tokens.shape[:2], 3, heads, width).permute(2, 0, 3, 1, 4)
        scores = attention.q_norm(query) @ attention.k_norm(key).mT / math.sqrt(width)
        self.given, self.map = given, scores.softmax(dim=-1)
        if not self.map.requires_grad:
            self.map.requires_grad_()
        self.added = block.ls1(attention.proj((self.map @ value).transpose(1, 2).flatten(2)))
        between = given + self.added
        self.output = between + block.ls2(block.mlp(block.norm2(between)))


def steps(model: Classifier, pixels: Tensor) -> list[Step]:
    """Every block of timm's plain transformer, by hand."""
    net: Any = model.model
    embed = net.patch_embed.proj((pixels.double() - model.mean) / model.std).flatten(2).transpose(1, 2)
    tokens, found = net._pos_embed(embed), list[Step]()
    for block in net.blocks:
        found.append(Step(block, tokens))
        tokens = found[-1].output
    return found


def scores_of(model: Classifier, token: Tensor) -> Tensor:
    net: Any = model.model
    normed = net.fc_norm(net.norm(token))
    return (net.head(normed) + net.head_dist(normed)) / 2 if hasattr(net, "head_dist") else net.head(normed)


def exactly(make: Any) -> Classifier:
    return made(make, 3.0).double()


@pytest.mark.parametrize("make", HOSTS)
def test_legrad_is_the_gradient_of_every_block_by_hand(make: Any) -> None:
    model, pixels = exactly(make), images(COUNT)
    prefix = model.model.num_prefix_tokens  # type: ignore[union-attr]
    expected = torch.zeros(COUNT, 16, dtype=torch.float64)
    for step in steps(model, pixels):
        scores = scores_of(model, step.output.mean(dim=1))
        for row in range(COUNT):
            (gradient,) = torch.autograd.grad(scores[row, CLASSES[row]], step.map, retain_graph=True)
            positive = torch.where(gradient[row] > 0, gradient[row], 0.0)
            expected[row] += positive.mean(dim=0).mean(dim=0)[prefix:]
    found = attribution("legrad", model, pixels, CLASSES, DRAWS)
    assert torch.allclose(found.double().flatten(1), expected, rtol=1e-5, atol=1e-9)
    assert len(expected.unique()) > COUNT


@pytest.mark.parametrize("make", HOSTS)
def test_identifiability_is_the_gradient_of_what_attention_writes_by_hand(make: Any) -> None:
    model, pixels = exactly(make), images(COUNT)
    net: Any = model.model
    signed = torch.zeros(COUNT, 16, dtype=torch.float64)
    for step in steps(model, pixels):
        read = step.added[:, 0] if net.global_pool == "token" else step.added[:, net.num_prefix_tokens :].mean(dim=1)
        likely = scores_of(model, read).log_softmax(dim=1)
        for row in range(COUNT):
            (gradient,) = torch.autograd.grad(likely[row, CLASSES[row]], step.map, retain_graph=True)
            signed[row] += gradient[row].sum(dim=1).mean(dim=0)[net.num_prefix_tokens :]
    found = attribution("identifiability", model, pixels, CLASSES, DRAWS).double().flatten(1)
    assert torch.allclose(found, signed.clamp_min(0.0), rtol=1e-5, atol=1e-9)
    assert bool((signed < 0).any())


@pytest.mark.parametrize("make", HOSTS)
def test_rollout_by_an_independent_loop(make: Any) -> None:
    model, pixels = exactly(make), images(COUNT)
    net: Any = model.model
    maps = [step.map.detach().mean(dim=1) for step in steps(model, pixels)]
    found = attribution("rollout", model, pixels, CLASSES, DRAWS)
    for row in range(COUNT):
        flow = torch.eye(maps[0].shape[1], dtype=torch.float64)
        for layer in maps:
            flow = (0.5 * layer[row] + 0.5 * torch.eye(len(flow), dtype=torch.float64)) @ flow
        expected = flow[0] if getattr(net, "cls_token", None) is not None else flow.mean(dim=0)
        assert torch.allclose(found[row].double().flatten(), expected[net.num_prefix_tokens :], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("make", [*HOSTS, HuggingFace, Torchs])
def test_input_times_gradient_by_autograd_and_by_finite_differences(make: Any) -> None:
    model, pixels = exactly(make), images(2).double()
    found = attribution("gradient", model, pixels, CLASSES[:2], DRAWS[torch.arange(2)]).double()
    for row in range(2):
        normal = ((pixels[row : row + 1] - model.mean) / model.std).requires_grad_()
        logit = model.model(normal)
        product = (torch.autograd.grad(logit[0, CLASSES[row]], normal)[0] * normal)[0].detach()
        for down in range(4):
            for across in range(4):
                patch = product[:, 8 * down : 8 * down + 8, 8 * across : 8 * across + 8]
                assert float(found[row, down, across]) == pytest.approx(float(patch.abs().sum()), rel=1e-5)
        moved = normal.detach() * (1 + 1e-6)  # all products together are the derivative along the input itself
        slope = (model.model(moved) - model.model(normal.detach()))[0, CLASSES[row]] / 1e-6
        assert float(slope) == pytest.approx(float(product.sum()), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("make", [*HOSTS, HuggingFace])
def test_gradcam_by_hand_is_of_what_the_last_block_attends_to(make: Any) -> None:
    model, pixels = exactly(make), images(COUNT)
    inner: Any = model.model.inner.vit if make is HuggingFace else model.model
    last: Any = inner.layers[-1].layernorm_before if make is HuggingFace else inner.blocks[-1].norm1
    prefix = 1 if make is HuggingFace else inner.num_prefix_tokens
    kept: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, given, made: kept.append(made))
    logits = model.model(((pixels.double() - model.mean) / model.std).requires_grad_())
    hook.remove()
    found = attribution("gradcam", model, pixels, CLASSES, DRAWS).double().flatten(1)
    for row in range(COUNT):
        (gradient,) = torch.autograd.grad(logits[row, CLASSES[row]], kept[0], retain_graph=True)
        weights = sum(gradient[row, prefix + place] for place in range(16)) / 16
        expected = [max(0.0, float((weights * kept[0][row, prefix + place]).sum().detach())) for place in range(16)]
        assert torch.allclose(found[row], torch.tensor(expected).double(), rtol=1e-5, atol=1e-9)


def test_gradcam_is_that_of_the_grad_cam_package_before_it_rescales() -> None:
    library = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    model, pixels = made(vit, 3.0), images(COUNT)
    net: Any = model.model

    def places(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), 4, 4, -1).permute(0, 3, 1, 2)

    normal = ((pixels - model.mean) / model.std).requires_grad_()
    layer, asked = net.blocks[-1].norm1, [targets.ClassifierOutputTarget(int(label)) for label in CLASSES]
    with library.GradCAM(net, [layer], reshape_transform=places) as cam:
        cam(normal, asked)
        kept = cam.activations_and_grads
        signed = cam.get_cam_image(normal, layer, asked, kept.activations[0].numpy(), kept.gradients[0].numpy(), False)
    theirs = torch.from_numpy(signed).clamp_min(0.0)
    assert torch.allclose(attribution("gradcam", model, pixels, CLASSES, DRAWS), theirs, rtol=1e-4, atol=1e-6)
    assert 0 < int((theirs > 0).sum()) < theirs.numel()


def test_input_times_gradient_is_captums() -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, pixels = made(vit, 3.0), images(COUNT)
    normal = ((pixels - model.mean) / model.std).requires_grad_()
    theirs = attr.InputXGradient(model.model).attribute(normal, target=CLASSES).abs().sum(dim=1)
    expected = nn.functional.avg_pool2d(theirs[:, None], 8)[:, 0] * 64
    assert torch.allclose(attribution("gradient", model, pixels, CLASSES, DRAWS), expected.detach(), rtol=1e-4, atol=1e-5)


def test_of_a_linear_model_the_map_is_what_each_patch_adds() -> None:
    weights = [0.5, -2.0, 0.0, 3.0]
    model = linear_patches(weights, mean=0.25)
    pixels = 0.25 + 0.75 * images(4)[:, :, :8, :8]
    found = attribution("gradient", model, pixels, torch.ones(4, dtype=torch.int64), DRAWS[torch.arange(4)])
    means = nn.functional.avg_pool2d(pixels - 0.25, 4).mean(dim=1).flatten(1)
    assert torch.allclose(found.flatten(1), means * torch.tensor(weights).abs(), atol=1e-5)


def test_the_centre_map_falls_with_the_distance_and_chance_is_keyed_by_the_sample() -> None:
    model, pixels = made(vit), images(COUNT)
    centre = attribution("centre", model, pixels, CLASSES, DRAWS)
    near, edge = 1 - math.sqrt(0.5) / math.sqrt(4.5), 1 - math.sqrt(2.5) / math.sqrt(4.5)
    expected = torch.tensor([[0, edge, edge, 0], [edge, near, near, edge], [edge, near, near, edge], [0, edge, edge, 0]])
    assert torch.allclose(centre, expected.expand(COUNT, -1, -1), atol=1e-6)
    chance = attribution("random", model, pixels, CLASSES, DRAWS)
    assert torch.equal(chance, DRAWS.at("attribution").uniform(4, 4))
    alone = attribution("random", model, pixels[3:4], CLASSES[3:4], Draws(0, "x", ["3"]))
    assert torch.equal(alone[0], chance[3])
    assert len(chance.unique()) > 90


@pytest.mark.parametrize("name", [*EXPLAINING, "random", "centre"])
def test_a_map_depends_on_its_own_image_alone(name: Any) -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    whole = attribution(name, model, pixels, CLASSES, DRAWS)
    assert whole.shape == (COUNT, 4, 4)
    assert whole.dtype == torch.float32
    assert float(whole.min()) >= 0
    assert not whole.requires_grad
    for rows in (torch.tensor([5]), torch.tensor([4, 1, 0, 2, 3])):
        assert torch.equal(attribution(name, model, pixels[rows], CLASSES[rows], DRAWS[rows]), whole[rows])


@pytest.mark.parametrize("name", EXPLAINING)
def test_differentiable_maps_are_the_same_and_their_gradient_is_right(name: Any) -> None:
    model, pixels = exactly(vit), images(2).double()
    plain = attribution(name, model, pixels, CLASSES[:2], DRAWS[torch.arange(2)])
    leaf = pixels.clone().requires_grad_()
    mapped = differentiable_attribution(name, model, leaf, CLASSES[:2])
    assert torch.allclose(mapped.detach().float(), plain, rtol=1e-4, atol=1e-7)
    weights = Draws(0, "w", ["a", "b"]).normal(4, 4).double()
    (gradient,) = torch.autograd.grad((mapped * weights).sum(), leaf)
    assert float(gradient.abs().max()) > 0
    along = Draws(0, "d", ["a", "b"]).normal(3, 32, 32).double()
    moved = [
        float(
            (differentiable_attribution(name, model, (pixels + sign * 1e-6 * along).requires_grad_(), CLASSES[:2]) * weights).sum().detach()
        )
        for sign in (1, -1)
    ]
    assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(float((gradient * along).sum()), rel=2e-3)


@pytest.mark.parametrize("name", ["legrad", "gradient", "gradcam", "identifiability"])
def test_classes_are_those_of_the_data_that_a_model_is_read_for(name: Any) -> None:
    model, pixels = made(vit, 3.0), images(3)
    read = ReadClassifier(model, Reading("some", 2, columns=(4, 1)))
    ids = DRAWS[torch.arange(3)]
    whole = attribution(name, model, pixels, torch.full((3,), 4), ids)
    if name == "identifiability":  # the cross-entropy is over the classes that compete
        assert not torch.allclose(attribution(name, read, pixels, torch.zeros(3, dtype=torch.int64), ids), whole)
    else:
        assert torch.equal(attribution(name, read, pixels, torch.zeros(3, dtype=torch.int64), ids), whole)


def test_models_without_what_a_method_reads_are_refused_by_name() -> None:
    pixels, ids = images(1), Draws(0, "x", ["a"])
    cases: list[tuple[Any, Any, str]] = [
        (swin, "gradient", "3 sequences of blocks"), (cnn, "gradcam", "no sequences of blocks"),
        (Torchs, "legrad", "is none: it is a Torchs"),
        (Torchs, "gradcam", "last block of the type TransformerEncoderLayer"), (cnn, "random", "no sequences of blocks"),
        (lambda: vit(num_classes=0), "legrad", "it has no head"),
    ]  # fmt: skip
    for make, name, why in cases:
        with pytest.raises(HostRefused, match=f"'toy'.*{why}"):
            attribution(name, made(make), pixels, torch.zeros(1, dtype=torch.int64), ids)
    with pytest.raises(ModelError, match="attends within windows"):
        attribution("rollout", made(swin), pixels, torch.zeros(1, dtype=torch.int64), ids)


class Rounding(nn.Module):
    """A ViT of rounded pixels: its input gradient is zero, and that of its pixels before a detach is none."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = vit()

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixels.detach().round())
        return logits


def test_a_model_without_gradients_is_refused() -> None:
    with pytest.raises(HostRefused, match=r"'toy' has no gradient where this attribution needs one"):
        attribution("gradient", made(Rounding), images(1), torch.zeros(1, dtype=torch.int64), Draws(0, "x", ["a"]))


def test_values_that_are_not_finite_are_an_error() -> None:
    model = made(vit)
    model.model.head.weight.data[0] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="its attribution 'legrad' has values that are not finite"):
        attribution("legrad", model, images(1), torch.zeros(1, dtype=torch.int64), Draws(0, "x", ["a"]))


def test_legrad_leaves_the_model_as_it_was() -> None:
    model, pixels = made(vit), images(2)
    before = model(pixels)
    legrad(model, pixels, CLASSES[:2])
    assert torch.equal(model(pixels), before)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert len(forward_with_attention(model, pixels).maps) == 3


def test_order_and_shares_of_patches() -> None:
    assert patch_order(torch.tensor([[[1.0, 3.0], [3.0, 0.0]]])).tolist() == [[1, 2, 0, 3]]
    assert patch_order(torch.tensor([[[1.0, 3.0], [3.0, 0.0]]]), descending=False).tolist() == [[3, 0, 1, 2]]
    assert [patches_of(share, 16) for share in (0.01, 0.2, 0.22, 0.5, 1.0)] == [1, 3, 4, 8, 16]
    with pytest.raises(BadParameter, match=r"top is 0; it is a share of the patches"):
        patches_of(0, 4)


class Noisy(Classifier):
    """A classifier that adds noise, drawn for each row, to the pixels."""

    def __init__(self, host: Classifier, draws: Draws | None = None) -> None:
        super().__init__(host.model, mean=(0.0,) * 3, std=(1.0,) * 3, view=host.view, card=host.card, tile=host.tile)
        self.host, self.draws = host, draws

    def bound(self, draws: Draws) -> Classifier:
        return Noisy(self.host, draws)

    def forward(self, pixels: Tensor) -> Tensor:
        noise = 0.0 if self.draws is None else 0.05 * self.draws.normal(*pixels.shape[1:])
        with self.host.unbounded_pixels():
            logits: Tensor = self.host(pixels + noise)
        return logits


@pytest.mark.parametrize("name", EXPLAINING)
def test_of_a_random_model_a_row_has_its_own_draws(name: Any) -> None:
    model, pixels = Noisy(made(vit, 3.0)), images(COUNT)
    whole = attribution(name, keyed_by(model, DRAWS), pixels, CLASSES, DRAWS)
    for row in (0, 5):
        one = torch.tensor([row])
        alone = attribution(name, keyed_by(model, DRAWS[one]), pixels[one], CLASSES[one], DRAWS[one])
        assert torch.equal(alone[0], whole[row])
    other = attribution(name, keyed_by(model, DRAWS.at("other")), pixels, CLASSES, DRAWS)
    fresh = attribution(name, keyed_by(model, Draws(1, "x", IDS)), pixels, CLASSES, DRAWS)
    assert torch.equal(other, whole)  # a sample has one model whatever is drawn for it
    assert not torch.equal(fresh, whole)
