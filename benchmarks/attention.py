"""Attention maps beside and within the computation of the logits, beside the fused path that makes none.

    python benchmarks/attention.py [--arch vit_small_patch16_224] [--tile 16] [--repeats 5] [--device cpu] [--tiny]

A tile of random images through a transformer with random weights (which cost what trained ones do), three ways: the model as it is
called; `forward_with_attention`, whose maps are computed beside the logits; `attention_in_graph`, whose logits are computed from the maps.
forward: without gradients. backward: forward, and the gradient of the logits' sum with respect to the images, and in the graph to all maps
as well. Seconds are of CPU time, one thread (on a GPU, seconds); the three follow each other in every repeat, and medians and the
medians of ratios are printed. Logits that differ by more than 1e-4 of their size are told as DIFFERENT. `--tiny` takes a small transformer
once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

import robustvit as rv
from robustvit.primitives.inference.attention_maps import AttentionMaps, attention_in_graph, forward_with_attention

Way: TypeAlias = Callable[[Tensor], AttentionMaps]
TINY = "vit_tiny_patch16_224?kwargs=img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2&weights=random"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="vit_small_patch16_224")
    parser.add_argument("--tile", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="a small transformer, once: seconds")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = rv.load_model(TINY if chosen.tiny else f"{chosen.arch}?weights=random", device=chosen.device, tile=chosen.tile)
    images = torch.rand(chosen.tile, 3, *model.size, generator=torch.Generator().manual_seed(0)).to(model.device)
    compare(model, images, 1 if chosen.tiny else chosen.repeats)


def compare(model: rv.Classifier, images: Tensor, repeats: int) -> None:
    """Prints the seconds of the three ways, forward and backward, and their ratios to the fused path."""
    ways: dict[str, Way] = {
        "fused": lambda pixels: AttentionMaps(model(pixels), []),
        "beside": lambda pixels: forward_with_attention(model, pixels),
        "in graph": lambda pixels: next(attention_in_graph(model, pixels)),
    }
    with torch.no_grad():
        logits = [way(images).logits for way in ways.values()]
    apart = max(float((one - logits[0]).abs().max() / logits[0].abs().max()) for one in logits)
    print(f"{model.card.label}, a tile of {len(images)}: {'DIFFERENT' if apart > 1e-4 else 'equal'} logits ({apart:.1e} of their size)")
    print("\n| | " + " | ".join(f"{name}, s" for name in ways) + " | beside / fused | in graph / fused |\n|---|--:|--:|--:|--:|--:|")
    for name, work in (("forward", forward), ("backward", backward)):
        turns = [[timed(work, way, images) for way in ways.values()] for _ in range(repeats)]
        seconds = [statistics.median(turn[i] for turn in turns) for i in range(len(ways))]
        ratios = [statistics.median(turn[i] / turn[0] for turn in turns) for i in (1, 2)]
        print(f"| {name} | " + " | ".join(f"{number:.3f}" for number in seconds) + " | " + " | ".join(f"{r:.2f}" for r in ratios) + " |")


def forward(way: Way, images: Tensor) -> None:
    """Logits and maps without gradients."""
    with torch.no_grad():
        way(images)


def backward(way: Way, images: Tensor) -> None:
    """Logits, maps and gradients: with respect to the images, and to the maps where the logits are computed from them."""
    leaf = images.clone().requires_grad_()
    found = way(leaf)
    torch.autograd.grad(found.logits.sum(), [leaf, *found.maps], allow_unused=True)


def timed(work: Callable[[Way, Tensor], None], way: Way, images: Tensor) -> float:
    """CPU seconds; on a GPU, seconds."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    work(way, images)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


if __name__ == "__main__":
    main()
