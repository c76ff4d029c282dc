"""CPU seconds that one image takes under each of the nineteen corruptions, ours beside the reference generator's, in one process.

    python benchmarks/corruptions.py [--images 8] [--repeats 5] [--size 224] [--device cpu] [--markdown]

Ours are the registered corruptions on a batch of `--images` pictures, with numba and without; the reference is `imagecorruptions` 1.1.2,
picture by picture, under three shims that let it import on a current stack. Both draw their own random numbers, which counts. One thread,
and process time: on a shared machine the wall clock measures the neighbours. Figures are the least of `--repeats` runs, after one that warms up.
With `--device cuda` only ours run, and images per second of wall time are told.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from runner import reference

from robustvit.corruptions import get_corruption_names
from robustvit.primitives import compiled
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels
from robustvit.spec.registry import entries

SEVERITIES = (1, 2, 3, 4, 5)
SLOW = "glass_blur"  # in the reference: one picture and one run of it are enough


class Row(NamedTuple):
    """Milliseconds per image."""

    name: str
    severity: int
    reference: float
    with_numba: float
    without: float


def pictures(count: int, size: int) -> np.ndarray:
    """uint8 (N, size, size, 3): scikit-image's photographs by turns."""
    from skimage import data

    shown = [Image.fromarray(photograph) for photograph in (data.astronaut(), data.coffee())]
    cut = [np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, square(image))) for image in shown]
    return np.stack([cut[i % len(cut)] for i in range(count)])


def square(image: Image.Image) -> tuple[float, float, float, float]:
    """The middle of a picture."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def least(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of the fastest of so many runs."""
    found = math.inf
    for _ in range(repeats):
        began = clock()
        work()
        found = min(found, clock() - began)
    return found


def ours(name: str, severity: int, images: torch.Tensor, repeats: int, *, numba: bool = True) -> float:
    """Milliseconds per image."""
    function, draws = entries("corruption")[name].load(), Draws(0, name, [str(i) for i in range(len(images))], images.device)

    def work() -> None:
        function(images, draws, severity=severity)
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    with contextlib.nullcontext() if numba else compiled.without():
        work()
        return least(work, repeats, time.perf_counter if images.device.type == "cuda" else time.process_time) / len(images) * 1e3


def theirs(corrupt: Callable[..., np.ndarray], name: str, severity: int, shown: np.ndarray, repeats: int) -> float:
    """Milliseconds per image."""
    some = shown[:1] if name == SLOW else shown
    return least(lambda: [corrupt(one, severity, name) for one in some], 1 if name == SLOW else repeats + 1) / len(some) * 1e3


def measured(shown: np.ndarray, repeats: int) -> list[Row]:
    """All 95, told as they come."""
    corrupt, images, rows = reference(), pixels(shown), []
    for name in get_corruption_names("all"):
        for severity in SEVERITIES:
            fast, plain = (ours(name, severity, images, repeats, numba=numba) for numba in (True, False))
            rows.append(Row(name, severity, theirs(corrupt, name, severity, shown, repeats), fast, plain))
            tell(rows[-1])
    return rows


def tell(row: Row) -> None:
    """One row of the full table."""
    ratios = f"{row.reference / row.with_numba:7.2f} {row.reference / row.without:7.2f}"
    print(f"{row.name:18s} {row.severity}  {row.reference:8.2f} {row.with_numba:7.2f} {row.without:7.2f}  {ratios}", flush=True)


def summary(rows: list[Row]) -> None:
    """Ratios of sums and their kin."""
    for label, chosen in ((f"all {len(rows)}", rows), ("without glass blur", [row for row in rows if row.name != SLOW])):
        total, fast, plain = (sum(row[place] for row in chosen) for place in (2, 3, 4))
        print(
            f"{label}: reference {total:.0f} ms, with numba {fast:.0f} ms ({total / fast:.1f}×), without {plain:.0f} ms ({total / plain:.1f}×)"
        )
    for label, place in (("with numba", 3), ("without", 4)):
        ratios = {row[:2]: row.reference / row[place] for row in rows}
        worst = min(ratios, key=ratios.__getitem__)
        middle = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        print(f"{label}: geometric mean {middle:.1f}×; least {ratios[worst]:.2f}× ({worst[0]} {worst[1]})")


def markdown(rows: list[Row]) -> None:
    """The table of benchmarks/README.md: a line for each corruption, over its severities."""
    print(
        "| | reference, ms | ours, ms | ratio, mean | least | without numba, ms | ratio, mean | least |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        mean, fast, plain = (sum(row[place] for row in own) / len(own) for place in (2, 3, 4))
        least_fast, least_plain = (min(row.reference / row[place] for row in own) for place in (3, 4))
        print(
            f"| {name} | {mean:.2f} | {fast:.2f} | {mean / fast:.1f} | {least_fast:.1f} | {plain:.2f} | {mean / plain:.1f} | {least_plain:.1f} |"
        )


def on_gpu(shown: np.ndarray, repeats: int, device: str) -> None:
    """Images per second, for each corruption over its severities."""
    images, rates = pixels(shown, device), []
    for name in get_corruption_names("all"):
        own = [1e3 / ours(name, severity, images, repeats) for severity in SEVERITIES]
        rates += own
        print(f"{name:18s} " + " ".join(f"{rate:10.0f}" for rate in own), flush=True)
    print(f"geometric mean {math.exp(sum(map(math.log, rates)) / len(rates)):.0f} images/s")


def machine() -> str:
    """The processor's name."""
    told = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in told.read_text().splitlines() if line.startswith("model name")] if told.exists() else []
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--markdown", action="store_true", help="print the short table too")
    chosen = parser.parse_args()
    shown = pictures(chosen.images, chosen.size)
    if torch.device(chosen.device).type != "cpu":
        return on_gpu(shown, chosen.repeats, chosen.device)
    torch.set_num_threads(1)
    print(f"{machine()}, one thread; {chosen.size} px; milliseconds per image\n{'':20s}  reference   numba   plain  ratios")
    rows = measured(shown, chosen.repeats)
    summary(rows)
    if chosen.markdown:
        markdown(rows)


if __name__ == "__main__":
    main()
