"""Pooling of the token sequence, beside the same by loops."""

from __future__ import annotations

import pytest
import torch
import vits
from reduction import Step, ledger, reference
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.pool_tokens import SequencePooling, pool_tokens

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def pooled(kernel: int, stride: int, blocks: tuple[int, ...]):
    """Pan et al., section 3.2: the largest value of each channel in windows of the sequence."""

    def hook(step: Step) -> tuple[Tensor, Tensor]:
        if step.index not in blocks:
            return step.tokens, step.sizes
        rows, patches = list(step.tokens[: step.prefix]), step.tokens[step.prefix :]
        start = 0
        while start + kernel <= len(patches):
            rows.append(torch.stack([max(patches[start : start + kernel, channel]) for channel in range(patches.shape[1])]))
            start += stride
        return torch.stack(rows), torch.ones(len(rows))

    return hook


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("kernel", "stride", "blocks"), [(3, 2, (0,)), (2, 3, (0, 1))])
def test_it_is_the_same_pooling_by_loops(make, kernel, stride, blocks) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(vits.TILE)
    wanted = reference(host, pixels, after=pooled(kernel, stride, blocks))
    made = pool_tokens(host, kernel=kernel, stride=stride, blocks=blocks)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_a_sequence_shrinks_as_the_authors_write() -> None:
    tokens, macs, everything = ledger("small", SequencePooling(3, 2, (0, 3, 6, 9)))
    assert tokens == [197] + [98] * 3 + [49] * 3 + [24] * 3 + [12] * 2
    assert everything == pytest.approx(macs, rel=1e-6)


def test_the_order_of_the_sequence_is_that_of_the_image() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    made = pool_tokens(evit(host, keep=0.5, blocks=(0,), fuse=False), blocks=(0,))
    kept = evit(host, keep=0.5, blocks=(0,), fuse=False)
    kept(pixels), made(pixels)
    for whole, left in zip(kept.model.patches_left, made.model.patches_left, strict=True):
        assert left.nonzero()[:, 0].tolist() == whole.nonzero()[1::2, 0].tolist()[:3]


@pytest.mark.parametrize(("settings", "message"), [
    ({"kernel": 17}, "kernel is 17; after block 0 an image has 16 patch tokens left"),
    ({"kernel": 9, "stride": 4, "blocks": (0, 2)}, "kernel is 9; after block 2 an image has 2 patch tokens left"),
])  # fmt: skip
def test_a_kernel_wider_than_the_sequence_is_refused(settings, message) -> None:
    with pytest.raises(BadParameter, match=message):
        pool_tokens(vits.made(vits.vit), **settings)


def test_a_kernel_wider_than_what_others_left_is_refused_by_the_forward_pass() -> None:
    made = pool_tokens(evit(vits.made(vits.vit), keep=0.1, blocks=(0,), fuse=False), kernel=3)
    with pytest.raises(BadParameter, match="kernel is 3; after block 0 an image has 2 patch tokens left"):
        made(vits.images(1))
