"""The law of crafting: what makes adversarial images during training leaves the model, its buffers, modes and generators as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.training.crafting import crafted_by


def batch() -> Batch:
    images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.tensor([0, 1, 0, 1]), ("a", "b", "c", "d"))


def model() -> nn.Module:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Flatten(), nn.Linear(20, 2))
    made[0].weight.requires_grad_(False)
    made[1].eval()  # a mixture of modes, as frozen statistics have
    return made


def signed(made: nn.Module, given: Batch, draws: Draws) -> Tensor:
    leaf = given.images.clone().requires_grad_(True)
    functional.cross_entropy(made(leaf), given.labels).backward()
    assert leaf.grad is not None
    return given.images + 0.1 * leaf.grad.sign()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_model_is_as_it_was(mode: str) -> None:
    made, given = model(), batch()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    modes, wanted = [one.training for one in made.modules()], [one.requires_grad for one in made.parameters()]
    generator = torch.random.get_rng_state()
    found = crafted_by(signed, made, given, Draws(0, "craft", given.ids), mode)  # type: ignore[arg-type]
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert [one.training for one in made.modules()] == modes
    assert [one.requires_grad for one in made.parameters()] == wanted
    assert all(one.grad is None for one in made.parameters())
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert not found.requires_grad


def test_a_gradient_that_is_there_stays() -> None:
    made, given = model(), batch()
    functional.cross_entropy(made(given.images), given.labels).backward()
    before = [None if one.grad is None else one.grad.clone() for one in made.parameters()]
    crafted_by(signed, made, given, Draws(0, "craft", given.ids))
    after = [one.grad for one in made.parameters()]
    assert all(one is None if kept is None else torch.equal(one, kept) for one, kept in zip(after, before, strict=True))


def test_the_mode_is_that_which_is_asked_for_and_comes_back_after_a_fault() -> None:
    made, given, seen = model(), batch(), []

    def fails(inner: nn.Module, given: Batch, draws: Draws) -> Tensor:
        seen.append([one.training for one in inner.modules()])
        raise RuntimeError("no room")

    modes = [one.training for one in made.modules()]
    for mode in ("train", "eval"):
        with pytest.raises(RuntimeError, match="no room"):
            crafted_by(fails, made, given, Draws(0, "craft", given.ids), mode)  # type: ignore[arg-type]
    assert seen == [[True] * 6, [False] * 6]
    assert [one.training for one in made.modules()] == modes


def test_images_of_another_shape_and_no_numbers_are_refused() -> None:
    made, given = model(), batch()
    with pytest.raises(ModelError, match=r"the shape \(4, 3, 2, 2\)"):
        crafted_by(lambda model, batch, draws: batch.images[:, :, :2, :2], made, given, Draws(0, "craft", given.ids))
    with pytest.raises(ModelError, match="are not numbers"):
        crafted_by(lambda model, batch, draws: batch.images / 0.0, made, given, Draws(0, "craft", given.ids))


def test_one_call_is_craft_loss_and_penalty() -> None:
    made, given = model().eval(), batch()
    draws = Draws.for_step(0, 3, given.ids)
    purposes: list[str] = []

    def penalty(inner: nn.Module, given: Batch, draws: Draws) -> Tensor:
        purposes.append(draws.stream)
        return inner[4].weight.square().sum()

    defense = Defense("signed", craft=signed, penalty=penalty)
    found = defense(made, given, draws)
    images = crafted_by(signed, made, given, draws.at("craft"))
    expected = functional.cross_entropy(made(images), given.labels) + made[4].weight.square().sum()
    assert torch.equal(found, expected)
    assert purposes == ["step 3/penalty"]
    found.backward()
    assert made[4].weight.grad is not None
