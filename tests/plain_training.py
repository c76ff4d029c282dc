"""Training with a defense written out by hand, as docs/training.md says, on a tiny ViT: what hooks in other loops must equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import robustvit as rv
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Closure, Defense, compose

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N, CLASSES = 6, 4
DEFENSES: dict[str, Callable[[], Defense]] = {
    "pgd_at": lambda: rv.load_defense("pgd_at", eps="8/255", steps=2),
    "trades": lambda: rv.load_defense("trades", eps="8/255", steps=2, beta=6.0),
    "gaussian": lambda: rv.load_defense("gaussian", sigma=0.1),
    "ablations": lambda: rv.load_defense("ablations", width=5),
    "sam": lambda: rv.load_defense("sam", rho=0.1),
    "free_at": lambda: rv.load_defense("free_at", eps="8/255", replays=2),
    "mixup+sam": lambda: compose([rv.load_defense("mixup", classes=CLASSES), rv.load_defense("sam", rho=0.1)]),
    "trades+awp": lambda: compose([rv.load_defense("trades", eps="8/255", steps=2), rv.load_defense("awp", gamma=0.05)]),
}


def step_from_half_the_weights(closure: Closure, optimizer: torch.optim.Optimizer) -> Tensor:
    """A step of a defense that moves the weights before it asks for a gradient."""
    weights = [one for group in optimizer.param_groups for one in group["params"]]
    with torch.no_grad():
        for one in weights:
            one.mul_(0.5)
    loss = closure()
    with torch.no_grad():
        for one in weights:
            one.mul_(2.0)
    optimizer.step()
    return loss


DEFENSES["moves first"] = lambda: Defense("moves_first", step=step_from_half_the_weights)


def vit() -> nn.Module:
    torch.manual_seed(3)
    return VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=CLASSES)


def samples(step: int = 0) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Pixels in [0, 1] of 8 bits, labels and ids of a step."""
    generator = torch.Generator().manual_seed(step)
    ids = tuple(f"train/{step * N + row}" for row in range(N))
    levels = torch.randint(256, (N, 3, 16, 16), generator=generator)
    return levels / 255, torch.randint(CLASSES, (N,), generator=generator), ids


def normalised(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def plain_loop(model: nn.Module, defense: Defense, steps: int, seed: int = 7, clip: float | None = None) -> list[float]:
    """Every part of a defense, called as docs/training.md says, by hand."""
    read, optimizer, losses = rv.OnPixels(model, MEAN, STD), sgd(model), []
    for step in range(steps):
        pixels, labels, ids = samples(step)
        draws = rv.Draws.for_step(seed, step, ids)
        batch = defense.craft_for(read, defense.batch(Batch(pixels, labels, ids), draws.at("batch")), draws)

        found: list[float] = []

        def closure(batch: Batch = batch, draws: rv.Draws = draws, found: list[float] = found) -> Tensor:
            optimizer.zero_grad()
            loss = defense.objective(read, batch, draws)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            found.append(float(loss.detach()))
            return loss.detach()

        defense.step(closure, optimizer)
        losses.append(found[0])
        defense.after_step(model)
    return losses


def distance(one: nn.Module, other: nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))
