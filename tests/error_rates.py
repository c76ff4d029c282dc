"""Error rates of the demo on digits corrupted here and by the reference: `python tests/error_rates.py` writes docs/error-rates.md.

The reference is `imagecorruptions` 1.1.2 (the extra of that name), image by image, with a separate seed for every (corruption, severity,
digit). It takes two minutes. The demo's predictions for the reference's images are kept in tests/golden/error_rates.npz, so that ours can
be compared with them anywhere: each corruption as in a suite, with seed 0.
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
from robustvit.spec.registry import entries
from robustvit.statistics.intervals import Interval, paired

ROOT = Path(__file__).resolve().parents[1]
GOLDEN, PAGE = ROOT / "tests/golden/error_rates.npz", ROOT / "docs/error-rates.md"
NAMES, SEVERITIES = get_corruption_names("all"), (1, 2, 3, 4, 5)
FIXED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate")  # draw nothing
DRAWN = len(SEVERITIES) * (len(NAMES) - len(FIXED))
TOGETHER = 1 - 0.05 / DRAWN  # Bonferroni: all intervals of this level cover simultaneously in 95 % of such tables
NONE = 255  # in place of a prediction where the reference divides by zero and has no image
SAME, INSIDE, OUTSIDE = "the same", "inside", "outside"


class Digits(NamedTuple):
    """The demo model and its test digits: preprocessed images (N, 32, 32, 3) uint8, labels and ids."""

    model: rv.Classifier
    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    fingerprints: tuple[str, str]

    def predictions(self, images: np.ndarray) -> np.ndarray:
        """(N,) uint8 classes."""
        return self.model(pixels(images)).argmax(dim=1).numpy().astype(np.uint8)


class Golden(NamedTuple):
    """Results for the reference's images. predictions: (19, 5, N) uint8. equal: (19, 5), how many of the images the drop-in reproduces to
    the byte after the same seed; most: (19, 5), the largest difference of the others in levels of 255. fingerprints: of model and data."""

    predictions: np.ndarray
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
    """The 500 test digits, preprocessed by the demo's view."""
    model, data = rv.load_model("demo"), rv.load_data("digits")
    images = np.stack([np.asarray(model.view.apply(Image.fromarray(data[i].image))) for i in range(len(data))])
    return Digits(model, images, np.asarray(data.labels), list(data.ids), (model.card.fingerprint, data.fingerprint))


def rows(data: Digits, golden: Golden) -> list[Row]:
    """All 95 cells: our images generated and scored, beside the reference's predictions."""
    return [
        row(name, severity, golden.predictions[place, severity - 1], ours(data, name, severity), data)
        for place, name in enumerate(NAMES)
        for severity in SEVERITIES
    ]


def ours(data: Digits, name: str, severity: int) -> np.ndarray:
    """(N, 32, 32, 3) uint8: the images that `robustvit run` gives to the model, by imagecorruptions' definition where there are two."""
    known = entries("corruption")
    registered = f"{name}_imagecorruptions" if f"{name}_imagecorruptions" in known else name
    return to_uint8(rv.perturb(None, pixels(data.images), None, registered, seed=0, ids=data.ids, severity=severity))


def row(name: str, severity: int, reference: np.ndarray, images: np.ndarray, data: Digits) -> Row:
    """Compares the predictions for the reference's images with those for ours.

    Where the reference has no image, those of ours that the corruption left unchanged are excluded too.
    """
    kept = reference != NONE
    if not kept.all():
        kept &= (images != data.images).any(axis=(1, 2, 3))
    theirs, mine = (predictions != data.labels for predictions in (reference, data.predictions(images)))
    return compared(name, severity, theirs[kept], mine[kept])


def compared(name: str, severity: int, theirs: np.ndarray, mine: np.ndarray) -> Row:
    """The row of a cell from the errors on the same digits, (n,) bool for either side."""
    only_mine, only_theirs, n = int((mine & ~theirs).sum()), int((theirs & ~mine).sum()), len(mine)
    rates = (name, severity, n, float(theirs.mean()), float(mine.mean()))
    if name in FIXED:
        return Row(*rates, None, None, OUTSIDE if only_mine or only_theirs else SAME)
    together = paired(only_mine, only_theirs, n, TOGETHER)
    return Row(*rates, paired(only_mine, only_theirs, n), together, INSIDE if holds(together) else OUTSIDE)


def holds(interval: Interval | None) -> bool:
    """Whether the interval contains zero."""
    return interval is not None and interval.low <= 0 <= interval.high


def load() -> Golden:
    """The committed results of the reference."""
    with np.load(GOLDEN) as kept:
        return Golden(**kept)


def pack(data: Digits) -> None:
    """Runs the reference and writes the demo's predictions."""
    made = [_scored(data, _reference(), name, severity) for name in NAMES for severity in SEVERITIES]
    predictions, equal, most = (np.array(part) for part in zip(*made, strict=True))
    cells = (len(NAMES), len(SEVERITIES))
    kept = Golden(predictions.reshape(*cells, -1), equal.reshape(cells), most.reshape(cells), np.array(data.fingerprints))
    np.savez_compressed(GOLDEN, **kept._asdict())


