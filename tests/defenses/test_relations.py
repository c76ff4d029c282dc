"""Relation distillation: a reference in loops, its limits, whom it takes, and students that share weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.distillation.relations import alike, last_states, relation_loss
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import compose
from robustvit.primitives.draws import Draws
from robustvit.transforms.weight_sharing import weight_sharing

IMAGES, IDS = vits.images(3), tuple("abc")
BATCH = Batch(IMAGES, torch.tensor([0, 1, 2]), IDS)
DRAWS = Draws.for_step(0, 0, IDS)
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)  # those of vits.made


def host(**more: Any) -> Classifier:
    return vits.made(lambda: vits.vit(**{"depth": 2, "init_values": 0.3} | more))


def student(seed: int = 1, **more: Any) -> nn.Module:
    torch.manual_seed(seed)
    return rv.OnPixels(vits.vit(**{"depth": 2} | more), MEAN, STD).train()


def penalty_of(model: nn.Module, of: Classifier, **settings: Any) -> Tensor:
    return rv.load_defense("relation_distillation", teacher=of, **settings).penalty(model, BATCH, DRAWS)


def states(module: Any, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values of the last block, and its output, computed block by block."""
    tokens = module._pos_embed(module.patch_embed((images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]))
    for block in module.blocks[:-1]:
        tokens = block(tokens)
    last, width = module.blocks[-1], module.embed_dim
    normed = last.norm1(tokens)
    made = [
        normed @ last.attn.qkv.weight[i * width : (i + 1) * width].T + last.attn.qkv.bias[i * width : (i + 1) * width] for i in range(3)
    ]
    return made, last(tokens)


def by_loops(mine: Tensor, my: Tensor, others: Tensor, other: Tensor, heads: int) -> float:
    """The mean cross-entropy of relations of the first two from those of the last two, entry by entry."""
    total, count = 0.0, 0
    for row in range(len(mine)):
        for head in range(heads):
            for query in range(mine.shape[1]):
                rows = []
                for a, b in ((mine, my), (others, other)):
                    wide = a.shape[2] // heads
                    part = slice(head * wide, head * wide + wide)
                    scores = [(a[row, query, part] @ b[row, key, part]).item() / math.sqrt(wide) for key in range(a.shape[1])]
                    top = max(scores)
                    total_of = sum(math.exp(score - top) for score in scores)
                    rows.append([math.exp(score - top) / total_of for score in scores])
                total -= sum(q * math.log(p) for p, q in zip(*rows, strict=True))
                count += 1
    return total / count


@pytest.mark.parametrize("heads", [1, 4])
def test_the_penalty_is_that_of_the_paper_entry_by_entry(heads: int) -> None:
    of, model = host(embed_dim=16), student()
    with torch.no_grad():
        found = penalty_of(model, of, heads=heads, attention=0.7, hidden=0.2).item()
        (mine, my_hidden), (others, other_hidden) = states(model.model, IMAGES), states(of.model, IMAGES)
    relations = [by_loops(mine[i], mine[j], others[i], others[j], heads) for i in range(3) for j in range(3)]
    expected = 0.7 * sum(relations) / 9 + 0.2 * by_loops(my_hidden, my_hidden, other_hidden, other_hidden, heads)
    assert found == pytest.approx(expected, rel=1e-4)


def test_its_limits() -> None:
    of = host()
    with torch.no_grad():
        found, goal = penalty_of(rv.OnPixels(of.model, MEAN, STD), of).item(), last_states(rv.OnPixels(of.model, MEAN, STD), IMAGES)
        relations = [(a @ b.transpose(1, 2) / 24**0.5).softmax(dim=-1) for a in goal.qkv for b in goal.qkv]
        hidden = (goal.hidden @ goal.hidden.transpose(1, 2) / 24**0.5).softmax(dim=-1)
    entropy = sum(torch.special.entr(one).sum(dim=-1).mean().item() for one in relations) / 9
    assert found == pytest.approx(entropy + 0.1 * torch.special.entr(hidden).sum(dim=-1).mean().item(), rel=1e-4), "the least is entropy"
    assert found < penalty_of(student(), of).item()
    nothing = rv.load_defense("relation_distillation", teacher=of, attention=0, hidden=0)
    assert not nothing.sets("penalty")


