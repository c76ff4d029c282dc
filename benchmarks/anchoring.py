"""What anchoring costs beside a forward pass.

    python benchmarks/anchoring.py [--images 16] [--repeats 15] [--tiny]

CPU time of one thread. host: the forward pass of a model with random weights, which computes as trained ones do. anchor: of the anchors
of its anchored copy alone, in the same images, of whole levels and of pixels that are not; its position convolution, which takes the place
of an addition, is left out, and beside it in the last column: the whole anchored model's pass over the host's. Medians over turns, which
alternate between all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import robustvit as rv
from robustvit.primitives.structure.anchoring import FeatureAnchor, ImageAnchor
from robustvit.transforms.geometry.anchor import anchor

MODELS = ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "twins_svt_small", "swin_tiny_patch4_window7_224")


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_anchors(model: rv.Classifier, images: Tensor) -> float:
    """CPU seconds that a forward pass spends in anchors."""
    spent: list[float] = []
    began: list[float] = []
    hooks = []
    for part in model.modules():
        if isinstance(part, (ImageAnchor, FeatureAnchor)):
            hooks.append(part.register_forward_pre_hook(lambda *_: began.append(time.process_time())))
            hooks.append(part.register_forward_hook(lambda *_: spent.append(time.process_time() - began.pop())))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(spent)


@torch.no_grad()
def compare(name: str, chosen: argparse.Namespace) -> None:
    """Prints a row."""
    host = rv.load_model(f"{name}?weights=random", tile=chosen.images)
    model = anchor(host)
    fine = rv.Draws(0, "benchmark", [str(index) for index in range(chosen.images)]).uniform(3, *host.size)
    whole = (255 * fine).round() / 255
    turns = [
        (seconds(lambda: host(whole)), in_anchors(model, whole), in_anchors(model, fine), seconds(lambda: model(whole)))
        for _ in range(chosen.repeats + 1)
    ][1:]
    plain, levels, pixels, all_of_it = (statistics.median(side) / chosen.images * 1e3 for side in zip(*turns, strict=True))
    share = [statistics.median(turn[place] / turn[0] for turn in turns) for place in (1, 2, 3)]
    print(
        f"| {name} | {plain:.2f} | {levels:.2f} | **{share[0]:.1%}** | {pixels:.2f} | {share[1]:.1%} | {all_of_it:.2f} | {share[2]:.3f} |",
        flush=True,
    )


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tiny", action="store_true", help="two images through the first model: seconds")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.images, chosen.repeats, chosen.models = 2, 1, list(MODELS[:1])
    torch.set_num_threads(1)
    print("| model | host, ms | anchors, ms | share | not whole levels, ms | share | anchored model, ms | over the host |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in chosen.models:
        compare(name, chosen)


if __name__ == "__main__":
    main()
