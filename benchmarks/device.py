"""What one device is worth: corruptions, whole runs, attacks and certificates on it, and whether it computes what a CPU computes.

    python benchmarks/device.py [--device auto] [--minutes 10] [--json FILE] [--only NAME …] [--tiny]

Made for ten minutes on one H100 or H200; `--device cpu` works and takes longer. Parts, each alone by `--only`:

corruptions    images per second of each corruption of ImageNet-C on the device, a batch of 224 px at a time, and their geometric mean;
               for a few beside imagecorruptions 1.1.2 on the CPU of the same machine.
draws, codec, parity   on CUDA beside the CPU: random draws and the JPEG codec to the bit, and every registered corruption by the largest
               difference of two pixels and the share of equal uint8 levels. Without CUDA these say so and have no figures.
tiles          verdicts, logits and input gradients of smaller tiles beside those of a whole tile.
certificates   images per second of 224 ablations by bands of 19 columns, beside as many passes of the bare module.
end_to_end     a ViT-B/16 in bfloat16: seconds of bare forward passes over seconds of `robustvit.run` of the same images.
autoattack     AutoAttack beside pyautoattack 0.2.0, where all samples are fooled, where nearly all are robust, and some steps at 224 px.

Weights are random, which costs what trained ones cost, but for the attacked demo. Seconds are of wall time with the device's queue empty
at both ends, medians of turns whose order rotates, after one that warms up; ratios are medians of the turns' ratios, all of one process. A
part that raises is reported in a line, the next goes on, and the exit code is 1. After `--minutes` the parts that are left are skipped,
which is reported. `--json` writes the figures with the machine's name after each part. `--tiny` takes small models and few images, to see
that everything works.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import attacks
import certify
import numpy as np
import torch
from _images import photographs, scenes
from _measuring import Part, Row, Run, Timer, geometric_mean, rate, ratio
from _models import classified, robust
from _parity import NO_CUDA, codec_parity, corruption_parity, draw_parity, names, smaller_tiles
from _reference import reference
from _whole_runs import evaluated, forwards, forwards_in_bfloat16
from corruptions import registered
from torch import Tensor

import robustvit as rv
from robustvit.corruptions import get_corruption_names
from robustvit.evaluation import environment

VIT = "vit_base_patch16_224?weights=random"
BESIDE = ("gaussian_noise", "defocus_blur", "snow", "brightness", "jpeg_compression")  # of which imagecorruptions takes milliseconds
CORRUPTED = "gaussian_noise"
RADII = (("falls", 32 / 255, 3), ("stands", 0.5 / 255, 1))  # of the demo, and how often AutoAttack is timed there
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """How much of everything is measured."""

    vit: str = VIT
    side: int = 224
    batch: int = 64
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    repeats: int = 5
    images: int = 4096
    tile: int = 256
    certified: int = 64
    attacked: int = 64
    compared: int = 8
    draws: int = 3 * 224 * 224
    tiles: tuple[int, ...] = (1, 2, 3, 4, 8, 12, 16, 24, 32, 48)


TINY = Sizes(certify.TINY, 32, 2, (3,), 1, 10, 2, 2, 6, 1, 64, (1, 3))


class Device:
    """The parts, on one device."""

    def __init__(self, device: torch.device, sizes: Sizes, timer: Timer) -> None:
        self.device, self.sizes, self.timer, self.tiny = device, sizes, timer, sizes is TINY

    def corruptions(self) -> Iterator[Row]:
        """Images per second of each corruption: the geometric mean over its severities."""
        images = scenes(self.sizes.batch, self.sizes.side)
        pixels, few, every, beside = rv.pixels(images, self.device), images[: self.sizes.compared], list[float](), list[float]()
        for name in get_corruption_names("all"):
            ours, theirs = list[float](), list[float]()
            for severity in self.sizes.severities:
                works: dict[str, Callable[[], object]] = {"ours": registered(name, severity, pixels)}
                if name in BESIDE:
                    works["theirs"] = partial(_by_reference, few, severity, name)
                spent = self.timer.in_turn(works, self.sizes.repeats)
                ours.append(rate(len(pixels), spent["ours"]))
                theirs += [rate(len(few), spent["theirs"])] if name in BESIDE else []
            every += ours
            beside += [one / other for one, other in zip(ours, theirs, strict=True)] if theirs else []
            yield _rates(name, ours, theirs)
        head = f"geometric mean of {len(every)}"
        yield {**_rates(head, every, []), "ours / reference": geometric_mean(beside)}

    def draws(self) -> Iterator[Row]:
        """Draws on CUDA beside the CPU."""
        return self._on_cuda(lambda: draw_parity(self.sizes.compared, self.sizes.draws, self.device, CPU))

    def codec(self) -> Iterator[Row]:
        """The JPEG codec on CUDA beside the CPU."""
        return self._on_cuda(lambda: codec_parity(self._few(), self.device, CPU))

    def parity(self) -> Iterator[Row]:
        """Corruptions on CUDA beside the CPU."""
        return self._on_cuda(lambda: corruption_parity(self._few(), self.device, CPU, names()))

    def tiles(self) -> Iterator[Row]:
        """Smaller tiles beside whole ones: the large model in two precisions, and the demo."""
        whole = self.sizes.batch
        for address, precision in ((self.sizes.vit, "float32"), (self.sizes.vit, "bfloat16"), ("demo", "float32")):
            model = rv.load_model(address, device=self.device, tile=whole, precision=precision)
            images = rv.pixels(scenes(whole, model.size[0]), self.device)
            yield from smaller_tiles(address.partition("?")[0], model, images, [rows for rows in self.sizes.tiles if rows < whole])

    def certificates(self) -> Iterator[Row]:
        """Images per second of all votes, and of as many passes of the bare module."""
        model = rv.load_model(self.sizes.vit, device=self.device)
        images = rv.pixels(scenes(self.sizes.certified, model.size[0]), self.device)
        few = images[:2]
        works = {"ours": partial(certify.votes, model, images), "plain": partial(certify.plain, model, few)}
        spent = self.timer.in_turn(works, min(3, self.sizes.repeats))
        yield {
            "model": self.sizes.vit.partition("?")[0], "ablations": certify.bands_of(model).count, "images": len(images),
            "seconds": statistics.median(spent["ours"]), "ours, img/s": rate(len(images), spent["ours"]),
            "plain, img/s": rate(len(few), spent["plain"]), "ours / plain": ratio(spent["plain"], spent["ours"]) * len(images) / len(few),
        }  # fmt: skip

    def end_to_end(self) -> Iterator[Row]:
        """Runs beside bare forward passes of as many images, with weights in float32 under autocast, as runs have them, and in bfloat16."""
        count = self.sizes.images
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            photographs(place / "data", count, distinct=min(count, 320))
            model = rv.load_model(self.sizes.vit + "&num_classes=10", device=self.device, tile=self.sizes.tile, precision="bfloat16")
            data = rv.load_data("folder", data_dir=place / "data")
            works = {
                "bare forwards": partial(forwards, model, count), "bare forwards, weights in bfloat16": forwards_in_bfloat16(model, count),
                "run, clean": partial(evaluated, model, data, "clean", place / "cache"),
                f"run, {CORRUPTED} 3": partial(evaluated, model, data, CORRUPTED, place / "cache"),
                "run, clean, decoding": partial(evaluated, model, data, "clean", None),
            }  # fmt: skip
            spent = self.timer.in_turn(works, min(3, self.sizes.repeats))
        for name, own in spent.items():
            yield {
                "what": name, "images": count, "seconds": statistics.median(own), "img/s": rate(count, own),
                "share of forwards": ratio(spent["bare forwards"], own),
                "share of those in bfloat16": ratio(spent["bare forwards, weights in bfloat16"], own),
            }  # fmt: skip

    def autoattack(self) -> Iterator[Row]:
        """AutoAttack standard beside pyautoattack's on the demo, then some steps of its parts on a large model that withstands."""
        demo = rv.load_model("demo", device=self.device)
        batch = classified(demo, self.sizes.attacked)
        for label, eps, repeats in RADII[:1] if self.tiny else RADII:
            works = {
                "ours": partial(attacks.attacked, demo, batch, "autoattack", eps=eps),
                "theirs": partial(_peers, attacks.peer(demo, "linf", eps, version="standard", device=str(self.device)), batch),
            }
            yield self._attacks(f"standard, {label}", "demo", eps, demo, batch, works, 1 if self.tiny else repeats)
        model = rv.load_model(self.sizes.vit, device=self.device, tile=self.sizes.batch)
        images = rv.pixels(scenes(self.sizes.batch, model.size[0]), self.device)
        with torch.no_grad():
            batch = rv.Batch(images, model(images).argmax(dim=1), tuple(map(str, range(len(images)))))
        for part, steps in attacks.LARGE.items():
            steps = 2 if self.tiny else steps
            settings = {"eps": 1e-5, "steps": steps, **({"targets": 1} if part == "fab_t" else {})}
            made = attacks.peer(model, "linf", 1e-5, version="custom", attacks=[attacks.PARTS[part]], device=str(self.device))
            made.apgd.n_iter, made.apgd.n_restarts, made.square.n_queries = steps, 1, steps
            made.fab.n_iter, made.fab.n_restarts, made.fab.n_target_classes = steps, 1, 1
            works = {"ours": partial(attacks.attacked, model, batch, part, **settings), "theirs": partial(_peers, made, batch)}
            yield self._attacks(f"{part}, {steps} steps, stands", self.sizes.vit.partition("?")[0], 1e-5, model, batch, works, 1)

    def _attacks(
        self, label: str, name: str, eps: float, model: rv.Classifier, batch: rv.Batch, works: dict[str, Callable[[], Tensor]], turns: int
    ) -> Row:
        """Both sides in turn. With one turn alone it is the later sides of a part that are warm."""
        left: dict[str, Tensor] = {}

        def keeping(side: str) -> None:
            left[side] = works[side]()

        spent = self.timer.in_turn({side: partial(keeping, side) for side in works}, turns, warm=turns > 1)
        verdicts = {side: robust(model, batch, images.to(self.device)) for side, images in left.items()}
        return {
            "attack": label, "model": name, "eps": eps, "samples": len(batch),
            "fooled, ours": int((~verdicts["ours"]).sum()), "fooled, theirs": int((~verdicts["theirs"]).sum()),
            "same verdict": float((verdicts["ours"] == verdicts["theirs"]).double().mean()),
            "ours, s": statistics.median(spent["ours"]), "theirs, s": statistics.median(spent["theirs"]),
            "ours / theirs": ratio(spent["ours"], spent["theirs"]),
        }  # fmt: skip

    def _few(self) -> np.ndarray:
        return scenes(self.sizes.compared, self.sizes.side)

    def _on_cuda(self, part: Part) -> Iterator[Row]:
        """The rows of a part that needs CUDA, or one that says that there are none."""
        if self.device.type == "cuda":
            return part()
        return iter([{"note": f"--device is {self.device}" if torch.cuda.is_available() else NO_CUDA}])


