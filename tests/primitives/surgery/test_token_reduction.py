"""The runner of token reduction, with policies made up for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import timm
import torch
import vits
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.evaluation.cost.macs import count
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.attention_maps import forward_with_attention
from robustvit.primitives.surgery.hosts import why_not_host
from robustvit.primitives.surgery.modules import around
from robustvit.primitives.surgery.plain_attention import PlainAttention
from robustvit.primitives.surgery.token_reduction import ReducedViT, TokenPolicy, chosen_blocks, reduce_tokens
from robustvit.primitives.surgery.tokens import COLUMNS, NO_PATCH, Tokens

PLAIN = [make for make in vits.HOSTS if not why_not_host("plain", vits.made(vits.HOSTS[make]))]


def gated() -> nn.Module:
    """A ViT whose attention output is gated and normalised, and whose residual branches are scaled."""
    made = vits.vit(depth=2, init_values=0.3)
    for block in made.blocks:
        block.attn = Attention(24, num_heads=2, qkv_bias=True, gated=True, scale_norm=True, norm_layer=nn.LayerNorm)
    return made


def unlearned(name: str) -> nn.Module:
    """An architecture of timm without numbers: shapes suffice to count."""
    with torch.device("meta"):
        return timm.create_model(name).eval()


def counted(module: nn.Module) -> dict[str, Tensor]:
    module(torch.empty(1, 3, 224, 224, device="meta"))
    return module.counted


class Alone(TokenPolicy):
    """Reduces nothing, and lets every image go on alone from a hook on."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        setattr(self, hook, lambda *given: next(one for one in given if isinstance(one, Tokens)).each())


class Merging(TokenPolicy):
    """Merges patch tokens by fixed groups behind the attention of the first block."""

    proportional = True

    def __init__(self, groups: list[int]) -> None:
        super().__init__()
        self.groups = groups

    def after_attention(self, index: int, tokens: Tokens) -> Tokens:
        if index:
            return tokens
        return tokens.merge(torch.tensor([self.groups] * len(tokens.values)), max(self.groups) + 1)


class Taking(TokenPolicy):
    """Takes fixed patch tokens behind the attention of the first block."""

    def __init__(self, index: list[int]) -> None:
        super().__init__()
        self.index = index

    def after_attention(self, index: int, tokens: Tokens) -> Tokens:
        return tokens if index else tokens.take(torch.tensor([self.index] * len(tokens.values)))


