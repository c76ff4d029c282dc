"""Clean."""

import torch

from robustvit.corruptions.clean import clean


def test_clean_is_the_identity() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(clean(images, None), images)
