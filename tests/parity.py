"""Parity of the corruptions with the two reference generators: `python tests/parity.py FOLDER` writes docs/parity.md and tests/golden/.

FOLDER holds `inputs.npz` (uint8 images of 224 px by name), and `imagecorruptions.npz` and `hendrycks.npz`: the references' outputs by
`corruption/severity/image`, computed after `np.random.seed(1000 + severity)`; impulse noise with `np.random.default_rng(1000 + severity)`.
tests/golden keeps the inputs, a digest of every output, and a crop of those that differ
(or may differ on another machine), where they differ most.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from robustvit.corruptions import corrupt, elastic, get_corruption_names, salt_and_pepper, weather
from robustvit.corruptions.kernels.textures import FILES, covering_photograph
from robustvit.primitives.pixels import pixels, to_uint8

ROOT = Path(__file__).resolve().parents[1]
GOLDEN, PAGE = ROOT / "tests/golden", ROOT / "docs/parity.md"
REFERENCES = ("imagecorruptions", "hendrycks")
EXACT, NEAR, DRAWN, OTHER = "bit-exact", "within 1/255", "equal in distribution given other draws", "different algorithm"
CLASSES = (EXACT, NEAR, DRAWN, OTHER)
CUT = 24
BY_MACHINE = ("motion_blur", "frost")  # the rounding of numpy's exponentials and OpenCV's resize depends on the build: a level may differ


class Row(NamedTuple):
    corruption: str
    severity: int
    reference: str
    found: str
    largest: str = "–"
    mean: str = "–"


def ours(reference: str, corruption: str, severity: int, image: np.ndarray) -> np.ndarray:
    """Our bytes after the references' seed: the drop-in's, and by hendrycks' own definitions where these are others.

    numpy's global generator is left as it was.
    """
    before = np.random.get_state()
    np.random.seed(1000 + severity)
    try:
        if reference == "hendrycks" and corruption in OWN:
            return to_uint8(OWN[corruption](pixels(image[None]), severity))[0]
        if corruption == "impulse_noise":
            return salt_and_pepper(image, severity, np.random.default_rng(1000 + severity))
        return corrupt(image, severity, corruption)
    finally:
        np.random.set_state(before)


def hendrycks_elastic(images: torch.Tensor, severity: int) -> torch.Tensor:
    """`elastic_transform` with the draws of numpy's global generator, in the released generator's order."""
    corners, across, down = (_uniform(*shape) for shape in ((3, 2), images.shape[-2:], images.shape[-2:]))
    return elastic._elastic_transform(images, corners, across, down, severity=severity)


def hendrycks_frost(images: torch.Tensor, severity: int) -> torch.Tensor:
    """`frost`, likewise."""
    photograph = covering_photograph(np.random.randint(len(FILES)), *images.shape[-2:])
    top, left = (np.random.randint(0, room) for room in weather._room(photograph, images))
    return weather._frost(images, weather._cut(photograph, top, left, images)[None], severity)


OWN = {"elastic_transform": hendrycks_elastic, "frost": hendrycks_frost}


def _uniform(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.random_sample((1, *shape)))


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def found(largest: int) -> str:
    return EXACT if largest == 0 else NEAR if largest == 1 else OTHER


def full(folder: Path) -> list[Row]:
    """The rows of the full-size comparison."""
    return [
        _row(folder, reference, name, severity)
        for name in get_corruption_names("all")
        for severity in range(1, 6)
        for reference in REFERENCES
    ]


def small() -> list[Row]:
    """The same rows, without differences, from the files in tests/golden."""
    images = {path.stem: np.asarray(Image.open(path)) for path in sorted(GOLDEN.glob("*.png"))}
    digests, cuts = json.loads((GOLDEN / "parity.json").read_text()), np.load(GOLDEN / "parity.npz")
    made: dict[str, np.ndarray] = {}
    rows = []
    for name in get_corruption_names("all"):
        for severity in range(1, 6):
            for reference in REFERENCES:
                keys = [f"{name}/{severity}/{image}" for image in images if f"{reference}/{name}/{severity}/{image}" in digests]
                own = reference * (name in OWN)
                for key in keys:
                    if own + key not in made:
                        made[own + key] = ours(reference, name, severity, images[key.rsplit("/", 1)[1]])
                sizes = [_by_crop(made[own + key], f"{reference}/{key}", digests, cuts) for key in keys]
                rows.append(Row(name, severity, reference, max(sizes, key=CLASSES.index) if sizes else DRAWN))
    return rows


def page(rows: list[Row]) -> str:
    """The document."""
    text = [_HEAD]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        cells = (f"{row.found} | {row.largest} | {row.mean}" for row in (first, second))
        text.append(f"| {first.corruption} | {first.severity} | {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def published() -> list[Row]:
    """The rows of the committed document."""
    lines = [line.strip("| \n").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    return [Row(line[0], int(line[1]), reference, *line[2 + 3 * i : 5 + 3 * i]) for line in lines for i, reference in enumerate(REFERENCES)]


def _row(folder: Path, reference: str, name: str, severity: int) -> Row:
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / f"{reference}.npz")
    keys = [key for key in outputs.files if key.startswith(f"{name}/{severity}/")]
    if not keys:
        return Row(name, severity, reference, DRAWN)
    apart = np.stack([np.abs(ours(reference, name, severity, inputs[key.rsplit("/", 1)[1]]).astype(int) - outputs[key]) for key in keys])
    return Row(name, severity, reference, found(apart.max()), str(apart.max()), f"{apart.mean():.2g}")


def _by_crop(image: np.ndarray, key: str, digests: dict[str, str], cuts: np.lib.npyio.NpzFile) -> str:
    if digest(image) == digests[key]:
        return EXACT
    if f"{key}/cut" not in cuts:
        return f"{key} changed"
    top, left = cuts[f"{key}/at"]
    part = image[top : top + CUT, left : left + CUT].astype(int)
    return found(max(1, np.abs(part - cuts[f"{key}/cut"]).max()))


def pack(folder: Path) -> None:
    """Writes tests/golden."""
    inputs, digests, cuts = np.load(folder / "inputs.npz"), {}, {}
    GOLDEN.mkdir(exist_ok=True)
    for name in inputs.files:
        Image.fromarray(inputs[name]).save(GOLDEN / f"{name}.png", optimize=True)
    for reference in REFERENCES:
        outputs = np.load(folder / f"{reference}.npz")
        for key in outputs.files:
            name, severity, image = key.split("/")
            expected = outputs[key]
            digests[f"{reference}/{key}"] = digest(expected)
            apart = np.abs(ours(reference, name, int(severity), inputs[image]).astype(int) - expected).max(axis=2)
            if apart.any() or name in BY_MACHINE:
                place = np.unravel_index(apart.argmax(), apart.shape)
                top, left = (min(max(0, at - CUT // 2), side - CUT) for at, side in zip(place, apart.shape, strict=True))
                cuts[f"{reference}/{key}/cut"], cuts[f"{reference}/{key}/at"] = expected[top : top + CUT, left : left + CUT], (top, left)
    (GOLDEN / "parity.json").write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n")
    np.savez_compressed(GOLDEN / "parity.npz", **cuts)


_HEAD = """# Parity with the reference generators