class Reading(TokenPolicy):
    """Keeps the columns of every block."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names, self.seen = names, []

    def reads(self, index: int) -> tuple[str, ...]:
        return self.names

    def after_attention(self, index: int, tokens: Tokens) -> Tokens:
        self.seen.append(tokens)
        return tokens


@pytest.mark.parametrize("make", [*(vits.HOSTS[name] for name in PLAIN), gated], ids=[*PLAIN, "gated"])
def test_without_a_policy_the_logits_are_the_hosts_to_the_bit(make) -> None:
    host, pixels = vits.made(make), vits.images(5)
    assert torch.equal(reduce_tokens(host, TokenPolicy())(pixels), host(pixels))


@pytest.mark.parametrize(("name", "gmacs"), [("tiny", 1.254), ("small", 4.599), ("base", 17.564)])
def test_macs_of_deit_are_those_of_the_ledger(name, gmacs) -> None:
    module = ReducedViT(unlearned(f"deit_{name}_patch16_224"), [])
    assert counted(module)["gmacs"].tolist() == pytest.approx([gmacs], abs=5e-4)
    assert counted(module)["tokens"].tolist() == [[197.0] * 12]


@pytest.mark.parametrize("make", [*(vits.HOSTS[name] for name in PLAIN), gated], ids=[*PLAIN, "gated"])
def test_macs_are_those_that_torch_counts(make) -> None:
    module = ReducedViT(vits.made(make).model, [])
    module(torch.zeros(1, 3, vits.SIDE, vits.SIDE))
    assert round(float(module.counted["gmacs"]) * 1e9) == count(module, (vits.SIDE, vits.SIDE)).macs


@pytest.mark.parametrize("hook", ["at_input", "after_attention", "after_block"])
def test_images_that_go_on_alone_have_the_same_logits_in_the_same_order(hook) -> None:
    host, pixels = vits.made(vits.distilled), vits.images(4)
    alone = reduce_tokens(host, Alone(hook))
    assert torch.allclose(alone(pixels), host(pixels), atol=1e-5)
    assert alone.model.counted["tokens"].tolist() == [[18.0] * 3] * 4
    assert torch.equal(alone.model.patches_left, torch.ones(4, 16, dtype=torch.bool))


def two_kinds() -> Tensor:
    """Images of two kinds of patches, twelve and four of them."""
    patches = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    rows = [torch.cat([patches[kind] for kind in row], dim=2) for row in ((0, 0, 0, 1),) * 4]
    return torch.cat(rows, dim=1)[None]


@pytest.mark.parametrize("make", [vits.vit, vits.pooled, vits.distilled, gated], ids=["plain", "average-pooled", "distilled", "gated"])
def test_merging_equal_tokens_changes_nothing_where_attention_and_pooling_are_proportional(make) -> None:
    host = vits.made(make, sharp=2.0)
    host.model.pos_embed.zero_()
    reduced = reduce_tokens(host, Merging([0, 0, 0, 1] * 4))
    assert torch.allclose(reduced(two_kinds()), host(two_kinds()), atol=1e-4)
    uneven = reduce_tokens(host, Merging([0, 0, 0, 1] * 4))
    uneven.model.policies[0].proportional = False
    assert (uneven(two_kinds()) - host(two_kinds())).abs().max() > 1e-3


@pytest.mark.parametrize("make", [vits.vit, vits.pooled, vits.qk_norm, gated], ids=["plain", "average-pooled", "qk-norm", "gated"])
@pytest.mark.parametrize("names", [COLUMNS, ("class_attention", "keys")], ids=["with-a-map", "without"])
def test_columns_are_those_of_the_attention_of_every_block(make, names) -> None:
    host, pixels = vits.made(make), vits.images(vits.TILE)
    policy = Reading(*names)
    reduced = reduce_tokens(host, policy)
    reduced(pixels)
    states = Hidden(host, pixels)
    for index, tokens in enumerate(reduced.model.policies[0].seen):
        for name in names:
            assert torch.allclose(tokens.columns[name], getattr(states.blocks[index], name), atol=1e-5), name


@dataclass
class Column:
    keys: Tensor
    class_attention: Tensor
    received_attention: Tensor
    value_norms: Tensor


class Hidden:
    """The columns of every block by timm's own modules, step by step."""

    def __init__(self, host: Classifier, pixels: Tensor) -> None:
        vit, self.blocks = host.model, []
        given: list[Tensor] = []
        hooks = [block.attn.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0])) for block in vit.blocks]
        host(pixels)
        for hook in hooks:
            hook.remove()
        self.blocks = [self.of(vit, block.attn, tokens) for block, tokens in zip(vit.blocks, given, strict=True)]

    def of(self, vit, attention, tokens: Tensor) -> Column:
        width = attention.num_heads * attention.head_dim
        query, key, value = (part.unflatten(2, (attention.num_heads, -1)) for part in attention.qkv(tokens).split(width, dim=2))
        query, key = attention.q_norm(query), attention.k_norm(key)
        score = torch.einsum("nqhd,nkhd->nhqk", query, key) / attention.head_dim**0.5
        one = query[:, 0] if vit.global_pool == "token" else query[:, vit.num_prefix_tokens :].mean(dim=1)
        row = (torch.einsum("nhd,nkhd->nhk", one, key) / attention.head_dim**0.5).softmax(dim=-1)
        return Column(key.mean(dim=2), row.mean(dim=1), score.softmax(dim=-1).mean(dim=(1, 2)), value.flatten(2).norm(dim=2))


