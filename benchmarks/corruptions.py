"""CPU time per image of each of the nineteen corruptions, ours beside the reference generator's, in one process.

    python benchmarks/corruptions.py [--images 8] [--repeats 5] [--size 224] [--device cpu] [--markdown] [--tiny]
    python benchmarks/corruptions.py --pairs [--numba] [--sizes 32x32 224x224 427x640 1500x1000] [--only NAME …] [--repeats 5]

Ours are the registered corruptions on a batch of `--images` images, with numba and without; the reference is `imagecorruptions` 1.1.2,
image by image. Both draw their own random numbers, which counts. One thread, and process time: on a shared machine wall time measures the
neighbours. Figures are medians of `--repeats` runs, after one that warms up. With `--device cuda` only ours run, and images per second of
wall time are printed. `--tiny` runs one severity of small images once, to see that everything works.

`--pairs` compares call by call, at several sizes and severities 1, 3 and 5, without numba or with it: the drop-in (bytes in, bytes out,
numpy's global generator) and the registered corruption, each beside the reference. Readings alternate, and the ratio is the median of the
ratios of neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _reference import reference
from PIL import Image

import robustvit as rv
from robustvit.corruptions import corrupt as rv_corrupt
from robustvit.corruptions import get_corruption_names
from robustvit.primitives import compiled
from robustvit.spec.registry import entries

SEVERITIES = (1, 2, 3, 4, 5)
SLOW = "glass_blur"  # in the reference: one image and one run of it are enough


class Row(NamedTuple):
    """Milliseconds per image."""

    name: str
    severity: int
    reference: float
    with_numba: float
    without: float


def photographs(count: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 (N, *size, 3): scikit-image's photographs in turn, cut square and resized."""
    from skimage import data

    cut = [_square(Image.fromarray(photograph), size) for photograph in (data.astronaut(), data.coffee())]
    return np.stack([cut[i % len(cut)] for i in range(count)])


def _square(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, (left, top, left + side, top + side)))


