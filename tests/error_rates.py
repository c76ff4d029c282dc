"""The demo's errors on digits corrupted here and by the reference generator: `python tests/error_rates.py` writes docs/error-rates.md.

The reference is `imagecorruptions` 1.1.2, image by image, with scikit-image and OpenCV installed, after a seed of its own for every
(corruption, severity, digit). It takes two minutes. What the demo answered to its images is kept in tests/golden/error_rates.npz, so that ours can be
held to it anywhere: each corruption as a suite asks for it, with seed 0.
"""

import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

import robustvit as rv
from robustvit.corruptions import corrupt, get_corruption_names
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.statistics.intervals import Interval, paired

ROOT = Path(__file__).resolve().parents[1]
GOLDEN, PAGE = ROOT / "tests/golden/error_rates.npz", ROOT / "docs/error-rates.md"
NAMES, SEVERITIES = get_corruption_names("all"), (1, 2, 3, 4, 5)
FIXED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate")  # draw nothing
DRAWN = len(SEVERITIES) * (len(NAMES) - len(FIXED))
TOGETHER = 1 - 0.05 / DRAWN  # Bonferroni: all the intervals of this level hold at once in 95 % of such tables
NONE = 255  # stands for an answer where the reference divides by zero and has no image to be judged
SAME, INSIDE, OUTSIDE = "the same", "inside", "outside"


class Digits(NamedTuple):
    """What is corrupted and who judges: the demo, its digits as it sees them (N, 32, 32, 3) uint8, their labels and ids."""

    model: rv.Classifier
    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    fingerprints: tuple[str, str]

    def answers(self, images: np.ndarray) -> np.ndarray:
        """(N,) uint8 classes."""
        return self.model(pixels(images)).argmax(dim=1).numpy().astype(np.uint8)


class Golden(NamedTuple):
    """answers: (19, 5, N) uint8 to the reference's images. equal: (19, 5), how many of them the drop-in gives to the byte after the same
    seed; most: (19, 5), how many levels of 255 its others are apart, where the reference has an image. fingerprints: of model and data."""

    answers: np.ndarray
    equal: np.ndarray
    most: np.ndarray
    fingerprints: np.ndarray


class Row(NamedTuple):
    """One cell. n: digits compared. Rates and differences are fractions, ours minus the reference's."""

    corruption: str
    severity: int
    n: int
    reference: float
    ours: float
    plain: Interval | None
    together: Interval | None
    found: str


def digits() -> Digits:
    """The 500 test digits, looked at as the demo looks."""
    model, data = rv.load_model("demo"), rv.load_data("digits")
    images = np.stack([np.asarray(model.view.apply(Image.fromarray(data[i].image))) for i in range(len(data))])
    return Digits(model, images, np.asarray(data.labels), list(data.ids), (model.card.fingerprint, data.fingerprint))


def rows(shown: Digits, golden: Golden) -> list[Row]:
    """Ours made and judged beside the reference's answers: all 95 cells."""
    return [
        row(name, severity, golden.answers[place, severity - 1], ours(shown, name, severity), shown)
        for place, name in enumerate(NAMES)
        for severity in SEVERITIES
    ]


def ours(shown: Digits, name: str, severity: int) -> np.ndarray:
    """(N, 32, 32, 3) uint8: what `robustvit run` shows the model."""
    return to_uint8(rv.perturb(None, pixels(shown.images), None, name, seed=0, ids=shown.ids, severity=severity))


def row(name: str, severity: int, wanted: np.ndarray, images: np.ndarray, shown: Digits) -> Row:
    """The reference's answers and our images compared. Where the reference has no image, ours that nothing befell are left out too."""
    kept = wanted != NONE
    if not kept.all():
        kept &= (images != shown.images).any(axis=(1, 2, 3))
    theirs, mine = (answers != shown.labels for answers in (wanted, shown.answers(images)))
    return compared(name, severity, theirs[kept], mine[kept])


def compared(name: str, severity: int, theirs: np.ndarray, mine: np.ndarray) -> Row:
    """A cell's row by which of the same digits are errors, (n,) bool for either side."""
    only_mine, only_theirs, n = int((mine & ~theirs).sum()), int((theirs & ~mine).sum()), len(mine)
    rates = (name, severity, n, float(theirs.mean()), float(mine.mean()))
    if name in FIXED:
        return Row(*rates, None, None, OUTSIDE if only_mine or only_theirs else SAME)
    together = paired(only_mine, only_theirs, n, TOGETHER)
    return Row(*rates, paired(only_mine, only_theirs, n), together, INSIDE if holds(together) else OUTSIDE)


def holds(interval: Interval | None) -> bool:
    """Whether no difference is within the interval."""
    return interval is not None and interval.low <= 0 <= interval.high


def load() -> Golden:
    """What is kept of the reference."""
    with np.load(GOLDEN) as kept:
        return Golden(**kept)


def pack(shown: Digits) -> None:
    """Runs the reference and keeps what the demo answers."""
    made = [_judged(shown, _reference(), name, severity) for name in NAMES for severity in SEVERITIES]
    answers, equal, most = (np.array(part) for part in zip(*made, strict=True))
    cells = (len(NAMES), len(SEVERITIES))
    kept = Golden(answers.reshape(*cells, -1), equal.reshape(cells), most.reshape(cells), np.array(shown.fingerprints))
    np.savez_compressed(GOLDEN, **kept._asdict())


