"""Overlapping patches against sums written out, and spectral norms against singular values."""

from __future__ import annotations

import copy

import pytest
import torch
import vits
from torch import nn

import robustvit as rv
from robustvit.defenses.structure.vitgan import KeptSpectralNorm
from robustvit.errors import HostRefused
from robustvit.evaluation.loading import load_model
from robustvit.primitives.structure.overlapping_patches import overlap_patches
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ADDRESS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"


def spectral(weight: torch.Tensor) -> float:
    return torch.linalg.svdvals(weight.detach())[0].item()


def test_training_on_overlapping_patches_begins_at_the_model() -> None:
    module = vits.vit(depth=1).eval()
    before = module(IMAGES)
    overlap_patches(module, 3)
    assert module.patch_embed.proj.weight.shape[2:] == (14, 14)
    assert torch.allclose(module(IMAGES), before, atol=1e-5)


def test_a_patch_sees_its_border_and_zeros_beyond_the_image() -> None:
    module = overlap_patches(vits.vit(depth=1), 2).eval()
    proj = module.patch_embed.proj
    nn.init.normal_(proj.weight)
    found = module.patch_embed(IMAGES)
    wide = torch.zeros(2, 3, 36, 36)
    wide[:, :, 2:34, 2:34] = IMAGES
    for token, (row, column) in {0: (0, 0), 6: (1, 2), 15: (3, 3)}.items():
        part = wide[:, :, 8 * row : 8 * row + 12, 8 * column : 8 * column + 12]
        assert torch.allclose(found[:, token], (part[:, None] * proj.weight).sum(dim=(2, 3, 4)) + proj.bias, atol=1e-4)


def test_patches_that_overlap_already_are_refused() -> None:
    with pytest.raises(HostRefused, match="no convolution of patches side by side"):
        overlap_patches(overlap_patches(vits.vit(depth=1), 1), 1)


def test_at_first_a_matrix_is_itself_and_later_it_keeps_its_norm() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4)
    norm = KeptSpectralNorm(weight).train()
    assert torch.allclose(norm(weight), weight, atol=1e-6)
    moved = 3 * weight + 0.3 * torch.randn(6, 4)
    for _ in range(30):
        kept = norm(moved)
    assert spectral(kept) == pytest.approx(spectral(weight), rel=1e-4)
    assert spectral(norm.exact(moved + 1)) == pytest.approx(spectral(weight), rel=1e-5)


def test_gradients_flow_through_the_norm_and_evaluation_moves_no_vector() -> None:
    torch.manual_seed(0)
    norm = KeptSpectralNorm(torch.randn(4, 3, dtype=torch.float64)).eval()
    before = norm.left.clone()
    moved = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (moved,))
    assert torch.equal(norm.left, before)
    radial = torch.autograd.grad((norm(moved) * torch.randn(4, 3)).sum(), moved)[0]
    assert (radial * moved).sum().item() == pytest.approx(0.0, abs=1e-9), "the length of a matrix changes nothing"


def test_the_model_that_is_kept_is_plain_and_has_the_first_norms() -> None:
    defense, plain = rv.load_defense("improved_spectral_norm"), vits.vit(depth=2)
    module = defense.prepare(copy.deepcopy(plain))
    assert torch.allclose(module.eval()(IMAGES), plain.eval()(IMAGES), atol=1e-5)
    with torch.no_grad():
        for name, one in module.named_parameters():
            if name.endswith("original"):
                one.mul_(5).add_(0.2 * torch.randn_like(one))
    left = defense.export(module)
    vits.vit(depth=2).load_state_dict(left.state_dict(), strict=True)
    for block, old in zip(left.blocks, plain.blocks, strict=True):
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            assert spectral(block.get_submodule(layer).weight) == pytest.approx(spectral(old.get_submodule(layer).weight), rel=1e-4)
    assert type(left.blocks[0].mlp.fc1) is nn.Linear
    assert type(module.blocks[0].mlp.fc1) is not nn.Linear


@pytest.mark.parametrize("defense", ["overlapping_patches(overlap=2)", "improved_spectral_norm"])
def test_a_trained_model_loads_again(defense: str, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    trained = train_from_spec(ADDRESS, "digits", out=out, defenses=(defense,), recipe=Recipe(epochs=1, batch_size=640)).model
    assert torch.equal(load_model(f"file:{out}")(IMAGES), trained(IMAGES))
