"""Images and draws that the tests of the corruptions share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels


@pytest.fixture
def noise_images() -> Callable[..., Tensor]:
    """(N, 3, H, W) of random levels on the 8-bit grid."""

    def make(count: int = 2, height: int = 24, width: int = 31, seed: int = 0) -> Tensor:
        return of_levels(torch.randint(256, (count, 3, height, width), generator=torch.Generator().manual_seed(seed)))

    return make


@pytest.fixture
def flat() -> Callable[..., Tensor]:
    """(1, 3, H, W) of one level."""
    return lambda level, height=24, width=24: of_levels(torch.full((1, 3, height, width), level))


@pytest.fixture
def draws() -> Callable[[int], Draws]:
    """Draws of a number of samples."""
    return lambda count: Draws(0, "test", [str(i) for i in range(count)])
