"""The runner of token reduction: walks the blocks of timm's plain vision transformer and lets policies reduce the tokens on the way.

A policy is a module that overrides hooks of TokenPolicy: at the input, inside attention, between attention and MLP, or after a block.
Prefix tokens (class, distillation, registers) are protected. A policy that keeps equally many tokens of every image returns Tokens; one
whose count depends on the image returns Tokens for each image, which go on alone: nothing is padded or masked, and no bit of a row depends
on the other rows of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused, nearest, with_article
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.plain_attention import Projections, attention_map, mixed_values, output, projections_of
from robustvit.primitives.surgery.token_costs import Costs, attention_macs, counted, fixed_macs, layer_macs
from robustvit.primitives.surgery.tokens import COLUMNS, Tokens

Reduced: TypeAlias = "Tokens | list[Tokens]"
"""The tokens of a batch, or of each of its images alone where their numbers may differ."""
_NOTHING: frozenset[str] = frozenset()


class TokenPolicy(nn.Module):
    """How tokens are reduced; as it stands it reduces none. Subclasses override the hooks at which they do.

    proportional: whether queries attend to a token in proportion to its size (log(size) is added to scores) once tokens are merged.
    """

    proportional: bool = False

    def reads(self, index: int) -> Collection[str]:
        """What it reads of the attention of a block: names of `tokens.COLUMNS`, and "map" where it overrides `inside_attention`."""
        return _NOTHING

    def at_embedding(self, tokens: Tokens, images: Tensor, vit: Any) -> Tokens:
        """The tokens that `at_input` is given. vit: the transformer, for policies that embed parts of the images once more."""
        return tokens

    def at_input(self, tokens: Tokens, images: Tensor) -> Reduced:
        """The tokens that the first block computes. tokens: with position embeddings; images: (N, 3, H, W), normalised."""
        return tokens

    def inside_attention(self, index: int, tokens: Tokens, found: Tensor) -> tuple[Tokens, Tensor]:
        """The tokens whose values the attention map mixes, and that map between them.

        tokens: before the block; found: (N, heads, T, T), their map. Called where it reads "map"; values are those of the tokens returned.
        """
        return tokens, found

    def after_attention(self, index: int, tokens: Tokens) -> Reduced:
        """The tokens that the MLP of a block computes. tokens: after attention and its residual, with the columns that it reads."""
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Reduced:
        """The tokens that the next block computes. tokens: after this block, with the columns that it reads."""
        return tokens


class ReducedViT(nn.Module):
    """A plain vision transformer of timm that computes on ever fewer tokens; its logits come from those that are left.

    vit: the transformer, whose very submodules compute. policies: asked one after another at every hook. A head that averages patch tokens
    weighs each by its size where tokens were merged; other pooling takes them as they are. A forward pass of N images sets `counted`:
    tokens, (N, L) float, how many the MLP of each block computed, prefix included; gmacs, (N,) float, 10⁹ operations as `token_costs`
    counts them, both on the CPU. And `patches_left`, (N, patches) bool: at which patches' places there are
    tokens at the end; a token is at the place of the one into which others were merged.
    """

    patches_left: Tensor

    def __init__(self, vit: Any, policies: Iterable[nn.Module]) -> None:
        super().__init__()
        self.vit = vit
        self.policies = nn.ModuleList(policies)
        self.counted: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits of normalised images (N, 3, H, W)."""
        vit = self.vit
        embedded = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        patches = embedded.shape[1] - vit.num_prefix_tokens
        parts = self._at_input(Tokens.of(embedded, vit.num_prefix_tokens, Costs(fixed_macs(vit, patches))), images)
        for index, block in enumerate(vit.blocks):
            parts = [done for part in parts for done in self._block(index, block, part)]
        self.counted = counted([part.costs for part in parts], [len(part.values) for part in parts], embedded.shape[1])
        self.patches_left = torch.cat([part.left(patches) for part in parts])
        return torch.cat([self._head(part) for part in parts])

    def _at_input(self, tokens: Tokens, images: Tensor) -> list[Tokens]:
        parts = [(tokens, images)]
        for policy in self._policies:
            embedded = [(policy.at_embedding(part, rows, self.vit), rows) for part, rows in parts]
            parts = [pair for part, rows in embedded for pair in _with_images(policy.at_input(part, rows), rows)]
        return [part for part, _ in parts]

    def _block(self, index: int, block: Any, tokens: Tokens) -> list[Tokens]:
        """The tokens after a block, of the whole batch or of each image alone."""
        parts = self._ask(self._attend(index, block, tokens), lambda policy, part: policy.after_attention(index, part))
        after = [_mlp(block, part) for part in parts]
        return [part for one in after for part in self._ask(one, lambda policy, part: policy.after_block(index, part))]

    def _ask(self, tokens: Tokens, hook: Callable[[TokenPolicy, Tokens], Reduced]) -> list[Tokens]:
        """What the policies make of tokens at a hook, one after another."""
        parts = [tokens]
        for policy in self._policies:
            parts = [done for part in parts for done in _listed(hook(policy, part))]
        return parts

    def _attend(self, index: int, block: Any, tokens: Tokens) -> Tokens:
        """The tokens after attention and its residual, with the columns that policies read of it."""
        tokens = tokens.having(columns={})
        attention, reads = block.attn, {name for policy in self._policies for name in policy.reads(index)}
        projected, before, found = projections_of(attention, block.norm1(tokens.values)), tokens.count, None
        if reads & {"map", "received_attention"}:
            found = attention_map(attention, projected, self._bias(tokens))
            for policy in (one for one in self._policies if "map" in one.reads(index)):
                tokens, found = policy.inside_attention(index, tokens, found)
            if tokens.count != before:
                projected = projections_of(attention, block.norm1(tokens.values))
        mixed = mixed_values(attention, projected, self._bias(tokens)) if found is None else found @ projected.value.contiguous()
        residual = block.drop_path1(block.ls1(output(attention, mixed, projected.gate)))
        columns = {name: self._column(name, _Attention(attention, projected, found), tokens) for name in sorted(reads - {"map"})}
        costs = tokens.costs.plus(attention_macs(attention, before, tokens.count))
        return tokens.having(values=tokens.values + residual, columns=columns, costs=costs)

    def _bias(self, tokens: Tokens) -> Tensor | None:
        """What is added to attention scores."""
        return tokens.log_sizes() if tokens.merged and any(policy.proportional for policy in self._policies) else None

    def _column(self, name: str, of: _Attention, tokens: Tokens) -> Tensor:
        """One of `tokens.COLUMNS`."""
        if name == "keys":
            return of.projected.key.mean(dim=1)
        if name == "value_norms":
            return of.projected.value.square().sum(dim=(1, 3)).sqrt()
        if name == "received_attention" and of.found is not None:
            return of.found.mean(dim=(1, 2))
        if name == "class_attention":
            if of.found is not None and self.vit.global_pool == "token":
                return of.found[:, :, 0].mean(dim=1)
            asked = of.projected._replace(query=self._query(of.projected.query, tokens))
            return attention_map(of.module, asked, self._bias(tokens)).mean(dim=(1, 2))
        raise BadParameter(f"a token policy reads '{name}' of attention.{nearest(name, COLUMNS)} It may read {', '.join(COLUMNS)} or map.")

    def _query(self, query: Tensor, tokens: Tokens) -> Tensor:
        """(N, heads, 1, d): the query of the class token where logits are read from it, else the mean of patch tokens' queries.

        Weighted by size as the head weighs tokens.
        """
        if self.vit.global_pool == "token":
            return query[:, :, :1]
        if not tokens.merged:
            return query[:, :, tokens.prefix :].mean(dim=2, keepdim=True)
        weights = tokens.patch(tokens.sizes)[:, None, :, None].to(query.dtype)
        return (query[:, :, tokens.prefix :] * weights).sum(dim=2, keepdim=True) / weights.sum(dim=2, keepdim=True)

    def _head(self, tokens: Tokens) -> Tensor:
        """(N, K): the model's own head; a mean of tokens is weighted by size where tokens were merged."""
        vit, values = self.vit, self.vit.norm(tokens.values)
        if tokens.merged and vit.global_pool == "avg" and vit.attn_pool is None:
            first = 0 if vit.pool_include_prefix else tokens.prefix
            sizes = tokens.sizes[:, first:, None]
            pooled = (values[:, first:] * sizes).sum(dim=1, keepdim=True) / sizes.sum(dim=1, keepdim=True)
            values = torch.cat((values[:, : tokens.prefix], pooled), dim=1) if first else pooled
        logits: Tensor = vit.forward_head(values)
        return logits

    @property
    def _policies(self) -> list[TokenPolicy]:
        return list(self.policies)  # type: ignore[arg-type]


