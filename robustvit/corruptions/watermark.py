"""ImageNet-W: a translucent line of text across the image, a shortcut that models learned from the watermarks on ImageNet's cartons."""

from __future__ import annotations

import functools
import io
from importlib import resources

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from robustvit.corruptions.kernels.eight_bit import in_chunks, levels
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels
from robustvit.spec.registry import corruption

_TEXT = "捷径" * 3  # "shortcut", three times
_ALPHA = 128  # of 255: half opaque
_LEFT, _TOP = 0.01, 0.4  # of the width and the height
_FONT_SIZES = {224: 36, 384: 62, 512: 82, 518: 84}  # pixels, for the side of an image; others by the quotient
_SIDES_PER_SIZE = 6.22


@corruption(
    family="watermark",
    source="Li et al. 2023, A Whac-A-Mole Dilemma: Shortcuts Come in Multiples Where Mitigating One Amplifies Others (CVPR), ImageNet-W",
    url="https://github.com/facebookresearch/Whac-A-Mole",
    licence="CC BY-NC 4.0 (reference code; none of it is used); SIL OFL 1.1 (the two glyphs)",
    citation="""@inproceedings{li2023whac,
  title={A {Whac-A-Mole} Dilemma: Shortcuts Come in Multiples Where Mitigating One Amplifies Others},
  author={Li, Zhiheng and Evtimov, Ivan and Gordo, Albert and Hazirbas, Caner and Hassner, Tal and Canton Ferrer, Cristian and
          Xu, Chenliang and Ibrahim, Mark},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2023}
}""",
    rules="White text at half opacity over the image after resize and crop, in 8 bits, as the package imagenet-w 1.0.0 draws it: text, "
    "font, size, place and opacity are its defaults, and with one version of Pillow the levels are equal. The authors report the drop of "
    "accuracy.",
)
def watermark(images: Tensor, draws: Draws) -> Tensor:
    """Writes the same translucent white text over every image, as ImageNet-W does. Nothing is drawn at random.

    The font's size follows the width: 36 px at 224, 62 at 384, 82 at 512, 84 at 518, else width / 6.22 rounded down. The glyphs are
    rendered by Pillow's FreeType, another version of which may change levels at their edges.
    """
    if not len(images):
        return images.clone()
    alpha = torch.from_numpy(_coverage(*images.shape[-2:]).copy()).to(images.device)
    return in_chunks(lambda part: _white_over(part, alpha), images)


def _white_over(images: Tensor, alpha: Tensor) -> Tensor:
    """White of (H, W) int64 `alpha` in 0 … 255 over the images; whole levels, rounded as in 8-bit compositing."""
    below = levels(images).floor().long()
    total = 255 * alpha + below * (255 - alpha) + 128
    return of_levels(((total >> 8) + total >> 8).double())  # total / 255, rounded to the nearest


@functools.lru_cache(maxsize=8)
def _coverage(height: int, width: int) -> np.ndarray:
    """(H, W) int64: the text's alpha in 0 … 255."""
    size = _FONT_SIZES.get(width, max(1, int(width / _SIDES_PER_SIZE)))
    canvas = Image.new("L", (width, height), 0)
    font = ImageFont.truetype(io.BytesIO(_glyphs()), size, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(canvas).text((_LEFT * width, _TOP * height), _TEXT, fill=_ALPHA, font=font)
    return np.asarray(canvas).astype(np.int64)


@functools.cache
def _glyphs() -> bytes:
    return resources.files("robustvit.corruptions.kernels").joinpath("watermark", "glyphs.otf").read_bytes()
