"""Patch-Fool: whole tokens replaced, so that the model errs and attends to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from robustvit.attacks.losses import cross_entropy
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.attack_search import Crafted, Search, Seen, slope
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import forward_with_attention, probe_token_grid, received_attention
from robustvit.primitives.inference.token_grid import TokenGrid
from robustvit.primitives.norms import per_sample
from robustvit.spec.registry import attack

Count = Annotated[int, Ge(1)]
Position = Literal["attention", "saliency", "random"]

_CITATION = """@inproceedings{fu2022patchfool,
  title={Patch-Fool: Are Vision Transformers Always Robust Against Adversarial Perturbations?},
  author={Fu, Yonggan and Zhang, Shunyao and Wu, Shang and Wan, Cheng and Lin, Yingyan},
  booktitle={International Conference on Learning Representations},
  year={2022}
}"""
_DECAY, _EVERY = 0.95, 10  # the step shrinks by this, every so many steps
_FIRST, _SECOND, _GUARD = 0.9, 0.999, 1e-8  # Adam's own constants
_LEAST = 1e-12  # attention below which its logarithm says nothing more; far below 1/T for any T tokens
_TINY = 1e-24  # guards the division by a squared gradient that is zero


@attack(
    severity="patches", family="patch", source="Fu et al. 2022", url="https://arxiv.org/abs/2203.08392", citation=_CITATION,
    rules="Patches are whole tokens of the model and replaced: no pixel outside them changes, those inside may take any value in [0, 1]. "
    "A sample has fallen at whichever step it fell.",
)  # fmt: skip
def patch_fool(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, patches: Count = 1, position: Position = "attention", layer: Annotated[int, Ge(0)] = 4, steps: Count = 250,
    step: Annotated[float, Gt(0)] = 0.22, weight: Annotated[float, Ge(0)] = 0.002,
) -> Crafted:  # fmt: skip
    """Patch-Fool: Adam on the cross-entropy and on the attention that the patches receive, from random pixels.

    patches: how many tokens of the model are replaced. position: those that receive most attention at block `layer` (counted from 0; models with fewer
    blocks are asked at their last but one), whose pixels have the largest input gradients in sum (saliency), or random ones. step: of Adam, in
    normalised pixels; times 0.95 every 10 of the steps. weight: of the logarithm of attention towards the patches, its mean over queries and heads,
    summed over blocks 1 … L/2 − 1, as in the authors' code; where the gradient of a block's conflicts with the cross-entropy's, its part along that
    one is taken away (PCGrad, by the formula; the authors' code divides by a length where that has its square). A model of less than four blocks has
    no such blocks. A sample stops once it has fallen, where the authors judge the last step alone. Raises ModelError where attention cannot be heard.
    """
    search, place = Search(model, images, labels, draws), probe_token_grid(model)
    tokens = _chosen(search, place, patches, position, layer)
    rows, patch = search.standing, _Patch.begun(images, tokens, place, draws)
    for turn in range(steps):
        seen = _seen(search, rows, patch, weight)
        alive = search.stand(rows)
        rows, patch = rows[alive], patch[alive]
        if not len(rows):
            break
        patch.follow(seen.gradient[alive], turn, step * _DECAY ** (turn // _EVERY), model.std)  # type: ignore[arg-type]
    if len(rows):
        search.look(rows, patch.pixels)
        search.leave(rows, patch.pixels)
    return search.outcome()


@dataclass
class _Patch:
    """Some samples with their patches. tokens: (n, P) keys of the attention that they are; mask: (n, 1, H, W); first, second: Adam's moments."""

    pixels: Tensor
    mask: Tensor
    tokens: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def begun(cls, images: Tensor, tokens: Tensor, place: TokenGrid, draws: Draws) -> _Patch:
        """Uniformly random pixels in the place of the tokens. tokens: (N, P), row by row of the grid."""
        covered = torch.zeros(len(images), place.rows * place.columns, dtype=torch.bool, device=images.device).scatter_(1, tokens, True)
        side = images.shape[-1] // place.columns
        mask = covered.view(-1, 1, place.rows, place.columns).repeat_interleave(side, 2).repeat_interleave(side, 3)
        noise = draws.at("start").uniform(*images.shape[1:]).to(images)
        none = torch.zeros_like(images)
        return cls(torch.where(mask, noise, images), mask, tokens + place.prefix, none, none.clone())

    def __getitem__(self, keep: Tensor) -> _Patch:
        return _Patch(self.pixels[keep], self.mask[keep], self.tokens[keep], self.first[keep], self.second[keep])

    def follow(self, gradient: Tensor, turn: int, size: float, std: Tensor) -> None:
        """One step of Adam upwards, in normalised pixels, cut to [0, 1]."""
        self.first = torch.lerp(gradient, self.first, _FIRST)
        self.second = torch.lerp(gradient.square(), self.second, _SECOND)
        mean, spread = self.first / (1 - _FIRST ** (turn + 1)), (self.second / (1 - _SECOND ** (turn + 1))).sqrt()
        moved = (self.pixels + size * std * mean / (spread + _GUARD)).clamp(0.0, 1.0)
        self.pixels = torch.where(self.mask, moved, self.pixels)


def _chosen(search: Search, place: TokenGrid, patches: int, position: Position, layer: int) -> Tensor:
    """The tokens that are to be replaced, (N, P), counted row by row of the grid."""
    (height, width), count = search.model.size, place.rows * place.columns
    if patches > count:
        raise BadParameter(
            f"attack 'patch_fool': patches is {patches}; model '{search.model.card.label}' has {count} tokens for a picture."
        )
    if height % place.rows or width % place.columns:
        raise ModelError(
            f"model '{search.model.card.label}': its {place.rows}x{place.columns} tokens are no whole pixels of {height}x{width}."
        )
    if position == "random":
        return search.draws.at("position").permutation(count).to(search.images.device)[:, :patches]
    worth = _salient(search, place) if position == "saliency" else _attended(search, layer)
    return worth.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :patches]