def test_the_least_penalty_has_no_gradient_and_others_have_that_of_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, others = (torch.randn(2, 4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    at_goal = others.clone().requires_grad_()
    relation_loss([at_goal], [others], [(0, 0)], 2).backward()
    assert at_goal.grad is not None
    assert at_goal.grad.abs().max() < 1e-12
    given = mine.clone().requires_grad_()
    relation_loss([given], [others], [(0, 0)], 2).backward()
    step = torch.zeros_like(mine)
    step[1, 2, 3] = 1e-5
    up, down = (relation_loss([mine + sign * step], [others], [(0, 0)], 2) for sign in (1, -1))
    assert given.grad is not None
    assert given.grad[1, 2, 3].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5)


def test_the_student_learns_and_the_teacher_does_not() -> None:
    of, model = host(), student()
    penalty_of(model, of).backward()
    assert all(one.grad is None for one in of.model.parameters())
    grads = {name: one.grad for name, one in model.model.named_parameters()}
    assert grads["blocks.1.attn.qkv.weight"].abs().sum() > 0
    assert grads["blocks.1.mlp.fc2.weight"].abs().sum() > 0
    assert grads["head.weight"] is None
    assert not model.model.blocks[1]._forward_hooks
    assert not model.model.blocks[1].attn.qkv._forward_hooks


def test_prefix_tokens_take_part_where_both_have_as_many() -> None:
    both = alike(last_states(student(), IMAGES), last_states(student(2), IMAGES))
    assert [one.hidden.shape[1] for one in both] == [17, 17]
    pooled = rv.OnPixels(vits.pooled(), MEAN, STD)
    mine = last_states(student(), IMAGES)
    first, second = alike(mine, last_states(pooled, IMAGES))
    assert [one.hidden.shape[1] for one in (first, second)] == [16, 16]
    assert torch.equal(first.qkv[2], mine.qkv[2][:, 1:])
    with pytest.raises(BadParameter, match="the student has 4 of patches, and the teacher 16"):
        penalty_of(student(patch_size=16), host())


def test_images_are_resized_to_the_teacher() -> None:
    assert penalty_of(student(), host(img_size=32, patch_size=8)).isfinite()
    small = torch.nn.functional.interpolate(IMAGES, (16, 16), mode="area")
    torch.manual_seed(0)
    model = rv.OnPixels(vits.vit(img_size=16, patch_size=4, depth=1), MEAN, STD)
    found = rv.load_defense("relation_distillation", teacher=host()).penalty(model, BATCH.with_images(small), DRAWS)
    assert found.isfinite(), "4x4 patches of each"


def test_the_teacher_sees_every_image_once_and_none_twice() -> None:
    of = host()
    of.tile = 2
    with torch.no_grad():
        whole = penalty_of(student().eval(), of).item()
    assert whole == pytest.approx(penalty_of(student().eval(), host()).item(), rel=1e-6), "tiles of a Classifier do not matter"


def test_a_student_that_shares_weights_is_trained_and_goes_on_sharing_them() -> None:
    of = host(depth=4)
    made = weight_sharing(host(depth=4), repeat=2)
    vit: Any = made.model.requires_grad_(True).train()
    model, shared = rv.OnPixels(vit, MEAN, STD), vit.blocks[2].attn.qkv
    assert shared is vit.blocks[3].attn.qkv
    defense = compose([rv.load_defense("plain"), rv.load_defense("relation_distillation", teacher=of, attention=20, hidden=2)])
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-3)
    before, penalties = shared.weight.clone(), []
    for step in range(12):
        draws = Draws.for_step(0, step, IDS)
        penalties.append(penalty_of(model, of).item())
        optimizer.zero_grad()
        defense(model, BATCH, draws).backward()
        optimizer.step()
    assert penalties[-1] < penalties[0]
    assert not torch.equal(shared.weight, before)
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        layers = [block.get_submodule(name) for block in vit.blocks]
        assert layers[0] is layers[1]
        assert layers[2] is layers[3]
        assert layers[0] is not layers[2]


def test_a_shared_layer_is_read_where_the_last_block_calls_it() -> None:
    vit: Any = weight_sharing(host(depth=3), repeat=3).model
    with torch.no_grad():
        found, (expected, hidden) = last_states(rv.OnPixels(vit, MEAN, STD), IMAGES), states(vit, IMAGES)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found.qkv, expected, strict=True))
    assert torch.allclose(found.hidden, hidden, atol=1e-4)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(HostRefused, match="takes models with one sequence of `blocks`"):
        rv.load_defense("relation_distillation", teacher=vits.made(vits.small_cnn))
    with pytest.raises(HostRefused, match="takes blocks whose attention has a layer `qkv`, and a Linear has none"):
        penalty_of(Odd(), host())
    with pytest.raises(BadParameter, match="a width is 24, which 5 heads do not divide"):
        penalty_of(student(), host(), heads=5)
    with pytest.raises(HostRefused, match="takes models that call their last block as a whole, which Idle does not"):
        penalty_of(Idle(), host())


class Idle(nn.Module):
    """A model that calls none of its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = vits.vit().blocks

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Odd(nn.Module):
    """A model whose blocks are no transformer's."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(3, 3))
