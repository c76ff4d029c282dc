"""Token merging, beside the same merging by loops over tokens."""

from __future__ import annotations

import pytest
import torch
import vits
from reduction import Step, ledger, reference
from torch import Tensor
from torch.nn.functional import cosine_similarity

from robustvit.transforms.token_reduction.tome import PairMerging, tome

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def merged(r: int):
    """Bolya et al., section 3: even positions propose, the best r proposals are merged."""

    def hook(step: Step) -> tuple[Tensor, Tensor]:
        keys, total = step.key.mean(dim=1), len(step.tokens)
        sources, targets = ([at for at in range(step.prefix, total) if at % 2 == odd] for odd in (0, 1))
        partner = {at: max(targets, key=lambda other, at=at: float(cosine_similarity(keys[at], keys[other], dim=0))) for at in sources}
        score = {at: float(cosine_similarity(keys[at], keys[partner[at]], dim=0)) for at in sources}
        gone = sorted(sources, key=lambda at: -score[at])[: min(r, (total - step.prefix) // 2)]
        members = {at: [at, *(one for one in gone if partner[one] == at)] for at in targets}
        groups = [[at] for at in range(step.prefix)] + [[at] for at in sources if at not in gone] + list(members.values())
        sizes = torch.stack([step.sizes[of].sum() for of in groups])
        tokens = [(step.tokens[of] * step.sizes[of][:, None]).sum(dim=0) / step.sizes[of].sum() for of in groups]
        return torch.stack(tokens), sizes

    return hook


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("r", [3, 8])
def test_it_is_the_same_merging_by_loops(make, r) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(vits.TILE)
    wanted = reference(host, pixels, middle=merged(r), proportional=True, by_size=True)
    made = tome(host, r=r)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_attention_may_ignore_sizes() -> None:
    host, pixels = vits.made(lambda: vits.vit(depth=3)), vits.images(vits.TILE)
    even = tome(host, r=4, prop_attn=False)(pixels)
    assert torch.allclose(even, reference(host, pixels, middle=merged(4), by_size=True).logits, atol=1e-4)
    assert (even - tome(host, r=4)(pixels)).abs().max() > 1e-2


@pytest.mark.parametrize(("name", "r", "gmacs", "last"), [
    ("small", 13, 2.703, 41), ("base", 13, 10.367, 41), ("tiny", 13, 0.731, 41), ("small", 16, 2.291, 11), ("small", 8, 3.416, 101),
])  # fmt: skip
def test_tokens_and_macs_are_those_of_the_ledger(name, r, gmacs, last) -> None:
    tokens, found, everything = ledger(name, PairMerging(r, True))
    assert tokens[:11] == [197 - r * (block + 1) for block in range(11)]
    assert tokens[11] == last
    assert found == pytest.approx(gmacs, abs=5e-4)
    before = [197, *tokens[:11]]
    choice = sum((one // 2) * ((one - 1) - (one - 1) // 2) * 64 for one in before)  # similarities of keys of dimension 64
    assert everything == pytest.approx(found + choice / 1e9, rel=1e-4)


def test_which_patches_have_a_token_left() -> None:
    host = vits.made(lambda: vits.vit(depth=1))
    made = tome(host, r=5)
    made(vits.images(vits.TILE))
    left = made.model.patches_left
    assert left.sum(dim=1).tolist() == [11] * vits.TILE
    assert left[:, ::2].all()  # patches at odd positions take others in
