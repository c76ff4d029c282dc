"""Which module of a model computes other numbers for a shifted image, found on images of noise."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

_SEED, _SHIFTS = 0, 4
_PIXELS, _MOST = 20_000, 8  # images are as many as have so many pixels together: few tokens may be dealt with alike by chance
_TOLERANCE = 1e-7  # relative, in float64, where rounding is below 1e-11


@torch.no_grad()
def module_that_breaks(module: nn.Module, channels: int, size: tuple[int, int]) -> str:
    """The name of the first module, inner ones first, whose numbers are others for circularly shifted images; "" where logits stay.

    Compared are sums of powers of what each module returns, which no roll and no order of windows changes. The model computes in float64,
    with random parameters in place of its own, among which positions that are zero until they are trained would go unseen. Named with its
    type, and with what it is padded, where it is. "the model" where only the logits differ.
    """
    copied = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(_SEED)
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            _draw(parameter, generator)
    images = torch.randn(_images(size), channels, *size, generator=generator, dtype=torch.float64)
    shifted = torch.stack([images.roll(shift, dims=(2, 3)) for shift in _shifts(size)], dim=1).flatten(0, 1)
    shifted = shifted.to(next(copied.parameters()).device)
    logits = copied(shifted)
    if _alike(logits):
        return ""
    found: list[str] = []  # which module, is looked for only where logits differ: it takes as long again
    for name, part in copied.named_modules():
        part.register_forward_hook(lambda made, _, output, name=name: _note(found, (name, len(shifted)), made, output))
    copied(shifted)
    return next((one for one in found if one), "the model")


def _images(size: tuple[int, int]) -> int:
    return max(1, min(_MOST, _PIXELS // (size[0] * size[1])))


def _shifts(size: tuple[int, int]) -> list[tuple[int, int]]:
    """By nothing, by a pixel, and far enough that patches come to other places."""
    height, width = size
    return [(0, 0), (1, 1), (height // 2, width // 3 + 1), (height // 4 + 3, width // 2)]


def _draw(parameter: Tensor, generator: torch.Generator) -> None:
    fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 0
    drawn = torch.randn(parameter.shape, generator=generator)  # in float32, in which many are drawn several times as fast
    parameter.copy_(drawn * fan**-0.5 if fan else 1 + 0.2 * drawn)


def _note(found: list[str], of: tuple[str, int], part: nn.Module, output: Any) -> None:
    name, rows = of
    tensor = output[0] if isinstance(output, tuple) else output
    if not found and isinstance(tensor, Tensor) and tensor.dim() and len(tensor) % rows == 0 and not _alike_sums(tensor, rows):
        found.append(f"'{name}' ({type(part).__name__}{_padding(part)})")


def _alike(logits: Tensor) -> bool:
    grouped = logits.unflatten(0, (-1, _SHIFTS))  # type: ignore[no-untyped-call]
    return bool((grouped - grouped[:, :1]).abs().max() <= _TOLERANCE * (1 + logits.abs().max()))


def _alike_sums(tensor: Tensor, rows: int) -> bool:
    """Whether the shifts of an image have the same sums of powers. rows: images times shifts."""
    grouped = tensor.reshape(rows // _SHIFTS, _SHIFTS, -1)
    for power in (1, 2, 3):
        sums = (grouped**power).sum(dim=2)
        size = (grouped[:, :1].abs() ** power).sum(dim=2)
        if bool(((sums - sums[:, :1]).abs() > _TOLERANCE * (1e-300 + size)).any()):
            return False
    return True


def _padding(part: nn.Module) -> str:
    padded = getattr(part, "padding", 0)
    if padded in (0, (0, 0)):
        return ""
    return f", padding {padded} with {getattr(part, 'padding_mode', 'zeros')}"
