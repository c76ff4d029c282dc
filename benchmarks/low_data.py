"""Accuracy of a small vision transformer trained on few digits, with and without defenses that change its structure.

    python benchmarks/low_data.py [--defense NAME …] [--images 100 300 1297] [--seeds 3] [--steps 400] [--tiny]

For each number of training images and each seed one model without a defense and one with each, from the same initial weights, on the same
images in the same order, for as many steps. Digits are grey, and
augmented as `robustvit train` does. Accuracy is that of the 500 held-out ones; of a difference the 95 % t-interval of the pairs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import timm
import torch
from scipy.stats import t as student
from torch import nn

import robustvit as rv
from robustvit.data.formats.arrays import array_dataset
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.spec.sample_order import order
from robustvit.training.defending import bound_defenses, composed
from robustvit.training.epochs import load_batch
from robustvit.training.recipe import Recipe

MEAN = STD = (0.5, 0.5, 0.5)
VIEW = rv.View(size=(32, 32), resize=32)
BATCH = 32


def model(tiny: bool, seed: int) -> nn.Module:
    """A vision transformer of nine heads on 32 px, whose head reads the mean of its tokens."""
    torch.manual_seed(seed)
    sizes = {"embed_dim": 36, "depth": 1, "patch_size": 8} if tiny else {"embed_dim": 72, "depth": 2, "patch_size": 4}
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=10, num_heads=9, class_token=False, global_pool="avg", **sizes
    )


def first(data: rv.Data, count: int) -> rv.Data:
    """So many images of a data set, the first in the order in which runs take samples."""
    chosen = np.sort(order(list(data.ids))[:count])
    images = np.stack([np.asarray(data[int(place)].image) for place in chosen])
    return array_dataset(data.name, images, np.asarray(data.labels)[chosen], ids=[data.ids[i] for i in chosen], classes=list(data.classes))


def trained(data: rv.Data, defense: str, seed: int, steps: int, tiny: bool) -> nn.Module:
    """A model after so many steps, rounded up to whole epochs."""
    epochs = -(-steps // max(1, -(-len(data) // BATCH)))
    made = composed(bound_defenses([defense or "plain(smoothing=0)"]), data, "cpu")
    return rv.train(
        model(tiny, seed), data, view=VIEW, mean=MEAN, std=STD, defense=made, recipe=Recipe(epochs=epochs, batch_size=BATCH), seed=seed
    ).model


@torch.no_grad()
def accuracy(module: nn.Module, data: rv.Data) -> float:
    """In percent."""
    batch = load_batch(data, range(len(data)), VIEW, "cpu")
    found = OnPixels(module, MEAN, STD).eval()(batch.images).argmax(dim=1)
    return 100 * float((found == batch.labels).float().mean())


def interval(differences: list[float]) -> str:
    """Their mean and the half-width of its 95 % t-interval."""
    half = student.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / len(differences) ** 0.5
    return f"{np.mean(differences):+.1f} ± {half:.1f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--defense", nargs="+", default=["convolutional_start"])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 300, 1297])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--tiny", action="store_true", help="a small transformer, few steps: seconds")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sizes, seeds, steps = ([64], 2, 2) if chosen.tiny else (chosen.images, chosen.seeds, chosen.steps)
    whole, held_out = rv.load_data("digits?split=train&ink=grey"), rv.load_data("digits?ink=grey")
    print("| images | defense | without → with | difference | s |\n|--:|---|---|--:|--:|")
    for count in sizes:
        data = first(whole, count)
        found: dict[str, list[float]] = {}
        for defense in ("", *chosen.defense):
            began = time.process_time()
            found[defense] = [accuracy(trained(data, defense, seed, steps, chosen.tiny), held_out) for seed in range(seeds)]
            seconds = (time.process_time() - began) / seeds
            if defense:
                before, after = (", ".join(f"{one:.1f}" for one in found[name]) for name in ("", defense))
                apart = [b - a for a, b in zip(found[""], found[defense], strict=True)]
                print(f"| {count} | `{defense}` | {before} → {after} | {interval(apart)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