class _Attention(NamedTuple):
    """Of a block: its attention module, what it projects tokens to, and its map where that was made."""

    module: Any
    projected: Projections
    found: Tensor | None


def reduce_tokens(host: Classifier, policy: TokenPolicy) -> Classifier:
    """A new Classifier whose tokens this policy reduces, behind those of the policies that the host has already; gradients are exact.

    Raises HostRefused for a model that walks the blocks of a transformer by itself.
    """

    def around(module: nn.Module) -> nn.Module:
        if isinstance(module, ReducedViT):
            return ReducedViT(module.vit, [*module.policies, policy])
        if plain_vit(module) is not module:
            raise HostRefused(
                f"model '{host.card.label}' is {with_article(type(module).__name__)}, which walks the blocks of its transformer by "
                "itself; reduce the tokens of the transformer first, and apply the transform that made this afterwards."
            )
        return ReducedViT(module, [policy])

    return changed(host, around)


def depth_of(host: Classifier) -> int:
    """How many blocks a plain vision transformer has."""
    return len(plain_vit(host.model).blocks)


def chosen_blocks(transform: str, blocks: Sequence[int] | None, host: Classifier, name: str = "blocks") -> tuple[int, ...]:
    """The blocks at which tokens are reduced, ascending; None: those at a quarter, half and three quarters of the depth (3, 6, 9 of 12).
    None at all is a choice, too.

    name: of the parameter. Raises BadParameter for a block that the host does not have, or that is named twice.
    """
    depth = depth_of(host)
    if blocks is None:
        return tuple(sorted({depth * quarter // 4 for quarter in (1, 2, 3)}))
    if not set(blocks) <= set(range(depth)) or len(set(blocks)) < len(blocks):
        raise BadParameter(
            f"transform '{transform}': {name} is {list(blocks)}; it takes some of the {depth} blocks of model '{host.card.label}', each "
            f"once, counted from 0: 0 … {depth - 1}."
        )
    return tuple(sorted(blocks))


def _mlp(block: Any, tokens: Tokens) -> Tokens:
    values = tokens.values + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens.values))))
    return tokens.having(values=values, costs=tokens.costs.after_mlp(tokens.count * layer_macs(block.mlp), tokens.count))


def _listed(tokens: Reduced) -> list[Tokens]:
    return [tokens] if isinstance(tokens, Tokens) else tokens


def _with_images(tokens: Reduced, images: Tensor) -> list[tuple[Tokens, Tensor]]:
    """Tokens with the images that they are of."""
    if isinstance(tokens, Tokens):
        return [(tokens, images)]
    return list(zip(tokens, torch.split(images, [len(one.values) for one in tokens]), strict=True))
