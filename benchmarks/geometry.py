"""Consistency over a whole grid of shifts beside bare forward passes, and what an attack over shifts saves by stopping early.

    python benchmarks/geometry.py [--images 16] [--repeats 3] [--only demo vit stopping] [--tiny]

The bare loop rolls each image with torch.roll and counts equal predictions: the least code that does it; `forwards` computes as many
images that are not moved at all. Seconds are of CPU time, one thread; the figures are medians over `--repeats` turns, which alternate. Ours
is `shift_consistency` with `grid`, `circ15` on the ViT-Tiny of 224 px with random weights, which computes as trained ones do, and on the
demo, whose forward pass takes a fraction of a millisecond, so that whatever moves an image shows. The attack is worst_shift on digits that
the demo classifies rightly, with and without `early`; queries are those of all images.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from _models import Plain, classified, model_of
from torch import Tensor

import robustvit as rv
from robustvit.analyses.shift_consistency import shift_consistency
from robustvit.attacks.spatial.worst_shift import worst_shift


def bare(model: Plain, images: Tensor, shifts: int, tile: int) -> Tensor:
    """The share of shifts from 0 to `shifts` − 1 px in both directions whose prediction is that of the image, (N,)."""
    with torch.no_grad():
        clean = torch.cat([model(part).argmax(dim=1) for part in images.split(tile)])
        agreed = torch.zeros(len(images))
        for down in range(shifts):
            for right in range(shifts):
                moved = images.roll((down, right), (2, 3))
                agreed += torch.cat([model(part).argmax(dim=1) for part in moved.split(tile)]) == clean
    return agreed / shifts**2


def forwards(model: Plain, images: Tensor, shifts: int, tile: int) -> None:
    """As many forward passes as there are shifts."""
    with torch.no_grad():
        for _ in range(shifts**2):
            for part in images.split(tile):
                model(part)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(name: str, model: rv.Classifier, images: Tensor, repeats: int) -> None:
    """Prints a row of consistency over the grid of circ15."""
    plain, tile = Plain(model), model.tile
    draws, labels = rv.Draws(0, "x", [str(i) for i in range(len(images))]), torch.zeros(len(images), dtype=torch.int64)

    def ours() -> Tensor:
        return shift_consistency(model, images, labels, draws, grid=True)["value_shift_map"].mean(dim=1)

    same = "same" if torch.allclose(ours(), bare(plain, images, 15, tile), atol=0.01) else "DIFFERENT"
    works = (ours, lambda: bare(plain, images, 15, tile), lambda: forwards(plain, images, 15, tile))
    turns = [[seconds(work) for work in works] for _ in range(repeats)]
    first, second, third = (statistics.median(turn[at] for turn in turns) for at in range(3))
    over = [statistics.median(turn[0] / turn[at] for turn in turns) for at in (1, 2)]
    print(f"| {name} | {len(images)} | {first:.2f} | {second:.2f} | {third:.2f} | {over[0]:.3f} | {over[1]:.3f} | {same} |", flush=True)


def stopping(name: str, batch: rv.Batch, model: rv.Classifier, pixels: int) -> None:
    """Prints a row of the attack over shifts, with and without stopping."""
    draws, counts, spent = rv.Draws(0, "x", batch.ids), [], []
    for early in (True, False):
        found = []
        with model.with_small_tiles():
            spent.append(seconds(lambda: found.append(worst_shift(model, batch.images, batch.labels, draws, pixels=pixels, early=early))))  # noqa: B023
        counts.append(int(found[0].columns["queries"].sum()))
        fooled = int((model(found[0].images).argmax(dim=1) != batch.labels).sum())
    grid = f"{2 * pixels + 1}x{2 * pixels + 1}"
    shares = f"{counts[0]} | {counts[1]} | {counts[0] / counts[1]:.2f} | {spent[0] / spent[1]:.2f}"
    print(f"| {name} | {grid} | {len(batch)} | {fooled} | {shares} |", flush=True)


def main() -> None:
    """Prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=("demo", "vit", "stopping"), default=("demo", "vit", "stopping"))
    parser.add_argument("--tiny", action="store_true", help="two images of the demo alone: seconds")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    demo, count = model_of("demo"), 2 if chosen.tiny else 64
    parts, repeats = {*chosen.only} - ({"vit"} if chosen.tiny else set()), 1 if chosen.tiny else chosen.repeats
    if parts & {"demo", "vit"}:
        print("| model | images | ours, s | bare, s | forwards, s | ours / bare | ours / forwards | |\n|---|--:|--:|--:|--:|--:|--:|---|")
    if "demo" in parts:
        compare("demo", demo, classified(demo, count + 8).images[:count], repeats)
    if "vit" in parts:
        vit = rv.load_model("vit_tiny_patch16_224?weights=random", tile=min(chosen.images, 16))
        images = rv.Draws(0, "benchmark", [str(index) for index in range(chosen.images)]).uniform(3, *vit.size)
        compare("vit_tiny_patch16_224", vit, images, repeats)
    if "stopping" in parts:
        print(
            "\n| model | shifts | images | fooled | queries | without stopping | share | of the time |\n|---|---|--:|--:|--:|--:|--:|--:|"
        )
        for pixels in (1,) if chosen.tiny else (1, 2, 4):
            stopping("demo", classified(demo, 8 if chosen.tiny else 256), demo, pixels)


if __name__ == "__main__":
    main()
