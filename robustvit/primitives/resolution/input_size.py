"""Networks for another input size: timm's own change of size, and learned position embeddings resampled to another grid."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.architectures.channel_embedding import ChannelEmbedding
from robustvit.primitives.architectures.pyramid import Pyramid
from robustvit.primitives.structure.anchored_models import Anchored, AnchoredTokens
from robustvit.primitives.structure.position_convolution import PositionedBlock
from robustvit.primitives.surgery.hosts import unwalked

Positions = Literal["bicubic", "bilinear", "nearest", "none"]
"""How a learned position embedding is taken to another grid: resampled, or left out (zero) for all patches."""

_BUILT = (AssertionError, AttributeError, RuntimeError, TypeError, ValueError)


def patch_side(module: nn.Module) -> int:
    """The side of a network's square patches in pixels, side by side; 1 where it has none, as of a convolutional network."""
    sized = _sized(module)
    embed: Any = getattr(sized, "patch_embed", None) or getattr(sized, "embed", None)
    found: Any = getattr(getattr(embed, "proj", None), "stride", None) or getattr(embed, "patch_size", None)
    found = found or getattr(embed, "side", None)
    return _pair(found or getattr(_embeddings(module), "patch_size", 1))[0]


def resize_input(module: nn.Module, side: int, patch: int | None, positions: Positions | None) -> nn.Module:
    """A network for square images of another side, in pixels, changed in place, and returned; no tensor is written to.

    patch: the side of its patches from now on, of which timm resamples the embedding so that tokens of smooth images stay (FlexiViT); None
    keeps it. positions: how a learned position embedding is taken to the new grid; None is bicubic for one, and whatever the architecture
    does with relative or rotary positions. Raises HostRefused where the network has none that `positions` could be about, where the side is
    no multiple of its patches, where an earlier transform put other layers in it than timm's, or where it is made for one size alone.
    """
    sized, side_of_patch = _sized(module), patch or patch_side(module)
    if side % side_of_patch:
        raise HostRefused(f"{side} px are no multiple of its patches of {side_of_patch} px.")
    learned = learned_positions_of_grid(sized)
    if positions is not None and learned is None:
        raise HostRefused(f"it has no learned position embedding of a grid that positions={positions} could resample; leave that out.")
    by_timm = hasattr(sized, "set_input_size")
    if by_timm:
        _resize_by_timm(sized, side, patch)
    elif patch is not None:
        raise HostRefused("its patches cannot be resized; timm's plain vision transformers have such as can.")
    if learned is not None and (positions not in (None, "bicubic") or not (by_timm and learned.name == "pos_embed")):
        _put(sized, learned, side // side_of_patch, positions or "bicubic")
    for part in module.modules():
        if isinstance(part, PositionedBlock):
            part.grid = (side // side_of_patch, side // side_of_patch)
    return module


def _resize_by_timm(sized: Any, side: int, patch: int | None) -> None:
    """timm's own change of size. Raises HostRefused where it knows none for the layers that there are."""
    anchored = next((part for part in sized.modules() if isinstance(part, (Anchored, AnchoredTokens))), None)
    proj = getattr(getattr(sized, "patch_embed", None), "proj", None)
    if anchored is not None or (patch is not None and type(proj) is not nn.Conv2d):
        named = with_article(type(proj if anchored is None else anchored).__name__)
        raise HostRefused(f"an earlier transform put {named} in it, which is made for one size; name image_size before that.")
    try:
        sized.set_input_size(img_size=(side, side), **({} if patch is None else {"patch_size": (patch, patch)}))
    except _BUILT as error:
        raise HostRefused(f"timm does not make it for images of {side} px: {error}") from error


def resampled_positions(embedding: Tensor, old: tuple[int, int], new: tuple[int, int], positions: Positions) -> Tensor:
    """The position embedding (1, prefix + h·w, D) of a grid (h, w) for another grid; what belongs to no patch stays.

    bicubic and bilinear are antialiased, as timm's; nearest takes the cell in which the centre of the new one lies.
    """
    count = embedding.shape[1] - old[0] * old[1]
    prefix, patches = embedding[:, :count], embedding[:, count:]
    if positions == "none":
        grid = patches.new_zeros(1, new[0] * new[1], patches.shape[2])
    elif old == new:
        return embedding
    else:
        image = patches.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
        smooth: dict[str, Any] = {"mode": positions, "antialias": True, "align_corners": False}
        kind = {"mode": "nearest-exact"} if positions == "nearest" else smooth
        grid = nn.functional.interpolate(image, new, **kind).permute(0, 2, 3, 1).flatten(1, 2).to(patches.dtype)
    return torch.cat((prefix, grid), dim=1)


class GridPositions:
    """A learned position embedding: the tensor, its grid, and where it stands."""

    def __init__(self, owner: nn.Module, name: str, grid: tuple[int, int]) -> None:
        self.owner, self.name, self.grid = owner, name, grid
        self.value: Tensor = getattr(owner, name)

    @property
    def sound(self) -> bool:
        """Whether its length is that of the grid and a few tokens of no patch."""
        tokens = self.value.shape[1:-1].numel()
        return self.value.dim() in (3, 4) and 0 <= tokens - self.grid[0] * self.grid[1] <= 64


def learned_positions_of_grid(module: nn.Module) -> GridPositions | None:
    """That of patches; None where there is none, or one that is of no grid. Raises HostRefused for one in each of several stages."""
    embed: Any = getattr(module, "patch_embed", None)
    patches, owner = _embeddings(module), _owner_of_embeddings(module)
    if isinstance(getattr(module, "pos_embed", None), nn.Parameter) and hasattr(embed, "grid_size"):
        found = GridPositions(module, "pos_embed", _pair(embed.grid_size))
    elif isinstance(embed, ChannelEmbedding):
        found = GridPositions(embed, "position", embed.grid)
    elif isinstance(module, Pyramid):
        return _of_stages([stage for stage in module.stages if isinstance(stage.position, nn.Parameter)])
    elif owner is not None and isinstance(getattr(owner, "position_embeddings", None), nn.Parameter):
        high, wide = (length // side for length, side in zip(_pair(patches.image_size), _pair(patches.patch_size), strict=True))
        found = GridPositions(owner, "position_embeddings", (high, wide))
    else:
        return None
    return found if found.sound else None


def _of_stages(stages: list[Any]) -> GridPositions | None:
    if len(stages) > 1:
        raise HostRefused("each of its stages has learned positions of its own, for images of one size.")
    return GridPositions(stages[0], "position", tuple(stages[0].position.shape[1:3])) if stages else None


def _put(module: nn.Module, learned: GridPositions, cells: int, positions: Positions) -> None:
    value = learned.value.detach()
    made = resampled_positions(value.flatten(1, -2), learned.grid, (cells, cells), positions)
    made = made.view(1, cells, cells, -1) if value.dim() == 4 else made
    setattr(learned.owner, learned.name, nn.Parameter(made, requires_grad=learned.value.requires_grad))
    patches = _embeddings(module)
    if patches is not None and learned.name == "position_embeddings":
        side = cells * _pair(patches.patch_size)[0]
        patches.image_size, patches.num_patches = (side, side), cells**2
        if hasattr(learned.owner, "image_size"):
            learned.owner.image_size = (side, side)  # type: ignore[assignment]


def _sized(module: nn.Module) -> Any:
    return unwalked(module, "image_size")


def _owner_of_embeddings(module: nn.Module) -> Any:
    """The module of a Hugging Face model that has patches and positions, of which there is one."""
    found = [part for part in module.modules() if hasattr(getattr(part, "patch_embeddings", None), "image_size")]
    return found[0] if len(found) == 1 else None


def _embeddings(module: nn.Module) -> Any:
    return getattr(_owner_of_embeddings(module), "patch_embeddings", None)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
