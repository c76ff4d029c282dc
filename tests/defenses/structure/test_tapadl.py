"""Token-aware pooling and the attention diversification loss, against loops and numbers written from the paper."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.structure.adl import attention_similarity
from robustvit.errors import HostRefused, ModelError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import compose
from robustvit.primitives.draws import Draws
from robustvit.primitives.structure.token_aware_pooling import TokenAwarePooling, pool_before_attention
from robustvit.primitives.training.attention import trained_attention
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.tensor([0, 1, 2]), ("a", "b", "c"))
DRAWS = Draws.for_step(0, 0, BATCH.ids)


def pooling(scales: int = 4, prefix: int = 1) -> TokenAwarePooling:
    torch.manual_seed(0)
    return TokenAwarePooling(6, scales, (3, 4), prefix).double().eval()


def pooled_by_hand(tokens: Tensor, weights: Tensor, prefix: int) -> Tensor:
    """One loop for each sum of the paper; the grid is 3 x 4."""
    expected = tokens.clone()
    for image in range(len(tokens)):
        for row in range(3):
            for column in range(4):
                own = tokens[image, prefix + 4 * row + column] * weights[image, 0, row, column]
                for dilation in range(1, weights.shape[1]):
                    for down in (-dilation, 0, dilation):
                        for right in (-dilation, 0, dilation):
                            y, x = row + down, column + right
                            if 0 <= y < 3 and 0 <= x < 4:
                                own = own + tokens[image, prefix + 4 * y + x] * weights[image, dilation, row, column] / 9
                expected[image, prefix + 4 * row + column] = own
    return expected


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_pools_are_weighted_means_of_nine_tokens_with_zeros_beyond_the_edge(prefix: int) -> None:
    module, tokens = pooling(prefix=prefix), torch.randn(2, 12 + prefix, 6, dtype=torch.float64)
    weights = module.weights(tokens[:, prefix:].transpose(1, 2).reshape(2, 6, 3, 4))
    assert torch.allclose(weights.sum(dim=1), torch.ones(2, 3, 4, dtype=torch.float64))
    assert torch.allclose(module(tokens), pooled_by_hand(tokens, weights, prefix), atol=1e-12)


def test_weights_are_the_softmax_of_a_convolution_a_normalisation_and_a_convolution() -> None:
    module, patches = pooling(), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    module.norm.running_mean += 0.3
    module.norm.running_var *= 2.0
    small = nn.functional.conv2d(patches, module.reduce.weight, padding=1)
    small = (small - 0.3) / (2.0 + 1e-5) ** 0.5
    logits = nn.functional.conv2d(small, module.weigh.weight, padding=1)
    assert torch.allclose(module.weights(patches), logits.exp() / logits.exp().sum(dim=1, keepdim=True), atol=1e-12)
    assert module.reduce.bias is None
    assert module.weigh.bias is None


def test_with_all_weight_on_the_token_itself_it_is_the_plain_model_to_the_bit() -> None:
    module = vits.vit(depth=2).eval()
    plain = copy.deepcopy(module)(IMAGES)
    pool_before_attention(module, 4).eval()
    assert not torch.allclose(module(IMAGES), plain, atol=1e-3)
    for block in module.blocks:
        block.norm1.pooling.weights = lambda patches: torch.eye(4)[0].view(1, 4, 1, 1).expand(len(patches), 4, *patches.shape[2:])
    assert torch.equal(module(IMAGES), plain)


def test_residuals_see_the_tokens_themselves() -> None:
    module = pool_before_attention(vits.vit(depth=1), 3).eval()
    block, tokens = module.blocks[0], torch.randn(2, 17, 24)
    with torch.no_grad():
        for part in (block.attn.proj, block.mlp.fc2):
            part.weight.zero_()
            part.bias.zero_()
    assert torch.equal(block(tokens), tokens)


def test_gradients_of_pooling_by_finite_differences() -> None:
    module = pooling(scales=3)
    assert torch.autograd.gradcheck(module, (torch.randn(1, 13, 6, dtype=torch.float64, requires_grad=True),))


def test_fewer_tokens_and_other_models_are_refused() -> None:
    with pytest.raises(ModelError, match="takes all 3x4 of an image, not 11"):
        pooling()(torch.zeros(1, 12, 6, dtype=torch.float64))
    with pytest.raises(HostRefused, match="'tap' takes timm's plain vision transformers, and the model to train is none: it is a ResNet"):
        rv.load_defense("tap").prepare(timm.create_model("resnet10t", num_classes=5))


def test_maps_are_those_that_timm_computes_unfused() -> None:
    module = vits.vit(depth=2, qk_norm=True).eval()
    found = trained_attention(module, IMAGES).maps
    seen: list[Tensor] = []
    for block in module.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda part, given, made: seen.append(made))
    module(IMAGES)
    assert len(found) == len(seen) == 2
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(found, seen, strict=True))
    assert torch.autograd.grad(found[1].square().sum(), module.blocks[0].attn.qkv.weight)[0].abs().sum() > 0


def test_maps_leave_dropout_and_the_predictions_alone() -> None:
    module = vits.vit(depth=1, attn_drop_rate=0.5).train()
    rows = trained_attention(module, IMAGES).maps[0].sum(dim=-1)
    assert torch.allclose(rows, torch.ones_like(rows), atol=1e-6)
    with pytest.raises(ModelError, match="within windows"):
        trained_attention(vits.swin().eval(), IMAGES)


def test_uniform_attention_costs_nothing_and_the_same_token_for_all_costs_one() -> None:
    uniform = torch.full((2, 3, 8, 8), 1 / 8)
    assert float(attention_similarity([uniform, uniform], 2.0)) == 0.0
    one_token = torch.zeros(2, 3, 8, 8)
    one_token[..., 5] = 1.0
    assert float(attention_similarity([one_token], 2.0)) == pytest.approx(1.0, abs=1e-6)
    assert float(attention_similarity([one_token, uniform], 2.0)) == pytest.approx(0.5, abs=1e-6)


def test_the_similarity_by_loops() -> None:
    maps = [torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(dim=-1) for seed in range(2)]
    total = 0.0
    for found in maps:
        each = found.mean(dim=1)
        for image in each:
            mean = sum(image) / 6
            large_mean = torch.tensor([float(value) if value > 2 / 6 else 0.0 for value in mean])
            for row in image:
                large = torch.tensor([float(value) if value > 2 / 6 else 0.0 for value in row])
                lengths = float(large.norm() * large_mean.norm())
                total += float(large @ large_mean) / lengths if lengths else 0.0
    assert float(attention_similarity(maps, 2.0)) == pytest.approx(total / (2 * 2 * 6), abs=1e-6)
    assert total > 0


def test_the_gradient_of_the_similarity_is_finite_and_that_of_the_entries() -> None:
    scores = torch.randn(1, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).mul(3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda given: attention_similarity([given.softmax(dim=-1)], 1.5), (scores,))
    flat = torch.zeros(1, 2, 5, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention_similarity([flat.softmax(dim=-1)], 2.0), flat)
    assert bool(torch.isfinite(gradient).all())


def test_it_is_added_to_any_loss_on_the_images_that_are_shown() -> None:
    module = vits.made(lambda: vits.vit(depth=2), sharp=20.0).model.requires_grad_(True)
    both = compose([rv.load_defense("adl", weight=0.5), rv.load_defense("trades", eps=0.05, steps=1)])
    shown = both.craft_for(module, BATCH, DRAWS)
    alone = rv.load_defense("trades", eps=0.05, steps=1).objective(module, shown, DRAWS)
    expected = alone + 0.5 * attention_similarity(trained_attention(module, shown.shown).maps, 2.0)
    assert torch.allclose(both.objective(module, shown, DRAWS), expected, atol=1e-6)
    assert float((expected - alone).detach()) > 1e-3
    assert not rv.load_defense("adl", weight=0).sets("penalty")


def test_a_trained_model_loads_again_by_its_path(tmp_path) -> None:
    address = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
    out = tmp_path / "tap.safetensors"
    trained = train_from_spec(address, "digits", out=out, defenses=("tap(scales=2)", "adl"), recipe=Recipe(epochs=1, batch_size=640)).model
    loaded = load_model(f"file:{out}")
    assert torch.equal(loaded(IMAGES), trained(IMAGES))
    assert type(loaded.model.blocks[0].norm1).__name__ == "PooledNorm"
    assert float(loaded.model.blocks[0].norm1.pooling.norm.running_mean.abs().max()) > 0