def test_a_second_policy_reads_the_attention_of_the_tokens_that_the_first_left() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    groups = [0, 1, 0, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    alone, after = reduce_tokens(host, Reading(*COLUMNS)), reduce_tokens(reduce_tokens(host, Merging(groups)), Reading(*COLUMNS))
    alone(pixels), after(pixels)
    before, merged = (made.model.policies[-1].seen[0] for made in (alone, after))
    members = [[at for at, group in enumerate(groups) if group == one] for one in range(13)]
    for name in COLUMNS:
        gather = Tensor.sum if "attention" in name else Tensor.mean
        wanted = torch.stack([gather(before.columns[name][:, 1:][:, of], dim=1) for of in members], dim=1)
        assert torch.allclose(merged.columns[name][:, 1:], wanted, atol=1e-5), name
        assert torch.equal(merged.columns[name][:, 0], before.columns[name][:, 0]), name
    assert merged.sizes[0].tolist() == [1.0, *map(float, map(len, members))]
    assert merged.places[0].tolist() == [of[0] if len(of) == 1 else NO_PATCH for of in members]


def test_a_second_merging_weighs_tokens_by_their_sizes() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    twice = reduce_tokens(reduce_tokens(host, Merging([0, 0, 0, *range(1, 14)])), Merging([0, 0, *range(1, 13)]))
    once = reduce_tokens(host, Merging([0, 0, 0, 0, *range(1, 13)]))
    assert torch.allclose(twice(pixels), once(pixels), atol=1e-5)
    assert torch.equal(twice.model.patches_left, torch.tensor([[False] * 4 + [True] * 12] * 4))


def test_tokens_that_are_taken_are_those_and_their_order_does_not_matter() -> None:
    host, pixels = vits.made(vits.distilled), vits.images(2)
    one, other = reduce_tokens(host, Taking([3, 7, 1])), reduce_tokens(host, Taking([1, 3, 7]))
    assert torch.allclose(one(pixels), other(pixels), atol=1e-5)
    assert one.model.patches_left[0].nonzero()[:, 0].tolist() == [1, 3, 7]
    assert one.model.counted["tokens"].tolist() == [[5.0] * 3] * 4


def test_a_block_that_computes_fewer_tokens_costs_less() -> None:
    whole, less = ReducedViT(unlearned("deit_small_patch16_224"), []), ReducedViT(unlearned("deit_small_patch16_224"), [Taking([0] * 97)])
    width, hidden = 384, 1536
    block = 4 * width * width + 2 * width * hidden  # of a token, but for the products of attention
    wanted = 99 * (11 * block + 2 * width * hidden) + 11 * 2 * width * (197**2 - 98**2)
    saved = (counted(whole)["gmacs"] - counted(less)["gmacs"]).item()
    assert saved == pytest.approx(wanted / 1e9, rel=1e-5)


def test_attention_maps_are_captured_once_a_block_also_where_a_policy_reads_them() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    reduced = reduce_tokens(host, Reading(*COLUMNS))
    for found, wanted in zip(forward_with_attention(reduced, pixels).maps, forward_with_attention(host, pixels).maps, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_quantisers_of_attention_are_met_on_the_way() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    module = vits.made(vits.vit).model
    for block in module.blocks:
        block.attn = PlainAttention(block.attn)
        for name in ("query", "key", "map", "value"):
            block.attn.quantisers[name] = Rounding()
    quantised = around(host, module)
    assert torch.allclose(reduce_tokens(quantised, Reading("keys", "class_attention"))(pixels), quantised(pixels), atol=1e-5)
    assert (quantised(pixels) - host(pixels)).abs().max() > 0.1


class Rounding(nn.Module):
    def forward(self, tensor: Tensor) -> Tensor:
        return (tensor * 4).round() / 4


def test_a_model_that_walks_its_transformer_by_itself_is_refused() -> None:
    class Walking(nn.Module):
        def __init__(self, vit: VisionTransformer) -> None:
            super().__init__()
            self.vit = vit

        def forward(self, images: Tensor) -> Tensor:
            return self.vit(images)

    host = vits.made(vits.vit)
    with pytest.raises(HostRefused, match="'toy' is a Walking, which walks the blocks"):
        reduce_tokens(around(host, Walking(host.model)), TokenPolicy())


@pytest.mark.parametrize(("depth", "wanted"), [(12, (3, 6, 9)), (24, (6, 12, 18)), (3, (0, 1, 2)), (2, (0, 1)), (1, (0,))])
def test_blocks_are_at_the_quarters_of_the_depth(depth, wanted) -> None:
    assert chosen_blocks("evit", None, vits.made(lambda: vits.vit(depth=depth))) == wanted


@pytest.mark.parametrize("blocks", [(3,), (-1,), (1, 1)])
def test_blocks_that_are_not_there_are_refused(blocks) -> None:
    with pytest.raises(BadParameter, match=r"transform 'evit': blocks is .*some of the 3 blocks of model 'toy', each once.*0 … 2"):
        chosen_blocks("evit", blocks, vits.made(vits.vit))


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"reads 'key' of attention\. Did you mean 'keys'"):
        reduce_tokens(vits.made(vits.vit), Reading("key"))(vits.images(1))
