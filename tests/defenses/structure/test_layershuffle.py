"""LayerShuffle against forward passes written out block by block."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import vits
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.structure.layershuffle import slot_loss
from robustvit.errors import HostRefused
from robustvit.evaluation.loading import load_model
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.structure.slot_embedding import embed_slots
from robustvit.primitives.training.block_order import blocks_in_order, drawn_order, transformer_in
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.tensor([0, 1, 2, 3]), ("a", "b", "c", "d"))
ADDRESS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=3,num_heads=1"


def network(depth: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return vits.vit(depth=depth).eval()


def by_hand(vit: nn.Module, order: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the tokens after each slot."""
    tokens, after = vit.norm_pre(vit._pos_embed(vit.patch_embed(IMAGES))), []
    for index in order:
        tokens = vit.blocks[index](tokens)
        after.append(tokens)
    return vit.forward_head(vit.norm(tokens)), after


def step(number: int, ids: tuple[str, ...] = BATCH.ids) -> Draws:
    return Draws.for_step(0, number, ids)


def test_the_order_of_names_is_the_plain_forward_to_the_bit() -> None:
    vit = network()
    plain, names = vit(IMAGES), list(vit.state_dict())
    with blocks_in_order(vit, (0, 1, 2)):
        assert torch.equal(vit(IMAGES), plain)
    assert list(vit.state_dict()) == names


def test_blocks_compute_in_the_order_given_and_in_their_own_afterwards() -> None:
    vit = network()
    plain = vit(IMAGES)
    for order in ((2, 0, 1), (1, 0)):
        with blocks_in_order(vit, order):
            assert torch.equal(vit(IMAGES), by_hand(network(), order)[0])
    assert torch.equal(vit(IMAGES), plain)


def test_every_order_is_drawn_as_often_and_is_one_for_all_samples() -> None:
    orders = [drawn_order(step(number), 3) for number in range(600)]
    assert {order for order in set(orders) if orders.count(order) > 60} == set(itertools.permutations(range(3)))
    assert drawn_order(step(3, ("a",)), 8) == drawn_order(step(3, ("z", "y")), 8)


def test_the_loss_is_cross_entropy_in_the_order_of_the_step() -> None:
    vit, defense = network(), rv.load_defense("layershuffle")
    for number in range(3):
        order = drawn_order(step(number).at("loss"), 3)
        expected = functional.cross_entropy(by_hand(vit, order)[0], BATCH.labels)
        assert torch.equal(defense(vit, BATCH, step(number)), expected)


def test_slots_are_predicted_from_the_mean_token_after_each_block() -> None:
    vit = network()
    defense = rv.load_defense("layershuffle", kind="predict", weight=0.5)
    plain = copy.deepcopy(vit)
    defense.prepare(vit)
    order = drawn_order(step(1).at("loss"), 3)
    logits, after = by_hand(plain, order)
    expected = functional.cross_entropy(logits, BATCH.labels)
    for slot, index in enumerate(order):
        predicted = vit.slot_heads[index](after[slot].mean(dim=1)).softmax(dim=1)
        expected = expected - 0.5 * predicted[:, slot].log().sum() / (3 * len(BATCH))
    assert torch.allclose(defense(vit, BATCH, step(1)), expected, atol=1e-6)
    assert not any(block._forward_hooks for block in vit.blocks)
    exported = defense.export(vit)
    assert exported.state_dict().keys() == plain.state_dict().keys()
    assert hasattr(vit, "slot_heads")


def test_the_loss_of_slots_is_the_logarithm_of_their_number_for_heads_that_know_nothing() -> None:
    heads = [nn.Linear(4, 3) for _ in range(3)]
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    assert slot_loss([torch.randn(2, 5, 4)] * 3, heads).item() == pytest.approx(torch.tensor(3.0).log().item())


def test_a_block_is_told_its_slot_and_not_its_name() -> None:
    torch.manual_seed(0)
    vit = embed_slots(network(), 5).eval()
    with torch.no_grad():
        vit.blocks[0].slots.weight.normal_()
    table = vit.blocks[2].slots.weight
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(IMAGES)))
    for slot, index in enumerate((2, 0, 1)):
        layer = vit.blocks[index]
        joined = torch.cat((tokens, table[slot].view(1, 1, 5).repeat(4, 17, 1)), dim=2)
        tokens = layer.block(tokens + layer.projection(joined))
    with blocks_in_order(vit, (2, 0, 1)):
        assert torch.allclose(vit(IMAGES), vit.forward_head(vit.norm(tokens)), atol=1e-6)
    assert [block.slot for block in vit.blocks] == [0, 1, 2]
    assert len({id(block.slots) for block in vit.blocks}) == 1


@pytest.mark.parametrize(("kind", "block"), [("plain", "Block"), ("position", "SlottedBlock"), ("predict", "Block")])
def test_each_kind_trains_and_loads_again(kind: str, block: str, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    defense = f"layershuffle(kind={kind})"
    trained = train_from_spec(ADDRESS, "digits", out=out, defenses=(defense,), recipe=Recipe(epochs=1, batch_size=640)).model
    loaded = load_model(f"file:{out}")
    assert torch.equal(loaded(IMAGES), trained(IMAGES))
    assert type(loaded.model.blocks[0]).__name__ == block


def test_models_without_one_sequence_of_blocks_are_refused() -> None:
    with pytest.raises(HostRefused, match="'layershuffle' takes models with one sequence of `blocks`, and SwinTransformer has 2"):
        transformer_in(vits.swin(), "layershuffle")
    with pytest.raises(HostRefused, match="'layershuffle' takes timm's plain vision transformers"):
        rv.load_defense("layershuffle").prepare(vits.swin())
