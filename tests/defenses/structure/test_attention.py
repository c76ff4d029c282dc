"""Other forms of attention, and penalties on maps, against sums written out and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.structure.sparse_attention import log_penalty
from robustvit.errors import HostRefused, ModelError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.structure.attention_forms import L2Attention, ReLUAttention, form_attention
from robustvit.primitives.surgery.plain_attention import PlainAttention
from robustvit.primitives.training.attention import trained_attention
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.tensor([0, 1]), ("a", "b"))
DRAWS = Draws.for_step(0, 0, BATCH.ids)
ADDRESS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"


def attention(**more: object) -> nn.Module:
    torch.manual_seed(0)
    return vits.vit(depth=1, **more).blocks[0].attn.double().eval()


def by_hand(module: nn.Module, tokens: Tensor, form: str, exponent: float = 1.0) -> Tensor:
    """One entry of the map after another; two heads of width 12."""
    made, tokens = torch.zeros_like(tokens), tokens.detach()
    for image in range(len(tokens)):
        query, key, value = module.qkv(tokens[image]).detach().chunk(3, dim=-1)
        for head in range(2):
            part = slice(12 * head, 12 * head + 12)
            count = len(query)
            weights = torch.zeros(count, count, dtype=tokens.dtype)
            for i in range(count):
                for j in range(count):
                    if form == "relu":
                        weights[i, j] = max(0.0, float(query[i, part] @ key[j, part]) / math.sqrt(12)) / count**exponent
                    else:
                        weights[i, j] = math.exp(-float((key[i, part] - key[j, part]).square().sum()) / math.sqrt(12))
                if form == "l2":
                    weights[i] /= weights[i].sum()
            made[image, :, part] = weights @ value[:, part]
    return module.proj(made)


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_relu_attention_entry_by_entry(exponent: float) -> None:
    module, tokens = attention(), 3 * torch.randn(2, 5, 24, dtype=torch.float64)
    assert torch.allclose(ReLUAttention(module, exponent)(tokens), by_hand(module, tokens, "relu", exponent), atol=1e-12)


def test_l2_attention_entry_by_entry() -> None:
    module, tokens = attention(), 3 * torch.randn(2, 5, 24, dtype=torch.float64)
    assert torch.allclose(L2Attention(module)(tokens), by_hand(module, tokens, "l2"), atol=1e-12)


def test_the_jacobian_of_l2_attention_does_not_grow_and_that_of_dot_products_does() -> None:
    module = attention()
    with torch.no_grad():
        module.qkv.weight.mul_(20)
    tokens = torch.randn(1, 8, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    tokens[:, 0] = 0.0
    norms = {}
    for name, made in (("dot", module), ("l2", L2Attention(module))):
        for scale in (1.0, 30.0):
            jacobian = torch.autograd.functional.jacobian(made, scale * tokens).reshape(192, 192)
            norms[name, scale] = float(torch.linalg.matrix_norm(jacobian, 2))
    assert norms["l2", 30.0] < 3 * norms["l2", 1.0]
    assert norms["dot", 30.0] > 5 * norms["dot", 1.0]


def test_forms_take_every_attention_of_timm_and_no_mask() -> None:
    for make in (lambda: vits.vit(depth=2), vits.qk_norm, vits.registers):
        module = form_attention(make(), "l2").eval()
        assert all(type(block.attn) is L2Attention for block in module.blocks)
        assert bool(module(IMAGES).isfinite().all())
        rows = trained_attention(module, IMAGES).maps[0].sum(dim=-1)
        assert torch.allclose(rows, torch.ones_like(rows), atol=1e-5)
    with pytest.raises(ModelError, match="ReLUAttention attends to all tokens, and takes no mask"):
        ReLUAttention(attention())(torch.zeros(1, 5, 24, dtype=torch.float64), attn_mask=torch.zeros(5, 5))
    with pytest.raises(ModelError, match="no attention that can be intercepted"):
        trained_attention(form_attention(vits.vit(depth=1), "relu"), IMAGES)


def test_other_attention_is_refused() -> None:
    module = vits.vit(depth=1)
    module.blocks[0].attn = PlainAttention(module.blocks[0].attn)
    with pytest.raises(HostRefused, match="its attention is a PlainAttention"):
        form_attention(module, "relu")


@pytest.mark.parametrize(("defense", "kind"), [("relu_attention", ReLUAttention), ("l2_attention", L2Attention)])
def test_a_trained_model_loads_again(defense: str, kind: type, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    trained = train_from_spec(ADDRESS, "digits", out=out, defenses=(defense,), recipe=Recipe(epochs=1, batch_size=640)).model
    loaded = load_model(f"file:{out}")
    assert type(loaded.model.blocks[0].attn) is kind
    assert torch.equal(loaded(IMAGES), trained(IMAGES))


def test_the_log_penalty_is_least_for_uniform_attention() -> None:
    uniform, one_token = torch.full((2, 2, 5, 5), 0.2), torch.eye(5).expand(2, 2, 5, 5)
    assert log_penalty([uniform]).item() == pytest.approx(math.log(1 + 1 / 25), rel=1e-6)
    assert log_penalty([one_token]).item() == pytest.approx(math.log(2) / 5, rel=1e-6)
    assert log_penalty([uniform, one_token]).item() == pytest.approx((math.log(1 + 1 / 25) + math.log(2) / 5) / 2, rel=1e-6)
    scores = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: log_penalty([given.softmax(dim=-1)]), (scores,))


@pytest.mark.parametrize("blocks", ["last", "all"])
def test_the_penalty_is_of_the_maps_of_the_blocks_named(blocks: str) -> None:
    module = vits.made(lambda: vits.vit(depth=2)).model.requires_grad_(True)
    maps = trained_attention(module, IMAGES).maps
    maps = maps[1:] if blocks == "last" else maps
    expected = 0.5 * sum((1 + one**2).log().mean() for one in maps) / len(maps)
    found = rv.load_defense("sparse_attention", weight=0.5, blocks=blocks).penalty(module, BATCH, DRAWS)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not rv.load_defense("sparse_attention", weight=0).sets("penalty")