Our output and that of the two reference generators of ImageNet-C for the same image after the same `np.random.seed(1000 + severity)`,
ours being `robustvit.corruptions.corrupt`: two photographs (scikit-image's astronaut and coffee; the second reference: astronaut alone),
resized to 256 and cropped to 224 px, as 8-bit RGB. The registered corruptions compute the same steps with their own draws, keyed by
(seed, sample id): equal to these in distribution.

* **imagecorruptions**: release 1.1.2 from PyPI (numpy 1.26.4, scikit-image 0.19.3, scipy 1.11.4, OpenCV 4.11, Pillow 12.3).
* **hendrycks**: `ImageNet-C/imagenet_c` of hendrycks/robustness at 8190fe3, with Wand and ImageMagick 6.9.11.

Classes: *bit-exact*; *within 1/255*; *equal in distribution given other draws*; *different algorithm*. `max` and `mean` are differences in
levels of 255, over all values.

* motion_blur, severity 3: one value of 301,056 differs by one level; the kernel's exponentials depend on numpy's version,
  and the reference itself, run with numpy 2.4, gives this value.
* frost: the drop-in resizes the texture by OpenCV, as imagecorruptions does; its rounding depends on the build (here with Intel's
  IPP). The registered `frost_imagecorruptions` resizes in float64, equal on every machine: 4 of these 1,505,280 values differ by one level.
* impulse_noise: scikit-image draws from a fresh generator, not from numpy's global one. Here imagecorruptions was given
  `np.random.default_rng(1000 + severity)`, and `salt_and_pepper` takes the same. hendrycks calls scikit-image likewise: its output is not
  reproducible.
* Other sizes: at 32 × 32, 64 × 48, 300 × 500, 427 × 640 and 1500 × 1000 px, in colour and grey, the drop-in was compared with
  imagecorruptions in one process (numpy 2.4, scikit-image 0.26, scipy 1.17, OpenCV 5.0) at all severities; above 64 × 48, glass_blur at
  severity 2 alone and not at 1500 × 1000, impulse_noise at 1 and 5 (at 1500 × 1000: 5, in colour).
  All are bit-exact but for defocus_blur 5 at 1500 × 1000, where 2 of 4,500,000 values differ by
  one level: OpenCV 5 rounds a few weights of that kernel otherwise than OpenCV 4, whose weights these are. Luma, in snow, rounds as OpenCV
  with Intel's IPP does; another build may differ by a level in snow. `tests/contracts/test_parity_sizes.py` repeats a part of this.
  elastic_transform by hendrycks' steps, made with OpenCV 4.11, is bit-exact at the first four sizes, too.
* snow and motion_blur: hendrycks blurs 8-bit images by ImageMagick, imagecorruptions by its own kernel; this is the latter's.
* elastic_transform and frost are two algorithms each. hendrycks' elastic begins with an affine map and has other constants, and its frost
  keeps the photographs' size. The registered `elastic_transform` and `frost` (version 2) are hendrycks', which its columns are of;
  `elastic_transform_imagecorruptions` and `frost_imagecorruptions`, and the drop-in, are imagecorruptions'.

Written by `python tests/parity.py FOLDER`, where FOLDER holds the references' outputs; `tests/contracts/test_parity.py` checks every row's
class against the compact set in `tests/golden`, and the whole page against FOLDER where the variable `ROBUSTVIT_GOLDEN` names it.

| corruption | severity | imagecorruptions 1.1.2 | max | mean | hendrycks 8190fe3 | max | mean |
|---|---|---|---|---|---|---|---|"""


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
    PAGE.write_text(page(full(Path(sys.argv[1]))), encoding="utf-8")
