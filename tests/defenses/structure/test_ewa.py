"""Experts weights averaging: the partition, the average step by hand, the limits, and the plain model that is left."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import vits
from torch import nn

import robustvit as rv
from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.loading import load_model
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.draws import Draws
from robustvit.primitives.structure.experts import Experts, with_experts, without_experts
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

ADDRESS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=2,num_heads=1"
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def experts(count: int) -> Experts:
    """Experts of one number each: expert i multiplies tokens by i + 1."""
    module = Experts(nn.Linear(1, 1, bias=False), count)
    with torch.no_grad():
        for index, one in enumerate(module.experts):
            one.weight.fill_(index + 1)
    return module


@pytest.mark.parametrize(("tokens", "counts"), [(12, [4, 4, 4]), (14, [5, 5, 4])])
def test_every_token_is_computed_once_by_one_expert_of_equal_shares(tokens: int, counts: list[int]) -> None:
    torch.manual_seed(0)
    module = experts(3).train()
    given = torch.arange(1.0, tokens + 1).view(2, -1, 1)
    first, second = ((module(given) / given).flatten().round().int().tolist() for _ in range(2))
    assert [first.count(index) for index in (1, 2, 3)] == counts
    assert first != second, "the division is drawn anew"


def test_each_token_meets_each_expert_as_often() -> None:
    torch.manual_seed(0)
    module = experts(2).train()
    met = torch.stack([module(torch.ones(1, 6, 1)).flatten() for _ in range(400)])
    assert torch.allclose(met.mean(dim=0), torch.full((6,), 1.5), atol=0.1)


def test_in_evaluation_it_is_the_mlp_of_the_mean_weights() -> None:
    module = Experts(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)), 3)
    for one in module.experts:
        for parameter in one.parameters():
            nn.init.normal_(parameter)
    tokens = torch.randn(2, 5, 3)
    plain = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3))
    plain.load_state_dict({name: sum(one.state_dict()[name] for one in module.experts) / 3 for name in plain.state_dict()})
    assert torch.allclose(module.eval()(tokens), plain(tokens), atol=1e-6)
    assert torch.allclose(module.collapsed()(tokens), plain(tokens), atol=1e-6)


def test_the_average_step_by_hand() -> None:
    module = experts(3)
    module.average(0.3)
    found = [one.weight.item() for one in module.experts]
    assert found == pytest.approx([0.7 * 1 + 0.3 * 2.5, 0.7 * 2 + 0.3 * 2.0, 0.7 * 3 + 0.3 * 1.5])
    assert sum(found) == pytest.approx(6.0), "the mean stays"
    module.average(1 - 1 / 3)
    assert [one.weight.item() for one in module.experts] == pytest.approx([2.0] * 3), "at 1 − 1/E all are the mean"


def test_the_share_rises_over_training() -> None:
    defense = rv.load_defense("ewa", experts=2, share=0.4, every=1)
    batch = Batch(IMAGES, torch.arange(4), tuple("abcd"))
    for done, share in ((0, 0.0), (5, 0.2), (10, 0.4)):
        module = nn.Sequential(experts(2))
        defense.batch(batch.at(TrainingStep(done, 10, 1)), Draws.for_step(0, done, batch.ids))
        defense.after_step(module)
        assert [float(one.weight.detach()) for one in module[0].experts] == pytest.approx([1 + share, 2 - share])


def test_experts_are_in_every_second_block_and_the_last() -> None:
    vit = with_experts(vits.vit(depth=4), 3, 2)
    assert [isinstance(block.mlp, Experts) for block in vit.blocks] == [False, True, False, True]
    mlps = vit.blocks[1].mlp.experts
    assert all(torch.equal(mlps[0].fc1.weight, one.fc1.weight) for one in mlps)
    assert mlps[0].fc1.weight is not mlps[1].fc1.weight


def test_the_collapsed_model_loads_into_timm_and_has_its_operations() -> None:
    plain = vits.vit(depth=2).eval()
    made = with_experts(copy.deepcopy(plain), 3, 1)
    for part in made.modules():
        if isinstance(part, Experts):
            nn.init.normal_(part.experts[1].fc1.weight)
    left = without_experts(made).eval()
    fresh = vits.vit(depth=2).eval()
    fresh.load_state_dict(left.state_dict(), strict=True)
    assert torch.allclose(fresh(IMAGES), made.eval()(IMAGES), atol=1e-5)
    assert isinstance(made.blocks[0].mlp, Experts), "the model that is trained on keeps its experts"
    assert type(left.blocks[0].mlp) is type(plain.blocks[0].mlp)


def test_one_expert_is_plain_training_to_the_bit_and_what_is_kept_is_plain(tmp_path) -> None:
    recipe = Recipe(epochs=1, batch_size=320)
    trained = {}
    for name, defense in (("plain", "plain(smoothing=0)"), ("one", "ewa(experts=1, every=1)"), ("many", "ewa(experts=3, every=1)")):
        out = tmp_path / f"{name}.safetensors"
        trained[name] = train_from_spec(ADDRESS, "digits", out=out, defenses=(defense,), recipe=recipe, stored="float32").model
        module = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, patch_size=16, embed_dim=8, depth=2, num_heads=1)
        module.load_state_dict(load_model(f"file:{out}").model.state_dict(), strict=True)
    states = {name: one.model.state_dict() for name, one in trained.items()}
    assert all(torch.equal(value, states["one"][key]) for key, value in states["plain"].items())
    assert not all(torch.equal(value, states["many"][key]) for key, value in states["plain"].items())
    assert count(trained["many"].model, (32, 32)) == count(trained["plain"].model, (32, 32))