def page(found: list[Row], golden: Golden) -> str:
    """The document."""
    drawn = [row for row in found if row.corruption not in FIXED]
    counts = {
        "drawn": len(drawn), "plain": sum(holds(row.plain) for row in drawn), "together": sum(holds(row.together) for row in drawn),
        "fixed": len(found) - len(drawn), "same": sum(row.found == SAME for row in found), "n": golden.predictions.shape[2],
        "level": f"{100 * TOGETHER:.2f} %", "expected": f"{0.95 * len(drawn):.0f}", "mean": f"{_mean(drawn):+.2f}",
        "missed": ", ".join(f"{row.corruption} {row.severity}" for row in drawn if not holds(row.plain)) or "none",
        "bytes": golden.equal.sum(), "images": golden.predictions.size,
    }  # fmt: skip
    lines = [_line(row, int(equal), int(most)) for row, equal, most in zip(found, golden.equal.flat, golden.most.flat, strict=True)]
    return "\n".join([_HEAD.format(**counts), *lines]) + "\n"


def published() -> list[list[str]]:
    """The cells of the committed document's table, line by line."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]


def percent(rate: float) -> str:
    """A rate in percent, as in the document."""
    return f"{100 * rate:.1f}"


def _reference() -> Callable[..., np.ndarray]:
    """`imagecorruptions.corrupt`, by the shims that the benchmarks have for it."""
    sys.path.append(str(ROOT / "benchmarks"))
    from runner import reference

    return reference()


def _scored(data: Digits, reference: Callable[..., np.ndarray], name: str, severity: int) -> tuple[np.ndarray, int, int]:
    """The demo's predictions for the reference's images, and how the drop-in's images compare after the same seeds."""
    theirs, mine = (_made(data, function, name, severity) for function in (reference, corrupt))
    defined = theirs.any(axis=(1, 2, 3))
    apart = np.abs(theirs.astype(int) - mine).max(axis=(1, 2, 3))
    print(f"{name} {severity}: {(apart == 0).sum()} equal, {(~defined).sum()} without an image", flush=True)
    return np.where(defined, data.predictions(theirs), NONE).astype(np.uint8), int((apart == 0).sum()), int(apart[defined].max())


def _made(data: Digits, function: Callable[..., np.ndarray], name: str, severity: int) -> np.ndarray:
    """(N, 32, 32, 3) uint8 by a function that draws from numpy's generators."""
    return np.stack(
        [_seeded(function, f"{name}/{severity}/{id}", one, severity, name) for id, one in zip(data.ids, data.images, strict=True)]
    )


def _seeded(function: Callable[..., np.ndarray], key: str, image: np.ndarray, severity: int, name: str) -> np.ndarray:
    """One image after its own seed, which the fresh generators created for impulse noise get too."""
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

Error rates of the demo model on the {n} test digits, corrupted here and by the reference generator, at the demo's 32 px. *reference*:
`imagecorruptions` 1.1.2 from PyPI, image by image, with a separate seed for each (corruption, severity, digit). *ours*: the
registered corruptions as in `robustvit run --suite imagenet-c --data digits` (and `imagenet-c-extra`), seed 0. Both in
percent; the difference is ours minus the reference's.

* **{same} of {fixed} deterministic cells are the same**: eight corruptions draw no random numbers, and every digit that is misclassified
  on one side is misclassified on the other.
* **{together} of {drawn} random cells are inside**: the two sides draw different numbers, so their difference is random. It is tested on
  the same digits by the paired interval of Bonett and Price 2012: *95 %* for one cell alone, and *together* ({level}; Bonferroni over the
  {drawn} cells) for the whole table, which decides. {plain} of the {drawn} intervals of 95 % contain zero; {expected} are expected
  (the others: {missed}). The mean difference is {mean} points.
* *equal*: how many of the {n} images `robustvit.corruptions.corrupt`, the drop-in, reproduces to the byte after the reference's seed
  ({bytes} of {images} in all); *most*: the largest difference of the others, in levels of 255. The drop-in and the registered corruptions
  compute the same steps and differ only in the random numbers.

Where they are not equal:

* contrast: the reference's mean of a channel has rounding errors, ours is exact, so that occasionally a value is on the other side of a
  whole level. One digit of severity 3 gets another wrong prediction because of it.
* defocus_blur, severity 5, and snow, severity 4: one image each, where a value is within 2e-5 of a whole level.
* spatter, severity 1: on an image without drops the reference divides by zero and returns a black image, which is not scored; nor
  are the digits without drops on our side. *n* counts the others.

The error rates are those of a small model at 32 px, where the same severity is more harmful than at 224: they are not ImageNet-C numbers.
Written by `python tests/error_rates.py`; `tests/contracts/test_error_rates.py` checks every row against the committed reference results.

| corruption | severity | n | reference | ours | difference | 95 % | together | found | equal | most |
|---|---|---|---|---|---|---|---|---|---|---|"""


if __name__ == "__main__":
    everything = digits()
    pack(everything)
    PAGE.write_text(page(rows(everything, load()), load()), encoding="utf-8")
