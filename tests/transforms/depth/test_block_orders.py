"""Blocks in other orders and blocks left out, against calling them one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import vits

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import chance, keyed_by
from robustvit.primitives.lesions.block_sequence import why_no_block_sequence, with_blocks
from robustvit.primitives.lesions.seeded_choices import listed_orders
from robustvit.transforms.depth.block_order import block_order
from robustvit.transforms.depth.remove_blocks import remove_blocks
from robustvit.transforms.structure.slot_embedding import slot_embedding


def host(depth: int = 4) -> Classifier:
    return vits.made(lambda: vits.vit(depth=depth)).configure(tile=4)


def one_by_one(model: Classifier, pixels: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The logits of the blocks called in that order, in tiles of four."""
    vit: Any = model.model
    logits = []
    for part in pixels.split(4):
        full = torch.cat((part, part.new_zeros(4 - len(part), *part.shape[1:])))
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed((full - model.mean) / model.std)))
        for index in order:
            tokens = vit.blocks[index](tokens)
        logits.append(vit.forward_head(vit.norm(tokens))[: len(part)])
    return torch.cat(logits)


@pytest.mark.parametrize(("given", "order"), [
    ({"order": "sequential"}, (0, 1, 2, 3)), ({"order": "reversed"}, (3, 2, 1, 0)), ({"order": "swapped", "swap": 1}, (0, 2, 1, 3)),
    ({"order": "random", "index": 7}, listed_orders(4, 25)[7]), ({"order": "random", "count": 5, "seed": 3}, listed_orders(4, 5, 3)[0]),
])  # fmt: skip
def test_an_order_is_the_blocks_called_in_it(given: dict[str, Any], order: tuple[int, ...]) -> None:
    pixels = vits.images(5)
    assert torch.equal(block_order(host(), **given)(pixels), one_by_one(host(), pixels, order))


@pytest.mark.parametrize(("given", "order"), [
    ({"count": 0}, (0, 1, 2, 3)), ({"count": 1, "index": 2}, (0, 1, 3)), ({"blocks": (0, 3)}, (1, 2)), ({"count": 3, "index": 0}, (3,)),
])  # fmt: skip
def test_blocks_that_stay_compute_in_their_order(given: dict[str, Any], order: tuple[int, ...]) -> None:
    pixels = vits.images(5)
    assert torch.equal(remove_blocks(host(), **given)(pixels), one_by_one(host(), pixels, order))


def test_shuffled_remainders_hold_the_same_blocks() -> None:
    rest = [remove_blocks(host(6), count=2, shuffled=shuffled).model.blocks for shuffled in (False, True)]
    names = [[float(block.mlp.fc1.weight.sum()) for block in blocks] for blocks in rest]
    assert sorted(names[0]) == sorted(names[1])
    assert names[0] != names[1]


def test_a_sequence_in_order_is_the_host_to_the_bit() -> None:
    for make in ("plain", "registers", "distilled", "eva"):
        model, pixels = vits.made(vits.HOSTS[make]), vits.images(6)
        assert torch.equal(with_blocks(model, (0, 1))(pixels), model(pixels))


@pytest.mark.parametrize("make", [vits.HuggingFace, vits.Torchs])
def test_transformers_of_other_libraries_are_taken(make: Any) -> None:
    module = make()
    for number, parameter in enumerate(module.parameters()):  # torch's layers begin alike
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    model, pixels = vits.made(lambda: module, sharp=1.0), vits.images(4)
    count = 3 if make is vits.HuggingFace else 2
    assert why_no_block_sequence(model) == ""
    assert torch.equal(with_blocks(model, range(count))(pixels), model(pixels))
    turned = with_blocks(model, range(count)[::-1])
    assert not torch.allclose(turned(pixels), model(pixels), atol=1e-3)
    assert torch.equal(with_blocks(turned, range(count)[::-1])(pixels), model(pixels))


def test_each_sample_has_the_order_of_its_own_draws() -> None:
    model, pixels, draws = block_order(host(), order="drawn"), vits.images(9), Draws(0, "corruption/clean", tuple("abcdefghi"))
    logits, orders = keyed_by(model, draws)(pixels), listed_orders(4, 25)
    chosen = chance(draws).at("order of blocks").integers(1, low=0, high=24)[:, 0].tolist()
    assert len(set(chosen)) > 4
    for row, number in enumerate(chosen):
        assert torch.equal(logits[row : row + 1], one_by_one(host(), pixels[row : row + 1], orders[number]))
    some = torch.tensor([5, 2])
    assert torch.equal(keyed_by(model, draws[some])(pixels[some]), logits[some])


