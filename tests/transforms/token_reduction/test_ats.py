"""Adaptive sampling, beside the same by loops over samples."""

from __future__ import annotations

import pytest
import torch
import vits
from reduction import Step, class_attention, reference
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.evaluation.cost.macs import count
from robustvit.transforms.token_reduction.ats import ats, sampled

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def taken(significance: list[float], samples: int) -> list[int]:
    """Fayyaz et al., section 3.3: which tokens the samples fall on."""
    order = sorted(range(len(significance)), key=lambda at: significance[at])
    levels, level = [], 0.0
    for at in order:
        level += significance[at]
        levels.append(level)
    levels = [(one - levels[0]) / (levels[-1] - levels[0]) for one in levels]
    start = min(one for one in levels if one > 0)
    found = set()
    for turn in range(samples):
        at = start + (1 - start) * turn / (samples - 1) if samples > 1 else start
        found.add(min(range(len(levels)), key=lambda token, at=at: abs(levels[token] - at)))
    return [order[token] for token in sorted(found)]


def adaptive(vit, samples: int, blocks: tuple[int, ...]):
    def hook(step: Step) -> tuple[Tensor, Tensor]:
        if step.index not in blocks:
            return step.tokens, step.sizes
        significance = class_attention(step, vit) * step.value.flatten(1).norm(dim=1)
        rows = [*range(step.prefix), *(step.prefix + at for at in taken(significance[step.prefix :].tolist(), samples))]
        return step.tokens[rows], step.sizes[rows]

    return hook


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("samples", "blocks"), [(None, None), (5, (0,))])
def test_it_is_the_same_sampling_by_loops(make, samples, blocks) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    wanted = reference(host, pixels, middle=adaptive(host.model, samples or 16, blocks or (0, 1)))
    made = ats(host, samples=samples, blocks=blocks)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_the_number_of_tokens_and_the_cost_depend_on_the_image() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    made = ats(host)
    made(pixels * torch.tensor([0.0, 0.1, 0.5, 1.0])[:, None, None, None])
    tokens, gmacs = made.model.counted["tokens"], made.model.counted["gmacs"]
    assert len({tuple(row) for row in tokens.tolist()}) > 1
    assert torch.equal(tokens.sum(dim=1).diff().sign(), gmacs.diff().sign())
    assert (gmacs < 1e-9 * count(host.model, (32, 32)).macs).all()
    assert count(made.model, (32, 32)).macs is None


def test_a_row_is_the_same_alone_also_where_the_others_have_as_many_tokens() -> None:
    host, pixels = vits.made(vits.vit).configure(tile=16), vits.images(16)
    made = ats(host)
    logits = made(pixels)
    assert all(torch.equal(made(pixels[row : row + 1])[0], logits[row]) for row in range(16))


@pytest.mark.parametrize(("significance", "samples", "wanted"), [
    ([1.0, 1.0, 1.0, 1.0], 4, [1, 2, 3]),  # even: all but the first, whose scaled value is 0
    ([0.001, 0.001, 0.001, 10.0], 2, [1, 3]),  # the first sample's token, and the one that stands out
    ([3.0, 1.0, 2.0], 1, [2]), ([2.0], 3, [0]), ([0.0, 0.0], 3, [0, 1]),
])  # fmt: skip
def test_samples_fall_on_tokens_by_their_significance(significance, samples, wanted) -> None:
    assert sampled(torch.tensor(significance), samples).tolist() == wanted


def test_blocks_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"transform 'ats': blocks is \[3\]; it takes some of the 3 blocks"):
        ats(vits.made(vits.vit), blocks=(3,))
