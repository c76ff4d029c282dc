"""DIMAP's laws, and its scores against a loop."""

from __future__ import annotations

import pytest
import torch
import vits
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.masks import MaskedWeight
from robustvit.transforms.pruning.dimap import dimap, module_scores

MODULES = {"qkv": ["attn.qkv"], "projection": ["attn.proj"], "mlp": ["mlp.fc1", "mlp.fc2"]}


def weights_of(model: Classifier, module: str) -> Tensor:
    """All weights of a module of the network, in any order."""
    blocks = model.model.blocks
    return torch.cat([block.get_submodule(name).weight.flatten() for block in blocks for name in MODULES[module]])


def random(count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def test_scores_are_those_of_a_loop() -> None:
    weights = random(40)
    for weight, score in zip(weights.tolist(), module_scores(weights).tolist(), strict=True):
        assert score == pytest.approx(weight**2 / sum(other**2 for other in weights.tolist() if abs(other) >= abs(weight)), rel=1e-12)


def test_scores_rise_with_magnitude_and_the_largest_weight_scores_exactly_one() -> None:
    weights = random(1000)
    scores = module_scores(weights)[weights.abs().argsort()]
    assert bool((scores.diff() > 0).all())
    assert float(scores[-1]) == 1.0


def test_scores_do_not_depend_on_scale() -> None:
    weights = random(1000)
    assert torch.equal(module_scores(weights), module_scores(1024 * weights))
    assert torch.allclose(module_scores(weights), module_scores(3 * weights), rtol=1e-5)


def test_of_equal_weights_the_earlier_score_less_and_zeros_score_nothing() -> None:
    assert module_scores(torch.tensor([2.0, 0.0, -2.0, 2.0])).tolist() == [1 / 3, 0.0, 1 / 2, 1.0]
    assert module_scores(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_sums_are_exact_where_float32_would_lose_the_small_weights() -> None:
    weights = torch.cat((torch.full((100_000,), 1e-3), torch.tensor([10.0])))
    assert float(module_scores(weights)[0]) == pytest.approx(1e-6 / (100 + 100_000 * 1e-6), rel=1e-6)


@pytest.mark.parametrize("amount", [0.3, 0.999])
@pytest.mark.parametrize("modules", ["network", "block"])
def test_counts_are_exact_and_no_module_is_emptied(amount, modules) -> None:
    made = dimap(vits.made(vits.vit), amount=amount, modules=modules)
    kept = {name: weights_of(made, name) != 0 for name in MODULES}
    total = sum(one.numel() for one in kept.values())
    assert sum(int((~one).sum()) for one in kept.values()) == round(amount * total)
    assert all(bool(one.any()) for one in kept.values())


def test_the_mask_is_that_of_one_ranking_over_the_modules_of_the_network() -> None:
    host = vits.made(vits.vit)
    scores = torch.cat([module_scores(weights_of(host, name)) for name in MODULES])
    found = torch.cat([weights_of(dimap(host, amount=0.6), name) for name in MODULES])
    assert torch.equal((found == 0).nonzero().flatten(), scores.argsort(stable=True)[: round(0.6 * len(scores))].sort().values)


def test_a_module_that_is_scaled_is_pruned_alike() -> None:
    host, scaled = vits.made(vits.vit), vits.made(vits.vit)
    for block in scaled.model.blocks:
        block.attn.proj.weight.mul_(64.0)
    assert torch.equal(weights_of(dimap(host), "projection") == 0, weights_of(dimap(scaled), "projection") == 0)


@pytest.mark.parametrize("make", ["plain", "swin", "eva", "distilled"])
def test_the_rest_of_the_network_stays_dense(make) -> None:
    model = dimap(vits.made(vits.HOSTS[make])).model
    masked = [name for name, layer in model.named_modules() if isinstance(layer, MaskedWeight)]
    assert masked
    assert not [name for name in masked if "head" in name or "norm" in name or "embed" in name or "downsample" in name]


def test_modules_of_blocks_are_told_apart() -> None:
    """The largest weight of every block's MLP survives, where modules are those of blocks."""
    host = vits.made(vits.vit)
    for block in dimap(host, amount=0.999, modules="block").model.blocks:
        assert bool(block.mlp.fc1.weight.any()) or bool(block.mlp.fc2.weight.any())