def test_one_listed_order_is_drawn_by_all_and_gradients_pass() -> None:
    model, pixels = block_order(host(), order="drawn", count=1, seed=2), vits.images(3).requires_grad_()
    bound = model.bound(Draws(0, "model", tuple("abc")))
    (gradient,) = torch.autograd.grad(bound(pixels).sum(), pixels)
    fixed = block_order(host(), order="random", count=1, seed=2)
    assert torch.equal(gradient, torch.autograd.grad(fixed(pixels).sum(), pixels)[0])
    with pytest.raises(ModelError, match="bind it to samples first"):
        model(pixels)


def test_drawn_orders_follow_precision_tiles_and_other_modules() -> None:
    model = block_order(host(), order="drawn")
    model.configure(tile=2, precision="bfloat16")
    assert {(one.tile, one.precision) for one in model.modules() if isinstance(one, Classifier)} == {(2, "bfloat16")}
    turned = block_order(model, order="reversed")
    assert type(turned) is type(model)
    assert model.outputs == 5


def test_blocks_that_know_their_slot_are_told_the_new_one() -> None:
    model = slot_embedding(host(), width=4)
    with torch.no_grad():
        model.model.blocks[0].slots.weight.normal_()
    turned = block_order(model, order="reversed")
    assert [block.slot for block in turned.model.blocks] == [0, 1, 2, 3]
    assert [block.slot for block in model.model.blocks] == [0, 1, 2, 3]
    assert torch.equal(turned.model.blocks[0].block.mlp.fc1.weight, model.model.blocks[3].block.mlp.fc1.weight)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: block_order(host(), order="swapped", swap=3), "swap is 3; model 'toy' has 4 blocks, so that it takes 0 to 2"),
    (lambda: block_order(host(), order="random", index=24), "index is 24; model 'toy' has 24 listed orders, 0 to 23"),
    (lambda: remove_blocks(host(), count=4), "model 'toy' has 4 blocks, of which at most 3 can be removed, not 4"),
    (lambda: remove_blocks(host(), blocks=(0, 1, 2, 3)), "at most 3 can be removed"),
    (lambda: remove_blocks(host(), blocks=(4,)), "has no block 4; it has 0 to 3"),
    (lambda: remove_blocks(host(), blocks=(2, 1, 2)), "remove_blocks: block 2 is named twice"),
    (lambda: remove_blocks(host(), count=1, index=4), "of 1 of 4 blocks 4 subsets are listed, 0 to 3"),
])  # fmt: skip
def test_what_is_not_there_is_refused(call: Any, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        call()


def test_two_blocks_are_exchanged_where_there_are_two() -> None:
    with pytest.raises(HostRefused, match="'block_order' exchanges two blocks, and 'toy' has one"):
        block_order(remove_blocks(host(), blocks=(0, 1, 2)), order="swapped")


@pytest.mark.parametrize("address", ["arch/hilo", "arch/cpvt"])
def test_a_sequence_of_blocks_of_maps_is_one_too(address: str) -> None:
    model = rv.load_model(f"{address}?img_size=16&patch_size=4&dim=12&heads=2&depth=3&num_classes=5")
    turned, images = block_order(model), torch.rand(2, 3, 16, 16)
    (stage,), (given,) = turned.model.stages, model.model.stages
    for mine, other in zip(stage.blocks, reversed(given.blocks), strict=True):
        assert torch.equal(mine.mlp.fc1.weight, other.mlp.fc1.weight)
    assert not torch.allclose(turned(images), model(images), rtol=0, atol=1e-8)
    assert len(remove_blocks(model, blocks=(1,)).model.stages[0].blocks) == 2


def test_models_of_stages_are_refused_by_name() -> None:
    for make, why in (("swin", "3"), ("cnn", "no")):
        refusal = f"'block_order' takes transformers of one sequence of blocks, and 'toy' is none: it has {why} sequences of blocks"
        with pytest.raises(HostRefused, match=refusal):
            block_order(vits.made(vits.HOSTS[make]))
