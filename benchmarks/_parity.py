"""What a device computes beside what a CPU computes: corruptions, draws, the image codec; and smaller tiles beside whole ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from _measuring import Row
from torch import Tensor

import robustvit as rv
from robustvit.corruptions.digital import jpeg_by_pillow
from robustvit.corruptions.kernels import codec
from robustvit.primitives.pixels import of_levels, to_uint8
from robustvit.spec.registry import entries

NO_CUDA = "no CUDA here"
QUALITIES = (1, 7, 10, 15, 18, 25, 50, 85, 95)
DRAWS: dict[str, Callable[[rv.Draws, int], Tensor]] = {
    "words": lambda draws, count: draws.words(count),
    "uniform": lambda draws, count: draws.uniform(count),
    "uniform in [-3, 5)": lambda draws, count: draws.uniform(count, low=-3.0, high=5.0),
    "uniform_where": lambda draws, count: (chosen := _some(draws, count)).float() * draws.uniform_where(chosen),
    "normal": lambda draws, count: draws.normal(count),
    "integers below 7": lambda draws, count: draws.integers(count, low=0, high=7),
    "integers below 2**31": lambda draws, count: draws.integers(count, low=0, high=1 << 31),
    "permutation": lambda draws, count: draws.permutation(count),
}
REQUIRED: dict[str, dict[str, Any]] = {  # parameters of corruptions that have no severity of five
    "dct_mask": {"size": 8}, "fourier_noise": {"row": 3, "column": 5, "eps": 4.0}, "haze": {"beta": 1.0}, "high_pass": {"radius": 6},
    "holes": {"fraction": 0.3}, "low_pass": {"radius": 6}, "patch_drop": {"fraction": 0.3}, "shift": {"pixels": 3},
    "patch_corruption": {"corruption": {"fog": {"severity": 3}}, "count": 4},
}  # fmt: skip


class Difference(NamedTuple):
    """largest: the largest difference of two pixels, as a level of 255. equal: the share of pixels whose uint8 levels are equal. bitwise:
    the share of pixels that are the same bits.
    """

    largest: float
    equal: float
    bitwise: float


def difference(one: Tensor, other: Tensor) -> Difference:
    """Compares images (N, C, H, W) of two devices."""
    a, b = one.detach().cpu(), other.detach().cpu()
    levels = (to_uint8(a) == to_uint8(b)).mean()
    return Difference(float((a.double() - b.double()).abs().max()) * 255, float(levels), float((a == b).double().mean()))


def names() -> list[str]:
    """The registered corruptions but those of clips, and but `imagenet_patch`, whose patches are a download."""
    return [name for name, entry in entries("corruption").items() if entry.severity != "frame" and name != "imagenet_patch"]


def corruption_parity(images: np.ndarray, one: torch.device, other: torch.device, chosen: list[str]) -> Iterator[Row]:
    """Each corruption on two devices; the first names the columns' device."""
    raised = []
    for name in chosen:
        params = {"severity": 3} if entries("corruption")[name].severity == "severity" else REQUIRED.get(name, {})
        row: Row = {"corruption": name, "largest difference, levels": None, "equal uint8": None, "equal bits": None, "note": ""}
        try:
            made = [rv.perturb(None, rv.pixels(images, device), None, name, **params) for device in (one, other)]
            row |= dict(zip(list(row)[1:4], difference(*made), strict=True))
        except (rv.RobustvitError, RuntimeError, TypeError, ValueError, LookupError) as error:
            raised.append(name)
            row["note"] = f"raised {type(error).__name__}: {str(error).splitlines()[0][:120]}"
        yield row
    if raised:
        raise RuntimeError(f"{len(raised)} corruptions raised: {', '.join(raised)}.")


def draw_parity(samples: int, count: int, one: torch.device, other: torch.device) -> Iterator[Row]:
    """Each kind of draw on two devices."""
    for name, draw in DRAWS.items():
        a, b = (draw(rv.Draws(0, "parity", [str(i) for i in range(samples)], device), count).cpu() for device in (one, other))
        yield {
            "draw": name, "numbers": a.numel(), "equal bits": float((a == b).double().mean()),
            "largest difference": float((a.double() - b.double()).abs().max()), "verdict": "equal" if torch.equal(a, b) else "not equal",
        }  # fmt: skip


def codec_parity(images: np.ndarray, one: torch.device, other: torch.device) -> Iterator[Row]:
    """The JPEG codec in torch on two devices, and Pillow, at several qualities."""
    from PIL import Image

    for quality in QUALITIES:
        a, b = (codec.jpeg_round_trip(rv.pixels(images, device), quality).cpu() for device in (one, other))
        pillow = np.stack([np.asarray(jpeg_by_pillow(Image.fromarray(image), quality)) for image in images])
        theirs = of_levels(torch.from_numpy(pillow)).permute(0, 3, 1, 2)
        yield {
            "quality": quality, "equal bits": difference(a, b).bitwise, "largest difference, levels": difference(a, b).largest,
            "equal to Pillow": difference(a, theirs).bitwise,
        }  # fmt: skip


def smaller_tiles(label: str, model: rv.Classifier, images: Tensor, sizes: list[int]) -> Iterator[Row]:
    """Verdicts, logits and input gradients of smaller tiles beside those of the model's own."""
    before = model.tile
    whole, gradient = _logits_and_gradient(model, images)
    for rows in sizes:
        model.configure(tile=rows)
        try:
            logits, slope = _logits_and_gradient(model, images)
        finally:
            model.configure(tile=before)
        apart = (logits != whole).any(dim=1)
        verdicts = logits.argmax(dim=1) == whole.argmax(dim=1)
        yield {
            "model": label, "precision": model.precision, "tile": before, "smaller tile": rows, "rows": len(images),
            "equal logits": int((~apart).sum()), "equal verdicts": int(verdicts.sum()),
            "equal gradients": int((slope == gradient).flatten(1).all(dim=1).sum()),
            "largest difference": float((logits - whole).abs().max()),
            "verdict": "equal" if not bool(apart.any()) else "logits differ" if bool(verdicts.all()) else "verdicts differ",
        }  # fmt: skip


def _logits_and_gradient(model: rv.Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the input gradients of their log-sum-exp."""
    leaf = images.clone().requires_grad_(True)
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits.logsumexp(dim=1).sum(), leaf)
    return logits.detach(), gradient


def _some(draws: rv.Draws, count: int) -> Tensor:
    return torch.arange(count, device=draws.device).expand(len(draws), -1) % 3 == 0
