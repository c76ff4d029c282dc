"""Patch-Fool: whole tokens are replaced by patches that draw attention and fool the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from robustvit.attacks.losses import log_odds, untargeted
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.attack_search import Crafted, Evaluation, Search, input_gradient
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import forward_with_attention, probe_token_grid, received_attention
from robustvit.primitives.inference.token_grid import TokenGrid
from robustvit.primitives.limits import Count
from robustvit.primitives.norms import per_sample, unit
from robustvit.spec.registry import attack

Position = Literal["attention", "saliency", "random"]

_CITATION = """@inproceedings{fu2022patchfool,
  title={Patch-Fool: Are Vision Transformers Always Robust Against Adversarial Perturbations?},
  author={Fu, Yonggan and Zhang, Shunyao and Wu, Shang and Wan, Cheng and Lin, Yingyan},
  booktitle={International Conference on Learning Representations},
  year={2022}
}"""
_DECAY, _EVERY = 0.95, 10  # factor on the step size, every so many steps
_FIRST, _SECOND, _GUARD = 0.9, 0.999, 1e-8  # Adam's default constants
_LEAST = 1e-12  # clips attention before the logarithm; far below 1/T for any T tokens


@attack(
    severity="patches", budget="number of patches",
    family="patch", source="Fu et al. 2022", url="https://arxiv.org/abs/2203.08392", citation=_CITATION,
    rules="Patches are whole tokens of the model and replaced: no pixel outside them changes, those inside may take any value in [0, 1]. "
    "A sample counts as misclassified at whichever step it was.",
    passes=("steps",), version=2,
)  # fmt: skip
def patch_fool(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, patches: Count = 1, position: Position = "attention", layer: Annotated[int, Ge(0)] = 4, steps: Count = 250,
    step: Annotated[float, Gt(0)] = 0.22, weight: Annotated[float, Ge(0)] = 0.002,
) -> Crafted:  # fmt: skip
    """Patch-Fool (Fu et al. 2022): Adam on the cross-entropy and on the attention that the patches receive, from random pixels.

    patches: how many tokens of the model are replaced. position: the tokens that receive most attention at block `layer` (counted from 0;
    in models with fewer blocks the last but one), those with the largest summed input gradients (saliency), or random ones. step: Adam's
    step size, in normalised pixels, multiplied by 0.95 every 10 steps. weight: of the attention loss, the logarithm of the attention
    towards the patches, averaged over queries and heads and summed over blocks 1 … L/2 − 1, as in the authors' code. Where the gradient of
    a block's attention loss conflicts with that of the cross-entropy, its component along that is removed (PCGrad). A model with fewer than
    four blocks has no attention loss. Raises ModelError for a model whose attention maps cannot be captured.

    Differs from the paper: the cross-entropy is followed by the gradient of the log odds, which does not vanish where the model is sure,
    so that the attention loss does not take over there; a sample stops once it is misclassified, where the authors evaluate the last step
    alone; conflicts are projected by PCGrad's formula, where their code divides by a norm in place of its square; and the attention of all
    patches counts, where their code takes the first.
    """
    search, place = Search(model, images, labels, draws), probe_token_grid(model)
    tokens = _selected_tokens(search, place, patches, position, layer)
    rows, patch = search.active, _Patch.initial(images, tokens, place, draws)
    for turn in range(steps):
        gradient = _evaluate(search, rows, patch, weight).gradient
        active = search.is_active(rows)
        rows, patch = rows[active], patch[active]
        if not len(rows):
            break
        patch.ascend(gradient[active], turn, step * _DECAY ** (turn // _EVERY), model.std.to(images))  # type: ignore[arg-type]
    if len(rows):
        search.query(rows, patch.pixels)
        search.keep_best(rows, patch.pixels)
    return search.outcome()


@dataclass
class _Patch:
    """The patches of n samples. tokens: (n, P) indices in the sequence; mask: (n, 1, H, W) bool; first, second: Adam's moments."""

    pixels: Tensor
    mask: Tensor
    tokens: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def initial(cls, images: Tensor, tokens: Tensor, place: TokenGrid, draws: Draws) -> _Patch:
        """Patches of uniformly random pixels in place of the tokens. tokens: (N, P), counted row by row of the grid."""
        covered = torch.zeros(len(images), place.rows * place.columns, dtype=torch.bool, device=images.device).scatter_(1, tokens, True)
        height, width = (side // count for side, count in zip(images.shape[2:], (place.rows, place.columns), strict=True))
        mask = covered.view(-1, 1, place.rows, place.columns).repeat_interleave(height, 2).repeat_interleave(width, 3)
        noise = draws.at("start").uniform(*images.shape[1:]).to(images)
        zero = torch.zeros_like(images)
        return cls(torch.where(mask, noise, images), mask, tokens + place.prefix, zero, zero.clone())

    def __getitem__(self, keep: Tensor) -> _Patch:
        return _Patch(self.pixels[keep], self.mask[keep], self.tokens[keep], self.first[keep], self.second[keep])

    def ascend(self, gradient: Tensor, turn: int, size: float, std: Tensor) -> None:
        """One ascent step of Adam, in normalised pixels, clipped to [0, 1]."""
        self.first = torch.lerp(gradient, self.first, _FIRST)
        self.second = torch.lerp(gradient.square(), self.second, _SECOND)
        mean, spread = self.first / (1 - _FIRST ** (turn + 1)), (self.second / (1 - _SECOND ** (turn + 1))).sqrt()
        moved = (self.pixels + size * std * mean / (spread + _GUARD)).clamp(0.0, 1.0)
        self.pixels = torch.where(self.mask, moved, self.pixels)


def _selected_tokens(search: Search, place: TokenGrid, patches: int, position: Position, layer: int) -> Tensor:
    """The tokens to replace, (N, P), counted row by row of the grid."""
    (height, width), count = search.model.size, place.rows * place.columns
    if patches > count:
        raise BadParameter(f"attack 'patch_fool': patches is {patches}; model '{search.model.card.label}' has {count} tokens for an image.")
    if height % place.rows or width % place.columns:
        raise ModelError(
            f"model '{search.model.card.label}': its {place.rows}x{place.columns} tokens do not divide {height}x{width} pixels evenly."
        )
    if position == "random":
        return search.draws.at("position").permutation(count).to(search.images.device)[:, :patches]
    score = _saliency(search, place) if position == "saliency" else _attention_received(search, layer)
    return score.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :patches]


