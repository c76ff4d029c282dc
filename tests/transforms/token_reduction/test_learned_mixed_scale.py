"""Mixed-scale tokens by a learned gate, beside the same tokens by loops, and its loss beside sums over sorted lists."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import vits
from torch import Tensor
from torch.nn import functional

from robustvit.analyses.token_choice import token_choice
from robustvit.errors import HostRefused
from robustvit.primitives.batch import NO_CLASS, Batch
from robustvit.primitives.draws import Draws
from robustvit.spec.view import View
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.learned_mixed_scale import fit_gate, learned_mixed_scale
from robustvit.transforms.token_reduction.mixed_scale import mixed_scale
from robustvit.transforms.token_reduction.mixed_scale_learning import (
    Gate,
    GatedScales,
    batch_shaping,
    gate_logits,
    hard_gate,
    relaxed_bernoulli_cdf,
)

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]
GIVEN = {"share": 0.5, "weight": 10.0, "hidden": 6, "samples": 16, "steps": 3}


class Noise:
    """Sixteen images of noise."""

    name, classes, ids, labels = "noise", tuple("abcde"), tuple(map(str, range(16))), np.arange(16) % 5

    def __len__(self) -> int:
        return 16


def load(data: Noise, positions: np.ndarray) -> Batch:
    return Batch(contrasted()[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[at] for at in positions))


def contrasted() -> Tensor:
    """Sixteen images whose four regions have each a contrast of their own."""
    contrast = torch.rand(16, 1, 2, 2, generator=torch.Generator().manual_seed(8)).repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    return 0.5 + (vits.images(16) - 0.5) * contrast


def learn(host, data=None, seed: int = 0, **more) -> dict[str, Tensor]:
    return fit_gate(host, load, Draws(seed, "learn", ["learn"]), calibration=data or Noise(), **GIVEN | more)


def applied(host, artifact, **more):
    return learned_mixed_scale(host, artifact, calibration=Noise(), **GIVEN | more)


def drawn() -> dict[str, Tensor]:
    """A gate of random numbers that opens about half of the regions."""
    draw = torch.Generator().manual_seed(3)
    into = torch.randn(6, 768, generator=draw) / 10
    return {"into": into, "bias": torch.zeros(6), "out": torch.tensor([1.0, -1.0] * 3), "shift": torch.tensor(0.0)}


def constant(shift: float) -> dict[str, Tensor]:
    """A gate that opens all regions, or none."""
    return {"into": torch.zeros(6, 768), "bias": torch.zeros(6), "out": torch.zeros(6), "shift": torch.tensor(shift)}


def mixed(vit, image: Tensor, gate: dict[str, Tensor]) -> tuple[Tensor, list[float], list[int]]:
    """The tokens of a normalised image (3, 32, 32), their sizes, and the patches that are tokens themselves."""
    squares = [(y, x) for y in (0, 16) for x in (0, 16)]
    members = [[8 * (at // 2) + 2 * (at % 2) + step for step in (0, 1, 4, 5)] for at in range(4)]
    opened = []
    for y, x in squares:
        pixels, total = image[:, y : y + 16, x : x + 16].reshape(-1), float(gate["shift"])
        for unit in range(6):
            total += float(gate["out"][unit]) * max(0.0, float(gate["into"][unit] @ pixels) + float(gate["bias"][unit]))
        opened.append(total > 0)
    fine = sorted(place for at in range(4) if opened[at] for place in members[at])
    tokens, prefix, positions = vit.norm_pre(vit._pos_embed(vit.patch_embed(image[None]))), vit.num_prefix_tokens, vit.pos_embed[0, -16:]
    rows = [tokens[0, at] for at in range(prefix)] + [tokens[0, prefix + at] for at in fine]
    for at in (at for at in range(4) if not opened[at]):
        y, x = squares[at]
        small = functional.interpolate(image[None, :, y : y + 16, x : x + 16], size=(8, 8), mode="area")
        rows.append(vit.norm_pre(vit.patch_embed.proj(small)[0, :, 0, 0] + sum(positions[place] for place in members[at]) / 4))
    return torch.stack(rows), [1.0] * (prefix + len(fine)) + [4.0] * (len(rows) - prefix - len(fine)), fine


@pytest.mark.parametrize("make", HOSTS)
def test_it_is_the_same_tokens_by_loops_and_learning_computes_their_logits(make) -> None:
    host, pixels, gate = vits.made(vits.HOSTS[make], sharp=2.0), contrasted()[: vits.TILE], drawn()
    made = applied(host, gate)
    logits, vit = made(pixels), host.model
    walk = GatedScales(vit, (16, 16), Gate(**gate))
    walk.uniform = torch.full((vits.TILE, 4), 0.5)
    assert torch.allclose(walk((pixels - host.mean) / host.std), logits, atol=1e-4)
    for row, image in enumerate((pixels - host.mean) / host.std):
        tokens, sizes, fine = mixed(vit, image, gate)
        found, of = vit.norm(vit.blocks(tokens[None])), torch.tensor(sizes)[None, vit.num_prefix_tokens :, None]
        if vit.global_pool == "avg":
            wanted = vit.head(vit.fc_norm((found[:, vit.num_prefix_tokens :] * of).sum(dim=1) / 16))
        else:
            wanted = vit.forward_head(found)
        assert torch.allclose(logits[row], wanted[0], atol=1e-4)
        assert made.model.counted["tokens"][row].tolist() == [len(tokens)] * len(vit.blocks)
        assert made.model.patches_left[row].nonzero()[:, 0].tolist() == fine
    assert len(set(made.model.counted["tokens"][:, 0].tolist())) > 1


def test_everything_fine_is_the_host_and_everything_coarse_is_mixed_scale() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    assert learn(host, share=0) == {}
    assert torch.equal(applied(host, {}, share=0)(pixels), host(pixels))
    assert torch.allclose(applied(host, constant(1.0))(pixels), host(pixels), atol=1e-5)
    assert torch.allclose(applied(host, constant(-1.0))(pixels), mixed_scale(host, share=1)(pixels), atol=1e-5)


def test_its_cost_is_that_of_the_tokens_of_all_regions_and_of_the_gate() -> None:
    host = vits.made(vits.vit)
    made, variance = applied(host, constant(-1.0)), mixed_scale(host, share=1)
    for model in (made, variance):
        model(vits.images(1))
    gate = 4 * (768 * 6 + 6)
    assert torch.allclose(1e9 * made.model.counted["gmacs"], 1e9 * variance.model.counted["gmacs"] + gate, atol=1)


def test_gates_that_are_evenly_spread_have_no_loss_under_a_uniform_prior() -> None:
    gates = torch.tensor([[0.75, 0.5], [0.25, 0.75], [0.5, 0.25]], dtype=torch.float64)
    assert float(batch_shaping(gates, 0.5, 1.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(batch_shaping(gates, 0.3, 1.0)) > 1e-3


@pytest.mark.parametrize(("share", "temperature"), [(0.5, 0.5), (0.2, 0.5), (0.7, 2.0)])
def test_the_loss_is_a_sum_over_sorted_lists_at_each_position(share, temperature) -> None:
    gates = torch.rand(7, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    total = 0.0
    for position in range(3):
        for rank, value in enumerate(sorted(gates[:, position].tolist()), start=1):
            below = 1 / (1 + share / (1 - share) * ((1 - value) / value) ** temperature)
            total += (rank / 8 - below) ** 2 / 21
    assert float(batch_shaping(gates, share, temperature)) == pytest.approx(total, rel=1e-9)
    leaf = gates.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: batch_shaping(one, share, temperature), leaf)


@pytest.mark.parametrize(("share", "temperature"), [(0.5, 0.5), (0.2, 0.7), (0.7, 2.0)])
def test_the_distribution_is_the_integral_of_its_density_and_has_a_share_above_half(share, temperature) -> None:
    at = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    law = torch.distributions.RelaxedBernoulli(torch.tensor(temperature, dtype=torch.float64), torch.tensor(share, dtype=torch.float64))
    wanted = (law.log_prob(at).exp() / 200_000).cumsum(dim=0)
    assert torch.allclose(relaxed_bernoulli_cdf(at, share, temperature), wanted, atol=5e-3)
    assert float(1 - relaxed_bernoulli_cdf(torch.tensor(0.5), share, temperature)) == pytest.approx(share, abs=1e-6)


def test_a_gate_is_hard_and_has_the_slope_of_a_relaxed_sample() -> None:
    logits, uniform = torch.tensor([-0.2, 0.4, 0.4], requires_grad=True), torch.tensor([0.5, 0.5, 0.2])
    opened = hard_gate(logits, uniform)
    assert opened.tolist() == [0.0, 1.0, 0.0]  # the logit of 0.2 is −1.39
    slope = [1 / (2 + 2 * math.cosh(one)) for one in (-0.2, 0.4, 0.4 - math.log(4))]
    assert torch.autograd.grad(opened.sum(), logits)[0].tolist() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_a_gate_is_learned_for_a_share_of_coarse_regions_that_differ_between_images(share) -> None:
    host = vits.made(vits.vit, sharp=2.0).configure(tile=16)
    found = learn(host, share=share, steps=120, hidden=16)
    opened = gate_logits(Gate(**found), (contrasted() - host.mean) / host.std, (16, 16)) > 0
    assert 1 - float(opened.float().mean()) == pytest.approx(share, abs=0.13)
    assert len(set(opened.sum(dim=1).tolist())) > 1


def test_a_gate_depends_on_labels_and_those_of_no_class_are_the_models_own() -> None:
    host, given, other, none, own = vits.made(vits.vit, sharp=2.0), Noise(), Noise(), Noise(), Noise()
    other.labels = 4 - Noise.labels
    none.labels = np.full(16, NO_CLASS)
    with torch.no_grad():
        host.model.head.bias -= host(contrasted()).mean(dim=0)  # so that it predicts several classes
    own.labels = host(contrasted()).argmax(dim=1).numpy()
    assert len(set(own.labels.tolist())) > 1
    first, second, third, fourth = (learn(host, data)["into"] for data in (given, other, none, own))
    assert not torch.equal(first, second)
    assert torch.equal(third, fourth)
    assert not torch.equal(first, third)


def test_learning_keeps_the_weights_and_repeats_itself() -> None:
    host = vits.made(vits.vit, sharp=2.0)
    weights = {name: one.clone() for name, one in host.state_dict().items()}
    one, other, third = (learn(host, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(host.state_dict()[name], weight) for name, weight in weights.items())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["into"], third["into"])
    assert torch.equal(host(vits.images(2)), vits.made(vits.vit, sharp=2.0)(vits.images(2)))


def test_the_overlap_of_patches_tells_how_many_gates_flip() -> None:
    host, gate = vits.made(vits.vit), drawn()
    clean, shifted = contrasted()[:8], contrasted().flip(0)[:8]
    labels, draws = torch.zeros(8, dtype=torch.int64), Draws(0, "a", list("abcdefgh"))
    found = token_choice(applied(host, gate), clean, labels, draws, corruption=lambda images, draws: shifted)
    opened = [gate_logits(Gate(**gate), (one - host.mean) / host.std, (16, 16)) > 0 for one in (clean, shifted)]
    flips = (opened[0] != opened[1]).sum(dim=1)
    overlap, fine = found["value_token_iou"], found["value_kept_clean"] + found["value_kept_shifted"]
    assert int(flips.sum()) > 0
    assert torch.allclose((1 - overlap) / (1 + overlap) * fine / 4, flips.float(), atol=1e-4)


def test_hosts_are_refused_by_name() -> None:
    host = vits.made(lambda: vits.vit(img_size=(24, 32)))
    host.view = View((24, 32), 32)
    with pytest.raises(HostRefused, match="'learned_mixed_scale' does not take 'toy': its images of 24x32 pixels"):
        learn(host)
    plain = vits.made(vits.vit)
    with pytest.raises(HostRefused, match="those of 'toy' are reduced already; put it first"):
        learn(evit(plain, keep=0.5, blocks=(1,)))
    with pytest.raises(HostRefused, match="'learned_mixed_scale' does not take 'toy' after a transform that reduces tokens at the input"):
        applied(mixed_scale(plain), drawn())
