"""Plasma fractals against a plain midpoint loop."""

import numpy as np
import torch

from robustvit.corruptions.kernels.plasma import plasma_fractal


def plain_plasma(noise: np.ndarray, size: int, decay: float) -> np.ndarray:
    heights, rough, step, numbers = np.zeros((size, size)), 100.0, size, iter(noise)

    def middle(four: list[tuple[int, int]]) -> float:
        return sum(heights[y % size, x % size] for y, x in four) / 4 + rough * (next(numbers) * 2 * rough - rough)

    while step >= 2:
        h = step // 2
        for ys, xs, reach in ((h, h, (h, h)), (0, h, None), (h, 0, None)):
            for y in range(ys, size, step):
                for x in range(xs, size, step):
                    cross = [(y - h, x), (y + h, x), (y, x - h), (y, x + h)]
                    heights[y, x] = middle([(y + a, x + b) for a in (-h, h) for b in (-h, h)] if reach else cross)
        step, rough = h, rough / decay
    heights -= heights.min()
    return heights / heights.max()


def test_a_plasma_fractal_is_that_of_a_plain_loop() -> None:
    noise = torch.rand(2, 16 * 16 - 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.stack([plain_plasma(row, 16, 1.7) for row in noise.numpy()])
    assert np.allclose(plasma_fractal(noise, 16, 1.7).numpy(), expected, atol=1e-12)


def test_heights_span_zero_to_one() -> None:
    heights = plasma_fractal(torch.rand(3, 32 * 32 - 1), 32, 2.0)
    assert torch.equal(heights.amin(dim=(1, 2)), torch.zeros(3, dtype=torch.float64))
    assert torch.equal(heights.amax(dim=(1, 2)), torch.ones(3, dtype=torch.float64))
