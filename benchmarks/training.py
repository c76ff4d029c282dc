"""The training loop beside a bare PyTorch loop on the same model and batches, and every defense beside the plain loop.

    python benchmarks/training.py [--steps 40] [--repeats 5] [--tiny]

One process, one thread; the median over repeats of samples per second. bare: zero_grad, forward, cross-entropy, backward, clipping, AdamW,
on batches that are in memory. ours: `rv.train` on the same data, which loads, preprocesses and keys each batch. For each defense the time
of a step relative to the plain one, beside its cost in passes, a backward pass counted as two forward ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from torch import nn
from torch.nn import functional

import robustvit as rv
from robustvit.data.formats.arrays import array_dataset
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.training.batches import load_batch
from robustvit.training.recipe import Recipe

MEAN = STD = (0.5, 0.5, 0.5)
PASSES = {  # forward passes of a step, a backward pass counted as two; plain is 3
    "plain(smoothing=0)": 3, "gaussian(sigma=0.25)": 3, "pgd_at(eps=8/255, steps=3)": 3 * 3 + 3,
    "trades(eps=8/255, steps=3)": 1 + 3 * 3 + 6, "mart(eps=8/255, steps=3)": 3 * 3 + 6, "sam": 6, "awp": 6,
    "tap": 3, "adl": 6, "layershuffle": 3, "channel_sampling": 3, "ewa": 3,
}  # fmt: skip


def model(tiny: bool) -> nn.Module:
    """A small vision transformer on 32 px."""
    torch.manual_seed(0)
    sizes = {"embed_dim": 24, "depth": 2, "num_heads": 2} if tiny else {"embed_dim": 192, "depth": 6, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10, **sizes)


def noise(count: int) -> rv.Data:
    """So many images of noise."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, count)
    return array_dataset("noise", images, labels, ids=[f"noise/{i}" for i in range(count)], classes=[str(i) for i in range(10)])


def bare(tiny: bool, data: rv.Data, view: rv.View, recipe: Recipe, steps: int) -> float:
    """Seconds of so many steps of a loop without anything else."""
    read = OnPixels(model(tiny), MEAN, STD).train()
    optimizer = torch.optim.AdamW(read.parameters(), lr=1e-3)
    batches = [
        load_batch(data, range(at, at + recipe.batch_size), view, "cpu") for at in range(0, steps * recipe.batch_size, recipe.batch_size)
    ]
    began = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        functional.cross_entropy(read(batch.images), batch.labels).backward()
        nn.utils.clip_grad_norm_(read.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - began


def ours(tiny: bool, data: rv.Data, view: rv.View, recipe: Recipe, defense: str) -> float:
    """Seconds of an epoch of the loop."""
    name, _, arguments = defense.partition("(")
    pairs = (pair.split("=") for pair in arguments.rstrip(")").split(", ") if pair)
    made = rv.load_defense(name, **dict(pairs))
    return rv.train(model(tiny), data, view=view, mean=MEAN, std=STD, defense=made, recipe=recipe).seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a small transformer, few steps: seconds")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    steps, repeats = (2, 1) if chosen.tiny else (chosen.steps, chosen.repeats)
    recipe = Recipe(epochs=1, batch_size=8 if chosen.tiny else 32, rotation=0.0, scale=0.0, shift=0.0)
    data = noise(steps * recipe.batch_size)
    view = rv.View(size=(32, 32), resize=32)
    runs: dict[str, Callable[[], float]] = {"bare": lambda: bare(chosen.tiny, data, view, recipe, steps)}
    runs |= {text: lambda text=text: ours(chosen.tiny, data, view, recipe, text) for text in PASSES}
    for run in () if chosen.tiny else runs.values():
        run()  # what is imported, compiled and allocated once
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    plain = medians["plain(smoothing=0)"]
    print(f"{steps} steps of {recipe.batch_size}, {repeats} repeats\n\n| loop | samples/s | relative to plain | passes relative to plain |")
    print("|---|--:|--:|--:|")
    for name, found in medians.items():
        passes = f"{PASSES[name] / 3:.2f}" if name in PASSES else ""
        print(f"| {name} | {steps * recipe.batch_size / found:.0f} | {found / plain:.2f} | {passes} |")
    print(f"\nthroughput of the plain loop: {medians['bare'] / plain:.3f} of the bare one")


if __name__ == "__main__":
    main()