def median(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of the median of so many runs."""
    found = []
    for _ in range(repeats):
        began = clock()
        work()
        found.append(clock() - began)
    return statistics.median(found)


def registered(name: str, severity: int, images: torch.Tensor) -> Callable[[], None]:
    """Calls the registered corruption, by the reference's definition where there are two."""
    known = entries("corruption")
    function = (known.get(f"{name}_imagecorruptions") or known[name]).load()
    draws = rv.Draws(0, name, [str(i) for i in range(len(images))], images.device)

    def work() -> None:
        function(images, draws, severity=severity)
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    return work


def ours(name: str, severity: int, images: torch.Tensor, repeats: int, *, numba: bool = True) -> float:
    """Milliseconds per image of the registered corruption."""
    work = registered(name, severity, images)
    with contextlib.nullcontext() if numba else compiled.without():
        work()
        return median(work, repeats, time.perf_counter if images.device.type == "cuda" else time.process_time) / len(images) * 1e3


def theirs(corrupt: Callable[..., np.ndarray], name: str, severity: int, images: np.ndarray, repeats: int) -> float:
    """Milliseconds per image of the reference."""
    some = images[:1] if name == SLOW else images
    if name != SLOW:
        corrupt(some[0], severity, name)
    return median(lambda: [corrupt(one, severity, name) for one in some], 1 if name == SLOW else repeats) / len(some) * 1e3


def measured(images: np.ndarray, repeats: int, severities: tuple[int, ...]) -> list[Row]:
    """All corruptions at the severities, each printed as soon as it is measured."""
    corrupt, pixels, rows = reference(), rv.pixels(images), []
    for name in get_corruption_names("all"):
        for severity in severities:
            fast, plain = (ours(name, severity, pixels, repeats, numba=numba) for numba in (True, False))
            row = Row(name, severity, theirs(corrupt, name, severity, images, repeats), fast, plain)
            ratios = f"{row.reference / row.with_numba:7.2f} {row.reference / row.without:7.2f}"
            print(f"{name:18s} {severity}  {row.reference:8.2f} {row.with_numba:7.2f} {row.without:7.2f}  {ratios}", flush=True)
            rows.append(row)
    return rows


def summary(rows: list[Row]) -> None:
    """Prints the ratios of sums, the geometric means and the least ratios."""
    for label, chosen in ((f"all {len(rows)}", rows), ("without glass blur", [row for row in rows if row.name != SLOW])):
        total, fast, plain = (sum(row[place] for row in chosen) for place in (2, 3, 4))
        with_numba, without = f"with numba {fast:.0f} ms ({total / fast:.1f}×)", f"without {plain:.0f} ms ({total / plain:.1f}×)"
        print(f"{label}: reference {total:.0f} ms, {with_numba}, {without}")
    for label, place in (("with numba", 3), ("without", 4)):
        ratios = {row[:2]: row.reference / row[place] for row in rows}
        worst = min(ratios, key=ratios.__getitem__)
        middle = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        print(f"{label}: geometric mean {middle:.1f}×; least {ratios[worst]:.2f}× ({worst[0]} {worst[1]})")


def markdown(rows: list[Row]) -> None:
    """Prints the table of benchmarks/README.md: a line for each corruption, over its severities."""
    print("| | reference, ms | ours, ms | ratio, mean | least | without numba, ms | ratio, mean | least |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        mean, fast, plain = (sum(row[place] for row in own) / len(own) for place in (2, 3, 4))
        least_fast, least_plain = (min(row.reference / row[place] for row in own) for place in (3, 4))
        cells = f"{mean:.2f} | {fast:.2f} | {mean / fast:.1f} | {least_fast:.1f} | {plain:.2f} | {mean / plain:.1f} | {least_plain:.1f}"
        print(f"| {name} | {cells} |")


def on_gpu(images: np.ndarray, repeats: int, device: str) -> None:
    """Prints images per second of each corruption at its severities."""
    pixels, rates = rv.pixels(images, device), []
    for name in get_corruption_names("all"):
        own = [1e3 / ours(name, severity, pixels, repeats) for severity in SEVERITIES]
        rates += own
        print(f"{name:18s} " + " ".join(f"{rate:10.0f}" for rate in own), flush=True)
    print(f"geometric mean {math.exp(sum(map(math.log, rates)) / len(rates)):.0f} images/s")


def interleaved(works: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each reading of each work: readings alternate, and take the first work about 20 ms or one call."""
    calls = max(1, int(0.02 / max(1e-6, median(works[0], 1))))
    for work in works[1:]:
        work()
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, own in zip(works, found, strict=True):
            own.append(median(lambda: [work() for _ in range(calls)], 1) / calls)  # noqa: B023 - called at once
    return found


def pairs(sizes: list[tuple[int, int]], severities: tuple[int, ...], only: list[str], repeats: int) -> None:
    """Prints, per corruption, size and severity, milliseconds an image of the reference and the two ratios, reference / ours."""
    corrupt = reference()
    print(f"{'':18s} {'size':>9s}    reference, ms   drop-in   registered")
    for name in only or get_corruption_names("all"):
        for size in sizes:
            count = 1 if name == SLOW else max(1, min(64, 400_000 // math.prod(size)))
            images = photographs(count, size)
            for severity in severities:
                works = [
                    lambda: [corrupt(one, severity, name) for one in images],  # noqa: B023 - called at once
                    lambda: [rv_corrupt(one, severity, name) for one in images],  # noqa: B023
                    registered(name, severity, rv.pixels(images)),
                ]
                theirs, *both = interleaved(works, 1 if name == SLOW else repeats)
                ratios = " ".join(f"{statistics.median(a / b for a, b in zip(theirs, own, strict=True)):9.2f}" for own in both)
                took = statistics.median(theirs) / count * 1e3
                print(f"{name:18s} {size[0]:4d}x{size[1]:<4d} {severity} {took:12.2f} {ratios}", flush=True)


def sides(text: str) -> tuple[int, int]:
    """Height and width of `427x640`."""
    height, width = text.split("x")
    return int(height), int(width)


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--markdown", action="store_true", help="print the short table too")
    parser.add_argument("--tiny", action="store_true", help="one severity of two images of 32 px, once: seconds")
    parser.add_argument("--pairs", action="store_true", help="the drop-in and the registered corruption beside the reference, in turn")
    parser.add_argument("--numba", action="store_true", help="with --pairs: with compiled loops")
    parser.add_argument("--sizes", type=sides, nargs="+", default=[(32, 32), (224, 224), (427, 640), (1500, 1000)])
    parser.add_argument("--only", nargs="+", default=[], help="with --pairs: these corruptions alone")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.images, chosen.repeats, chosen.size, chosen.sizes = 2, 1, 32, [(32, 32)]
    images = photographs(chosen.images, (chosen.size, chosen.size))
    if torch.device(chosen.device).type != "cpu":
        return on_gpu(images, chosen.repeats, chosen.device)
    torch.set_num_threads(1)
    if chosen.pairs:
        with contextlib.nullcontext() if chosen.numba else compiled.without():
            return pairs(chosen.sizes, (1,) if chosen.tiny else (1, 3, 5), chosen.only, chosen.repeats)
    print(f"{machine()}, one thread; {chosen.size} px; milliseconds per image\n{'':20s}  reference   numba   plain  ratios")
    rows = measured(images, chosen.repeats, (1,) if chosen.tiny else SEVERITIES)
    summary(rows)
    if chosen.markdown:
        markdown(rows)


if __name__ == "__main__":
    main()
