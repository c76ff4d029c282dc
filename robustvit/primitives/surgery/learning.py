"""Which samples each step of gradient descent takes, where a transform learns."""

from __future__ import annotations

import math

import numpy as np

from robustvit.primitives.draws import Draws


def rows_of_steps(positions: np.ndarray, rows: int, steps: int, draws: Draws) -> list[np.ndarray]:
    """For every step so many of the positions, one shuffle after another; each shuffle is drawn."""
    passes = -(-rows * steps // len(positions))
    shuffled = [positions[draws.at(turn).permutation(len(positions))[0].cpu().numpy()] for turn in range(passes)]
    return list(np.concatenate(shuffled)[: rows * steps].reshape(steps, rows))


def falling(step: int, steps: int) -> float:
    """The factor of the learning rate at a step: from 1 along half a cosine towards 0."""
    return (1.0 + math.cos(math.pi * step / steps)) / 2.0
