"""Learned thresholds, beside the same merging and pruning by loops over tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vits
from reduction import Step, reference
from torch import Tensor
from torch.nn.functional import cosine_similarity

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.ltmp import fit_thresholds, ltmp
from robustvit.transforms.token_reduction.ltmp_learning import GatedWalk, gate, share_of_operations

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


class Noise:
    """Sixteen images of noise."""

    name, classes, ids, labels = "noise", tuple("abcde"), tuple(map(str, range(16))), np.arange(16) % 5

    def __len__(self) -> int:
        return 16


def load(data: Noise, positions: np.ndarray) -> Batch:
    return Batch(vits.images(16)[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[at] for at in positions))


def thresholds(host, merge: float, prune: float) -> dict[str, Tensor]:
    depth = len(host.model.blocks)
    return {"merge": torch.full((depth,), merge), "prune": torch.full((depth,), prune)}


def reduced(merge: float, prune: float):
    """Bonnaerens and Dambre, section 3: merging by one threshold, then pruning by the other."""

    def hook(step: Step) -> tuple[Tensor, Tensor]:
        keys, received, total = step.key.mean(dim=1), step.map.mean(dim=(0, 1)).tolist(), len(step.tokens)
        sources, targets = ([at for at in range(step.prefix, total) if at % 2 == odd] for odd in (0, 1))
        groups = {at: [at] for at in range(total)}
        for at in sources:
            score = {other: float(cosine_similarity(keys[at], keys[other], dim=0)) for other in targets}
            to = max(score, key=score.get) if score else None
            if to is not None and score[to] > merge:
                groups[to] += groups.pop(at)
        importance = {at: max(received[one] for one in of) for at, of in groups.items()}
        patches = [at for at in groups if at >= step.prefix]
        most = max(patches, key=importance.get)
        left = [at for at in groups if at < step.prefix or importance[at] > prune or at == most]
        tokens = [(step.tokens[groups[at]] * step.sizes[groups[at]][:, None]).sum(dim=0) / step.sizes[groups[at]].sum() for at in left]
        return torch.stack(tokens), torch.stack([step.sizes[groups[at]].sum() for at in left])

    return hook


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("merge", "prune"), [(0.4, 0.03), (2.0, 0.05), (0.0, 0.0), (2.0, 1.0)])
def test_it_is_the_same_merging_and_pruning_by_loops(make, merge, prune) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    wanted = reference(host, pixels, middle=reduced(merge, prune), proportional=True, by_size=True)
    made = ltmp(host, thresholds(host, merge, prune), calibration=Noise(), target=0.5)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("merge", "prune"), [(0.4, 0.03), (0.2, 0.05)])
def test_gated_tokens_that_stay_give_the_logits_of_tokens_that_are_gone(make, merge, prune) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    found = thresholds(host, merge, prune)
    made = ltmp(host, found, calibration=Noise(), target=0.5)
    walk = GatedWalk(host.model, found["merge"], found["prune"])
    assert torch.allclose(walk((pixels - host.mean) / host.std), made(pixels), atol=1e-4)
    prefix = host.model.num_prefix_tokens
    assert torch.allclose(walk.kept * 16, made.model.counted["tokens"] - prefix)
    assert (walk.kept[:, -1] < 1).all()


@pytest.mark.parametrize(("kept", "share"), [(1.0, 1.0), (0.5, 0.498)])
def test_the_share_of_operations_is_that_of_the_paper(kept, share) -> None:
    assert share_of_operations([kept] * 12, 197, 384) == pytest.approx(share, abs=5e-4)


def test_a_gate_is_hard_and_has_the_slope_of_a_sigmoid() -> None:
    value, threshold = torch.tensor([0.25, 0.3, 0.5], requires_grad=True), torch.tensor(0.3, requires_grad=True)
    opened = gate(value, threshold)
    assert opened.tolist() == [0.0, 0.0, 1.0]
    assert set(gate(torch.linspace(0, 1, 999), threshold).tolist()) == {0.0, 1.0}
    slope = [1 / (2 + 2 * np.cosh(10 * (one - 0.3))) / 0.1 for one in (0.25, 0.3, 0.5)]
    assert torch.autograd.grad(opened.sum(), (value, threshold), retain_graph=True)[0].tolist() == pytest.approx(slope, rel=1e-5)
    assert float(torch.autograd.grad(opened.sum(), threshold)[0]) == pytest.approx(-sum(slope), rel=1e-5)


@pytest.mark.parametrize("target", [0.8, 0.5])
def test_thresholds_are_learned_for_a_share_of_the_operations(target) -> None:
    host = vits.made(lambda: vits.vit(depth=3), sharp=2.0).configure(tile=16)
    found = fit_thresholds(host, load, Draws(0, "learn", ["learn"]), calibration=Noise(), target=target, samples=16, steps=100)
    assert {name: tuple(one.shape) for name, one in found.items()} == {"merge": (3,), "prune": (3,)}
    made = ltmp(host, found, calibration=Noise(), target=target)
    made(vits.images(16))
    left = (made.model.counted["tokens"] - 1).mean(dim=0) / 16
    assert share_of_operations(left.tolist(), 16, 24) == pytest.approx(target, abs=0.03)


def test_thresholds_depend_on_the_labels() -> None:
    host, other = vits.made(vits.vit, sharp=2.0), Noise()
    other.labels = 4 - Noise.labels
    given = {"target": 0.6, "samples": 16, "steps": 4}
    one, two = (fit_thresholds(host, load, Draws(0, "learn", ["learn"]), calibration=data, **given) for data in (Noise(), other))
    assert not torch.equal(one["prune"], two["prune"])


def test_learning_keeps_the_weights_and_repeats_itself() -> None:
    host = vits.made(vits.vit, sharp=2.0)
    weights = {name: one.clone() for name, one in host.state_dict().items()}
    given = {"calibration": Noise(), "target": 0.6, "samples": 10, "steps": 4}
    one, other, third = (fit_thresholds(host, load, Draws(seed, "learn", ["learn"]), **given) for seed in (0, 0, 1))
    assert all(torch.equal(host.state_dict()[name], weight) for name, weight in weights.items())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)
    assert torch.equal(host(vits.images(2)), vits.made(vits.vit, sharp=2.0)(vits.images(2)))


def test_the_thresholds_are_in_the_state() -> None:
    host = vits.made(vits.vit)
    one, other = (ltmp(host, thresholds(host, merge, 0.01), calibration=Noise()) for merge in (0.3, 0.9))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(vits.images(3)), one(vits.images(3)))


def test_a_model_whose_tokens_are_reduced_already_is_refused_by_the_fit() -> None:
    with pytest.raises(HostRefused, match="those of 'toy' are reduced already; put ltmp first"):
        fit_thresholds(evit(vits.made(vits.vit)), load, Draws(0, "l", ["l"]), calibration=Noise(), target=0.5, samples=4, steps=2)
