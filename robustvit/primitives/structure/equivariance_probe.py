"""Which module of a model computes other numbers for a shifted image, found on an image of noise."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

_SEED, _ROWS = 0, 4
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
    image = torch.randn(channels, *size, generator=generator, dtype=torch.float64)
    shifted = torch.stack([image.roll(shift, dims=(1, 2)) for shift in _shifts(size)]).to(next(copied.parameters()).device)
    found: list[str] = []
    for name, part in copied.named_modules():
        part.register_forward_hook(lambda made, _, output, name=name: _note(found, name, made, output))
    logits = copied(shifted)
    if _alike(logits):
        return ""
    return next((one for one in found if one), "the model")


def _shifts(size: tuple[int, int]) -> list[tuple[int, int]]:
    """By nothing, by a pixel, and far enough that patches come to other places."""
    height, width = size
    return [(0, 0), (1, 1), (height // 2, width // 3 + 1), (height // 4 + 3, width // 2)]


def _draw(parameter: Tensor, generator: torch.Generator) -> None:
    fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 0
    drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    parameter.copy_(drawn * fan**-0.5 if fan else 1 + 0.2 * drawn)


def _note(found: list[str], name: str, part: nn.Module, output: Any) -> None:
    tensor = output[0] if isinstance(output, tuple) else output
    if not found and isinstance(tensor, Tensor) and tensor.dim() and len(tensor) % _ROWS == 0 and not _alike_sums(tensor):
        found.append(f"'{name}' ({type(part).__name__}{_padding(part)})")


def _alike(logits: Tensor) -> bool:
    return bool((logits - logits[:1]).abs().max() <= _TOLERANCE * (1 + logits.abs().max()))


def _alike_sums(tensor: Tensor) -> bool:
    """Whether rows have the same sums of powers."""
    rows = tensor.reshape(_ROWS, -1)
    for power in (1, 2, 3):
        powers = rows**power
        if bool((powers.sum(dim=1) - powers[0].sum()).abs().max() > _TOLERANCE * (1e-300 + powers[0].abs().sum())):
            return False
    return True


def _padding(part: nn.Module) -> str:
    padded = getattr(part, "padding", 0)
    if padded in (0, (0, 0)):
        return ""
    return f", padding {padded} with {getattr(part, 'padding_mode', 'zeros')}"
