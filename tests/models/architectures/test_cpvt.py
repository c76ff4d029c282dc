"""CPVT: its convolution, what it is without it, and sizes that it was not built for."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from robustvit.models.architectures.cpvt import cpvt

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "dim": 24, "heads": 2, "depth": 2, "num_classes": 5}


def made() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cpvt(**SMALL).eval()


def images(side: int = 32) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def moved(pixels: torch.Tensor) -> torch.Tensor:
    """The images with their patches in another order."""
    patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8).reshape(3, 3, 16, 8, 8)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    return patches[:, :, order].view(3, 3, 4, 4, 8, 8).permute(0, 1, 2, 4, 3, 5).reshape(pixels.shape)


def test_the_convolution_is_added_after_the_first_block() -> None:
    net, pixels = made(), images()
    stage = net.stages[0]
    tokens = stage.blocks[0](net.embed(pixels))
    by_hand = torch.zeros_like(tokens)
    padded = functional.pad(tokens, (0, 0, 1, 1, 1, 1))
    for down in range(3):
        for across in range(3):
            by_hand += padded[:, down : down + 4, across : across + 4] * stage.peg.weight[:, 0, down, across]
    tokens = stage.blocks[1](tokens + by_hand + stage.peg.bias)
    assert torch.allclose(net(pixels), net.head(net.norm(tokens).mean(dim=(1, 2))), atol=1e-5)


def test_without_its_weights_it_has_no_positions() -> None:
    net, pixels = made(), images()
    assert not torch.allclose(net(moved(pixels)), net(pixels), atol=1e-4)
    net.stages[0].peg.weight.data.zero_()
    net.stages[0].peg.bias.data.zero_()
    assert torch.allclose(net(moved(pixels)), net(pixels), atol=1e-5)


def test_it_takes_images_of_other_sizes() -> None:
    assert made()(images(64)).shape == (3, 5)
    assert not [name for name, _ in made().named_parameters() if "pos" in name]
