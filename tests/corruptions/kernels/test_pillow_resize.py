"""The tables of shrinking, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from robustvit.corruptions.kernels.pillow_resize import box_tables


@pytest.mark.parametrize("side", [1, 2, 7, 32, 224, 333])
@pytest.mark.parametrize("share", [0.6, 0.5, 0.4, 0.3, 0.25])
def test_a_line_is_shrunk_and_enlarged_as_pillow_does_it(side, share) -> None:
    line = np.random.default_rng(side).integers(0, 256, side)
    weights, firsts, places = box_tables(side, share)
    taken = line[firsts + np.arange(len(weights))[:, None]]
    small = ((weights.astype(np.int64) * taken).sum(axis=0) + (1 << 21)) >> 22
    image = Image.fromarray(line[None].astype(np.uint8)).resize((len(firsts), 1), Image.Resampling.BOX)
    assert small.tolist() == np.asarray(image)[0].tolist()
    assert small[places].tolist() == np.asarray(image.resize((side, 1), Image.Resampling.NEAREST))[0].tolist()