PARTS: tuple[str, ...] = ("corruptions", "draws", "codec", "parity", "tiles", "certificates", "end_to_end", "autoattack")


def _by_reference(images: np.ndarray, severity: int, name: str) -> None:
    corrupt = reference()
    for image in images:
        corrupt(image, severity, name)


def _peers(made: Any, batch: rv.Batch) -> Tensor:
    return attacks.evaluated(made, batch)


def _rates(name: str, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    peer = geometric_mean(theirs) if theirs else None
    mean = geometric_mean(ours)
    return {"corruption": name, "ours, img/s": mean, "slowest severity": min(ours), "reference on the CPU, img/s": peer,
            "ours / reference": None if peer is None else mean / peer}  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Prints the tables; 1 where a part raised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--tiny", action="store_true", help="small models, few images, once: seconds")
    chosen = parser.parse_args(words)
    environment.determine()
    device = environment.device(chosen.device)
    facts = environment.describe_environment(device) | {"date": f"{datetime.now(UTC):%Y-%m-%d}", "tiny": chosen.tiny}
    hardware = facts["hardware"]
    print(f"{hardware.get('gpu') or NO_CUDA}; {hardware['cpu']}, {hardware['cores']} cores, {torch.get_num_threads()} threads; torch "
          f"{facts['versions']['torch']}\n", flush=True)  # fmt: skip
    run = Run(facts, chosen.minutes, chosen.json)
    parts = Device(device, TINY if chosen.tiny else Sizes(), Timer(device))
    for name in PARTS:
        if name in chosen.only:
            run.do(name, getattr(parts, name))
    print(f"failed: {', '.join(run.failed)}" if run.failed else "no part failed")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