def _attended(search: Search, layer: int) -> Tensor:
    """The attention that each token receives, (N, rows, columns)."""
    search.queries += 1
    return received_attention(search.model, search.images, layer)


def _salient(search: Search, place: TokenGrid) -> Tensor:
    """The sum of the absolute input gradient over each token's pixels, (N, rows, columns)."""
    rows, (height, width) = search.standing, search.model.size
    seen = search.climb(rows, search.images, lambda logits, rows: cross_entropy(logits, search.labels[rows]), candidates=False)
    steep = (seen.gradient * search.model.std).abs().sum(dim=1)  # type: ignore[operator]
    return steep.reshape(len(rows), place.rows, height // place.rows, place.columns, width // place.columns).sum(dim=(2, 4))


def _seen(search: Search, rows: Tensor, patch: _Patch, weight: float) -> Seen:
    """What the model says of the samples, with the gradient to follow, in normalised pixels."""
    parts, asked = [], 0
    for some in torch.split(torch.arange(len(rows), device=rows.device), search.model.tile):
        part, asked = _part(search, rows[some], patch[some], weight)
        parts.append(part)
    seen = Seen(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return search.note(rows, patch.pixels, seen, gradients=asked)


def _part(search: Search, rows: Tensor, patch: _Patch, weight: float) -> tuple[Seen, int]:
    """As `_seen`, of a tile or less, and how many gradients were asked for."""
    leaf = patch.pixels.detach().requires_grad_(True)
    with torch.enable_grad():
        said = forward_with_attention(search.model, leaf)
        losses = cross_entropy(said.logits, search.labels[rows])
        pulls = [_pull(layer, patch.tokens) for layer in said.maps[1 : len(said.maps) // 2]] if weight else []
    inside = patch.mask * search.model.std  # type: ignore[operator]
    total = error = slope(losses, leaf, again=bool(pulls)) * inside
    for i, pull in enumerate(pulls):
        total = total + weight * _agreeing(slope(pull, leaf, again=i + 1 < len(pulls)) * inside, error)
    return Seen(said.logits.detach(), losses.detach(), total), 1 + len(pulls)


def _pull(attention: Tensor, tokens: Tensor) -> Tensor:
    """(n,): the logarithm of the attention towards tokens (n, P), heads averaged, mean over queries and tokens. attention: (n, heads, T, T)."""
    towards = attention.mean(dim=1).gather(2, tokens[:, None, :].expand(-1, attention.shape[-1], -1))
    return towards.clamp_min(_LEAST).log().mean(dim=(1, 2))


def _agreeing(gradient: Tensor, leader: Tensor) -> Tensor:
    """Each sample's gradient without its part along the leader's, where it points against that (Yu et al. 2020)."""
    along = (gradient * leader).flatten(1).sum(dim=1) / leader.flatten(1).square().sum(dim=1).clamp_min(_TINY)
    return gradient - per_sample(along.clamp_max(0.0), gradient) * leader
