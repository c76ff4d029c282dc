"""Directed attention against a reference that goes through pairs of patches by their angles, and its memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import robustvit as rv
from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.resolution import directed_attention as ours

UP, DOWN, LEFT, RIGHT = 90.0, 270.0, 180.0, 0.0
CENTRES = {
    "180": [(UP, 90), (DOWN, 90), (LEFT, 90), (RIGHT, 90)],
    "90": [(UP, 45), (DOWN, 45), (LEFT, 45), (RIGHT, 45)],
    "45": [
        (112.5, 22.5), (247.5, 22.5), (157.5, 22.5), (22.5, 22.5), (67.5, 22.5), (292.5, 22.5), (202.5, 22.5), (337.5, 22.5),
    ],
}  # fmt: skip
"""For each field the middle of every head's view, counter-clockwise from the right, and half its angle, in degrees."""


def slopes(heads: int) -> list[float]:
    """Of 12 heads as the paper gives them: eight with directions, 1/2 and 1/4, four without, 1/4, 1/16, 1/64, 1/256."""
    return {12: [0.5] * 4 + [0.25] * 4 + [0.25, 0.0625, 0.015625, 0.00390625], 6: [0.5] * 4 + [0.25, 0.0625], 3: [0.5] * 2 + [0.25]}[heads]


def reference(field: str, heads: int, grid: tuple[int, int], prefix: int, scale: float) -> np.ndarray:
    """(heads, T, T), pair by pair."""
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    found = np.zeros((heads, prefix + len(places), prefix + len(places)))
    directed = round(heads * 2 / 3)
    for head in range(heads):
        for i, (row, column) in enumerate(places):
            for j, (other_row, other_column) in enumerate(places):
                up, right = row - other_row, other_column - column
                value = -scale * slopes(heads)[head] * math.hypot(up, right)
                if head < directed and (up or right):
                    middle, half = CENTRES[field][head % len(CENTRES[field])]
                    apart = (math.degrees(math.atan2(up, right)) - middle + 180) % 360 - 180
                    value = value if abs(apart) <= half + 1e-9 else -math.inf
                found[head, prefix + i, prefix + j] = value
    return found


@pytest.mark.parametrize("field", ["180", "90", "45"])
@pytest.mark.parametrize(("heads", "grid", "prefix"), [(12, (4, 4), 1), (6, (3, 5), 2), (3, (5, 3), 0)])
def test_biases_are_those_of_the_angles(field: Any, heads: int, grid: tuple[int, int], prefix: int) -> None:
    wanted = reference(field, heads, grid, prefix, 0.7)
    found = [ours.head_bias(head, grid, prefix, 0.7, torch.zeros((), dtype=torch.float64)) for head in ours.directed_heads(field, heads)]
    assert np.allclose(torch.stack(found).numpy(), wanted, atol=1e-12)


def host(**more: Any) -> rv.Classifier:
    return vits.made(lambda: vits.vit(embed_dim=36, num_heads=3, **more), 2.0)


def test_each_layer_has_its_scale_and_positions_are_gone() -> None:
    made = rv.transformed(host(depth=4), "lookhere", field="90", first=2, last=0.5)
    assert [block.attn.slope_of_layer for block in made.model.blocks] == [2.0, 1.5, 1.0, 0.5]
    assert made.model.pos_embed is None
    assert [name for name, _ in made.model.named_parameters() if "pos_embed" in name] == []


def explicit(attention: Any, tokens: Tensor) -> Tensor:
    count, length, width = tokens.shape
    q, k, v = attention.qkv(tokens).reshape(count, length, 3, 3, 12).permute(2, 0, 3, 1, 4)
    bias = torch.from_numpy(reference("45", 3, (4, 4), 1, attention.slope_of_layer)).to(tokens)
    weights = (q @ k.mT / math.sqrt(12) + bias).softmax(dim=-1)
    return attention.proj((weights @ v).transpose(1, 2).reshape(count, length, width))


@pytest.mark.parametrize("at_once", [1 << 23, 1])
def test_attention_is_the_softmax_of_biased_scores_and_its_gradients(at_once: int, monkeypatch) -> None:
    """All heads at once, and one after another."""
    monkeypatch.setattr(ours, "_AT_ONCE", at_once)
    attention = rv.transformed(host(), "lookhere", field="45").double().model.blocks[1].attn
    tokens = torch.randn(2, 17, 36, dtype=torch.float64, requires_grad=True)
    wanted, found = explicit(attention, tokens), attention(tokens)
    assert torch.allclose(found, wanted, atol=1e-9)
    weights = torch.randn_like(wanted)
    first, second = (torch.autograd.grad((made * weights).sum(), tokens)[0] for made in (found, wanted))
    assert torch.allclose(first, second, atol=1e-9)


def test_another_grid_is_square_and_extrapolates() -> None:
    made = rv.transformed(rv.transformed(host(), "lookhere"), "image_size", size=48)
    assert made(torch.rand(2, 3, 48, 48)).shape == (2, 5)
    with pytest.raises(ModelError, match="15 patches are no square"):
        made.model.blocks[0].attn(torch.randn(1, 16, 36))


class _Largest(TorchDispatchMode):
    """The largest tensor that is made, in entries."""

    largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.device.type == "cpu":
            self.largest = max(self.largest, made.numel())
        return made


def test_no_tensor_is_larger_than_the_map_of_one_head(monkeypatch) -> None:
    monkeypatch.setattr(ours, "_AT_ONCE", 1000)
    made = rv.transformed(rv.transformed(host(patch_size=4), "lookhere"), "image_size", size=96).configure(tile=1)
    with _Largest() as seen, torch.no_grad():
        made(torch.rand(1, 3, 96, 96))
    assert seen.largest == (24 * 24 + 1) ** 2
    assert not [name for name, value in made.model.named_buffers() if value.numel() > 1000]


def test_a_checkpoint_is_rebuilt_with_its_directions(tmp_path: Path) -> None:
    made = rv.load_model("demo+lookhere(field=90,first=1)+image_size(size=48)")
    rv.save_checkpoint(made, tmp_path / "a.safetensors")
    images = torch.rand(2, 3, 48, 48)
    assert torch.equal(rv.load_model(f"file:{tmp_path / 'a.safetensors'}")(images), made(images))


def test_attention_of_another_kind_is_refused() -> None:
    with pytest.raises(HostRefused, match=r"'lookhere' does not take 'demo.*: its attention is a ReLUAttention"):
        rv.load_model("demo+attention_form(form=relu)+lookhere")