def page(found: list[Row], golden: Golden) -> str:
    """The document."""
    drawn = [row for row in found if row.corruption not in FIXED]
    counts = {
        "drawn": len(drawn), "plain": sum(holds(row.plain) for row in drawn), "together": sum(holds(row.together) for row in drawn),
        "fixed": len(found) - len(drawn), "same": sum(row.found == SAME for row in found), "n": golden.answers.shape[2],
        "level": f"{100 * TOGETHER:.2f} %", "expected": f"{0.95 * len(drawn):.0f}", "mean": f"{_mean(drawn):+.2f}",
        "missed": ", ".join(f"{row.corruption} {row.severity}" for row in drawn if not holds(row.plain)) or "none",
        "bytes": golden.equal.sum(), "images": golden.answers.size,
    }  # fmt: skip
    lines = [_line(row, int(equal), int(most)) for row, equal, most in zip(found, golden.equal.flat, golden.most.flat, strict=True)]
    return "\n".join([_HEAD.format(**counts), *lines]) + "\n"


def told() -> list[list[str]]:
    """The cells of the committed document's table, line by line."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]


def percent(rate: float) -> str:
    """A rate as the document tells it."""
    return f"{100 * rate:.1f}"


def _reference() -> Callable[..., np.ndarray]:
    """`imagecorruptions.corrupt`, by the shims that the benchmarks have for it."""
    sys.path.append(str(ROOT / "benchmarks"))
    from runner import reference

    return reference()


def _judged(shown: Digits, reference: Callable[..., np.ndarray], name: str, severity: int) -> tuple[np.ndarray, int, int]:
    """The demo's answers to the reference's images, and how the drop-in's compare after the same seeds."""
    theirs, mine = (_made(shown, function, name, severity) for function in (reference, corrupt))
    seen = theirs.any(axis=(1, 2, 3))
    apart = np.abs(theirs.astype(int) - mine).max(axis=(1, 2, 3))
    print(f"{name} {severity}: {(apart == 0).sum()} equal, {(~seen).sum()} without an image", flush=True)
    return np.where(seen, shown.answers(theirs), NONE).astype(np.uint8), int((apart == 0).sum()), int(apart[seen].max())


def _made(shown: Digits, function: Callable[..., np.ndarray], name: str, severity: int) -> np.ndarray:
    """(N, 32, 32, 3) uint8 by a function that draws from numpy's generators."""
    return np.stack(
        [_seeded(function, f"{name}/{severity}/{id}", one, severity, name) for id, one in zip(shown.ids, shown.images, strict=True)]
    )


def _seeded(function: Callable[..., np.ndarray], key: str, image: np.ndarray, severity: int, name: str) -> np.ndarray:
    """One image after a seed of its own, which the fresh generators that impulse noise asks for get too."""
    seed = zlib.crc32(key.encode())
    generator = np.random.default_rng(seed)
    np.random.seed(seed)
    with mock.patch("numpy.random.default_rng", return_value=generator), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the division by zero
        return function(image, severity, name)


def _mean(drawn: list[Row]) -> float:
    """The mean difference, in percentage points."""
    return 100 * float(np.mean([row.ours - row.reference for row in drawn]))


def _line(row: Row, equal: int, most: int) -> str:
    ends = " | ".join("–" if part is None else f"{100 * part.low:+.1f} … {100 * part.high:+.1f}" for part in (row.plain, row.together))
    rates = f"{percent(row.reference)} | {percent(row.ours)} | {100 * (row.ours - row.reference):+.1f}"
    return f"| {row.corruption} | {row.severity} | {row.n} | {rates} | {ends} | {row.found} | {equal} | {most} |"


_HEAD = """# Error rates beside the reference generator's

What the demo model gets wrong of the {n} test digits, corrupted here and by the reference generator, at the demo's 32 px. *reference*:
`imagecorruptions` 1.1.2 from PyPI, image by image, after a seed of its own for each (corruption, severity, digit). *ours*: the
registered corruptions as `robustvit run --suite imagenet-c --data digits` (and `imagenet-c-extra`) makes them, seed 0. Both in
percent; the difference is ours minus the reference's.

* **{same} of {fixed} cells without chance are the same**: eight corruptions draw nothing, and every digit that is an error on one side is one on
  the other.
* **{together} of {drawn} cells with chance are inside**: the two sides draw other numbers, so their difference is of chance. It is judged on the
  same digits by the paired interval of Bonett and Price 2012: *95 %* for one cell alone, and *together* ({level}; Bonferroni over the {drawn} cells) for
  the whole table, which decides. {plain} of the {drawn} intervals of 95 % hold no difference; {expected} are expected
  (the others: {missed}). The mean difference is {mean} points.
* *equal*: how many of the {n} images `robustvit.corruptions.corrupt`, the drop-in, gives to the byte after the reference's seed ({bytes}
  of {images} in all); *most*: how many levels of 255 its others are apart, at most. The drop-in and the registered corruptions take the
  same steps: what is left between them is which numbers are drawn.

Where they are not equal:

* contrast: the reference's mean of a channel carries rounding, ours is exact, so that now and then a value lies on the other side of a whole
  level. One digit of severity 3 gets another wrong answer by it.
* defocus_blur, severity 5, and snow, severity 4: one image each, where a value lies within 2e-5 of a whole level.
* spatter, severity 1: where no drop falls the reference divides by zero and gives a black image, which is not judged; nor
  are the digits that no drop of ours falls on. *n* counts the others.

The error rates are those of a small model at 32 px, where the same severity does more harm than at 224: they are no ImageNet-C numbers.
Made by `python tests/error_rates.py`; `tests/contracts/test_error_rates.py` holds every row to what is kept of the reference.

| corruption | severity | n | reference | ours | difference | 95 % | together | found | equal | most |
|---|---|---|---|---|---|---|---|---|---|---|"""


if __name__ == "__main__":
    everything = digits()
    pack(everything)
    PAGE.write_text(page(rows(everything, load()), load()), encoding="utf-8")