def _attention_received(search: Search, layer: int) -> Tensor:
    """The attention that each token receives, (N, rows, columns)."""
    search.queries += 1
    return received_attention(search.model_of(torch.arange(len(search.images))), search.images, layer)


def _saliency(search: Search, place: TokenGrid) -> Tensor:
    """The sum of the absolute input gradient over each token's pixels, (N, rows, columns)."""
    rows, (height, width) = search.active, search.model.size
    gradient = search.query_gradient(rows, search.images, untargeted(log_odds, search.labels), candidates=False).gradient
    saliency = (gradient * search.model.std.to(gradient)).abs().sum(dim=1)  # type: ignore[operator]
    return saliency.reshape(len(rows), place.rows, height // place.rows, place.columns, width // place.columns).sum(dim=(2, 4))


def _evaluate(search: Search, rows: Tensor, patch: _Patch, weight: float) -> Evaluation:
    """The evaluation of the patches, with the combined gradient of both losses, in normalised pixels."""
    parts, gradients = [], 0
    for some in torch.split(torch.arange(len(rows), device=rows.device), search.model.tile):
        part, gradients = _evaluate_tile(search, rows[some], patch[some], weight)
        parts.append(part)
    evaluation = Evaluation(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return search.record_gradient(rows, patch.pixels, evaluation, gradients=gradients)


def _evaluate_tile(search: Search, rows: Tensor, patch: _Patch, weight: float) -> tuple[Evaluation, int]:
    """As `_evaluate`, of a tile or less, and the number of gradients computed."""
    leaf = patch.pixels.detach().requires_grad_(True)
    with torch.enable_grad():
        output = forward_with_attention(search.model_of(rows), leaf)
        losses = log_odds(output.logits, search.labels[rows])
        pulls = [_attention_loss(layer, patch.tokens) for layer in output.maps[1 : len(output.maps) // 2]] if weight else []
    inside = patch.mask * search.model.std.to(leaf)  # type: ignore[operator]
    total = error = input_gradient(losses, leaf, retain_graph=bool(pulls)) * inside
    for i, pull in enumerate(pulls):
        total = total + weight * _without_conflict(input_gradient(pull, leaf, retain_graph=i + 1 < len(pulls)) * inside, error)
    return Evaluation(output.logits.detach(), losses.detach(), total), 1 + len(pulls)


def _attention_loss(attention: Tensor, tokens: Tensor) -> Tensor:
    """The log attention towards tokens (n, P), heads averaged, mean over queries and tokens, (n,). attention: (n, heads, T, T)."""
    towards = attention.mean(dim=1).gather(2, tokens[:, None, :].expand(-1, attention.shape[-1], -1))
    return towards.clamp_min(_LEAST).log().mean(dim=(1, 2))


def _without_conflict(gradient: Tensor, leader: Tensor) -> Tensor:
    """Each sample's gradient without its component along `leader` where the two conflict (PCGrad, Yu et al. 2020)."""
    axis = unit(leader)
    along = (gradient * axis).flatten(1).sum(dim=1)
    return gradient - per_sample(along.clamp_max(0.0), gradient) * axis
