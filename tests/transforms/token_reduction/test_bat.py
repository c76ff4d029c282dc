"""Token decoupling, beside the same by loops over tokens."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from reduction import Step, class_attention, ledger, reference
from torch import Tensor
from torch.nn.functional import cosine_similarity

from robustvit.errors import BadParameter
from robustvit.transforms.token_reduction.bat import Decoupling, bat, density_peaks
from robustvit.transforms.token_reduction.evit import AttentiveSelection, evit

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def peaks(points: Tensor, count: int, neighbours: int) -> list[list[int]]:
    """Density peaks: the members of every cluster, its centre first."""
    total, scale = len(points), math.sqrt(points.shape[1])
    apart = [[float((points[a] - points[b]).norm()) / scale for b in range(total)] for a in range(total)]
    density = [math.exp(-sum(one**2 for one in sorted(row)[:neighbours]) / min(neighbours, total)) for row in apart]
    delta = []
    for at in range(total):
        denser = [
            apart[at][other] for other in range(total) if density[other] > density[at] or (density[other] == density[at] and other < at)
        ]
        delta.append(min(denser) if denser else max(map(max, apart)))
    centres = sorted(range(total), key=lambda at: -density[at] * delta[at])[:count]
    members = {centre: [centre] for centre in centres}
    for at in range(total):
        if at not in centres:
            members[min(centres, key=lambda centre, at=at: apart[at][centre])].append(at)
    return [members[centre] for centre in centres]


def decoupled(vit, keep: float, blocks: tuple[int, ...], share: float, neighbours: int):
    """Long et al., section 3.3: pairs of attentive tokens, clusters of inattentive ones, as many as EViT's tokens in all."""

    def hook(step: Step) -> tuple[Tensor, Tensor]:
        if step.index not in blocks:
            return step.tokens, step.sizes
        attention = class_attention(step, vit, by_size=True)
        patches = sorted(range(step.prefix, len(step.tokens)), key=lambda at: -float(attention[at]))
        kept = math.ceil(keep * len(patches))
        count = min(math.ceil(share * len(patches)), len(patches) - kept, kept // 2 + 1)
        groups = [[at] for at in range(step.prefix)] + pairs(step, patches[:kept], count - 1)
        rest = patches[kept:]
        groups += [[rest[at] for at in of] for of in peaks(step.tokens[rest], count, neighbours)]
        mean = [torch.stack([attention[at] * step.tokens[at] for at in of]).sum(dim=0) / attention[of].sum() for of in groups]
        return torch.stack(mean), torch.stack([step.sizes[of].sum() for of in groups])

    return hook


def pairs(step: Step, patches: list[int], r: int) -> list[list[int]]:
    evens, odds = ([at for place, at in enumerate(patches, step.prefix) if place % 2 == odd] for odd in (0, 1))
    score = {(a, b): float(cosine_similarity(step.tokens[a], step.tokens[b], dim=0)) for a in evens for b in odds}
    to = {a: max(odds, key=lambda b, a=a: score[a, b]) for a in evens}
    gone = sorted(evens, key=lambda a: -score[a, to[a]])[:r]
    return [[a] for a in evens if a not in gone] + [[b, *(a for a in gone if to[a] == b)] for b in odds]


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("keep", "clusters", "neighbours"), [(0.7, 0.2, 2), (0.5, 0.1, 5)])
def test_it_is_the_same_decoupling_by_loops(make, keep, clusters, neighbours) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    wanted = reference(host, pixels, middle=decoupled(host.model, keep, (0, 1), clusters, neighbours), by_size=True)
    made = bat(host, keep=keep, clusters=clusters, neighbours=neighbours)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


@pytest.mark.parametrize(("keep", "gmacs"), [(0.7, 3.0), (0.6, 2.6), (0.5, 2.3)])
def test_tokens_and_macs_are_those_of_evit_and_of_the_ledger(keep, gmacs) -> None:
    tokens, found, everything = ledger("small", Decoupling(keep, (3, 6, 9), 0.1, 5))
    assert (tokens, found) == ledger("small", AttentiveSelection(keep, (3, 6, 9), True))[:2]
    assert round(found, 1) == gmacs
    assert 0 < everything - found < 0.02


def test_the_attentive_tokens_are_those_that_evit_keeps() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    one, other = bat(host, keep=0.75, clusters=0.01, blocks=(1,)), evit(host, keep=0.75, blocks=(1,))
    one(pixels), other(pixels)
    both = one.model.patches_left & other.model.patches_left
    assert torch.equal(both, other.model.patches_left)  # a single cluster, and no pair
    assert one.model.patches_left.sum(dim=1).tolist() == [13] * vits.TILE


def test_peaks_are_found_in_the_middle_of_clouds() -> None:
    middle = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = torch.cat([centre + torch.tensor([[0.0, 0.0], [0.1, 0.0], [-0.1, 0.0], [0.0, 0.1], [0.0, -0.1]]) for centre in middle])
    found = density_peaks(points[None], 3, 3)
    assert sorted(found.centres[0].tolist()) == [0, 5, 10]
    assert [found.group[0, at].item() for at in (0, 5, 10)] == [found.group[0, at + 4].item() for at in (0, 5, 10)]


def test_points_that_are_all_equal_are_clustered_by_index() -> None:
    found = density_peaks(torch.zeros(2, 6, 3), 3, 5)
    assert found.centres.tolist() == [[0, 1, 2]] * 2
    assert found.group.tolist() == [[0, 1, 2, 0, 0, 0]] * 2


def test_blocks_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"transform 'bat': blocks is \[3\]; it takes some of the 3 blocks"):
        bat(vits.made(vits.vit), blocks=(3,))
