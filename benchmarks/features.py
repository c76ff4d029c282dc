"""Attacks on features beside bare loops of the same steps on the same module, in one process.

    python benchmarks/features.py [--images 64] [--steps 30] [--repeats 5] [--tiny]

A bare loop takes features with one forward hook and knows no tiles, draws or checks: the least code that does the attack. Seconds are of
CPU time, one thread; the figures are medians over `--repeats` turns, which alternate between both. `dta` is given its layer, so that
neither searches. The models are a ViT-Tiny of 224 px with random weights (16 images at most), which computes as trained ones do, and the
demo, whose features are of whole tiles of 64 images: with fewer it computes as many.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _models import Plain, model_of
from torch import Tensor
from torch.nn import functional

import robustvit as rv

EPS = 8 / 255


class _Reached(Exception):
    pass


def tokens_after(block: torch.nn.Module, model: Plain, images: Tensor) -> Tensor:
    """The patch tokens after a block; what follows it is not computed."""
    found = []

    def keep(_: Any, __: Any, output: Tensor) -> None:
        found.append(output[:, 1:])
        raise _Reached

    hook = block.register_forward_hook(keep)
    try:
        model(images)
    except _Reached:
        pass
    finally:
        hook.remove()
    return found[0]


def bare(model: Plain, layer: int, images: Tensor, steps: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Signed ascent on a function of features and clean ones, from a start at random in the ball."""
    block = model.inner.blocks[layer]  # type: ignore[index,union-attr]
    with torch.no_grad():
        clean = tokens_after(block, model, images)
    low, high = (images - EPS).clamp(0, 1), (images + EPS).clamp(0, 1)
    iterate = torch.rand_like(images).mul(2 * EPS).sub(EPS).add(images).clamp(0, 1)
    for _ in range(steps):
        iterate = iterate.detach().requires_grad_(True)
        value = loss(tokens_after(block, model, iterate), clean).sum()
        (gradient,) = torch.autograd.grad(value, iterate)
        iterate = torch.clamp(iterate + EPS / 10 * gradient.sign(), low, high)
    return iterate


def squared(found: Tensor, clean: Tensor) -> Tensor:
    """The objective of ssp."""
    return (found - clean).flatten(1).square().sum(dim=1)


def away(found: Tensor, clean: Tensor) -> Tensor:
    """The objective of dta."""
    return -functional.cosine_similarity(found.mean(dim=1), clean.mean(dim=1))


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(name: str, model: rv.Classifier, chosen: argparse.Namespace) -> None:
    """Prints a row for each attack."""
    ids = [str(index) for index in range(chosen.images)]
    images = rv.Draws(0, "benchmark", ids).uniform(3, *model.size)
    layer = len(model.model.blocks) // 2 - 1  # type: ignore[arg-type]
    plain, given = Plain(model), {"ssp": {"layer": layer}, "dta": {"layers": [[layer]]}}
    for attack, objective in (("ssp", squared), ("dta", away)):
        params = {"eps": EPS, "steps": chosen.steps, "step": EPS / 10, **given[attack]}
        ours = partial(rv.perturb, model, images, None, attack, ids=ids, **params)
        theirs = partial(bare, plain, layer, images, chosen.steps, objective)
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(chosen.repeats + 1)][1:]
        first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {attack} | {name} | {chosen.images} | {chosen.steps} | {first:.2f} | {second:.2f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="two steps of two images: seconds")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.images, chosen.steps, chosen.repeats = 2, 2, 1
    torch.set_num_threads(1)
    print("| attack | model | images | steps | ours, s | bare, s | ours / bare |\n|---|---|--:|--:|--:|--:|--:|")
    few = argparse.Namespace(**{**vars(chosen), "images": min(chosen.images, 16)})
    compare("vit_tiny_patch16_224", rv.load_model("vit_tiny_patch16_224?weights=random", tile=few.images), few)
    compare("demo", model_of("demo"), chosen)


if __name__ == "__main__":
    main()
