"""How a step is computed: in parts, in bfloat16, with rates by layer; and what a running mean of the weights keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.draws import Draws
from robustvit.spec.view import View
from robustvit.training.loop import Trained, train
from robustvit.training.loss_scale import LossScale
from robustvit.training.optimization import optimizer_of, set_rate
from robustvit.training.recipe import Precision, Recipe

STILL = {"rotation": 0.0, "scale": 0.0, "shift": 0.0}


def data() -> ArrayDataset:
    labels = np.arange(14) % 2
    images = np.random.default_rng(0).integers(0, 256, (14, 8, 8, 3), dtype=np.uint8)
    return array_dataset("noise", images, labels, ids=[f"noise/{i}" for i in range(14)], classes=["0", "1"])


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.GELU(), nn.Linear(12, 2)).to(dtype)


PLAIN = Defense("none")


def trained(recipe: Recipe, defense: Defense = PLAIN) -> Trained:
    return train(model(), data(), view=View(size=(8, 8), resize=8), mean=(0.5,) * 3, std=(0.5,) * 3, defense=defense, recipe=recipe)


def noisy(sizes: list[int]) -> Defense:
    """A loss whose draws and penalty depend on the samples: the mean over a batch is that over its parts."""

    def loss(made: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
        sizes.append(len(batch))
        moved = batch.images + 0.3 * draws.uniform(*batch.images.shape[1:])
        return nn.functional.cross_entropy(made(moved), batch.labels)

    return Defense("noisy", loss=loss, penalty=lambda made, batch, draws: made(batch.images).square().mean())


def test_a_step_in_parts_is_the_step_of_the_whole_batch() -> None:
    whole, parts = list[int](), list[int]()
    one = trained(Recipe(epochs=2, batch_size=7), noisy(whole))
    three = trained(Recipe(epochs=2, batch_size=7, accumulate=3), noisy(parts))
    assert (whole, parts) == ([7] * 4, [3, 3, 1] * 4)
    assert three.losses == pytest.approx(one.losses, rel=1e-6)
    for first, second in zip(one.model.parameters(), three.model.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_what_is_kept_with_an_ema_is_the_running_mean_of_the_weights_after_every_step() -> None:
    seen: list[torch.Tensor] = []
    watch = Defense("watch", after_step=lambda made: seen.append(made[1].weight.detach().clone()))
    kept = trained(Recipe(epochs=2, batch_size=7, ema=0.75), watch).model
    expected = seen[0]
    for after in seen[1:]:
        expected = 0.75 * expected + 0.25 * after
    assert torch.allclose(kept[1].weight, expected, atol=1e-7)
    assert not torch.allclose(kept[1].weight, seen[-1], atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_computes_the_model_in_it_and_keeps_weights_in_float32(precision: Precision) -> None:
    seen: set[torch.dtype] = set()

    def step(closure: Closure, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        loss = closure()
        seen.update(one.grad.dtype for group in optimizer.param_groups for one in group["params"])
        optimizer.step()
        return loss

    outputs: set[torch.dtype] = set()

    def loss(made: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
        logits = made(batch.images)
        outputs.add(logits.dtype)
        return nn.functional.cross_entropy(logits.float(), batch.labels)

    done = trained(Recipe(epochs=2, batch_size=7, precision=precision), Defense("watch", loss=loss, step=step))
    assert (seen, outputs) == ({torch.float32}, {getattr(torch, precision)})
    assert done.losses == pytest.approx(trained(Recipe(epochs=2, batch_size=7)).losses, rel=0.05)
    assert next(done.model.parameters()).dtype == torch.float32


def test_gradients_too_small_for_float16_are_not_lost() -> None:
    """The gradient of a logit is about 1e-9 here, below the least float16, 6e-8; AdamW would leave the weights as they are."""

    def loss(made: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
        return made(batch.images).float().mean() * 1e-8

    recipe = Recipe(epochs=1, batch_size=14, weight_decay=0.0, warmup=0.0, precision="float16", **STILL)
    moved = trained(recipe, Defense("small", loss=loss)).model
    wanted = trained(replace(recipe, precision="float32"), Defense("small", loss=loss)).model
    for first, second, before in zip(moved.parameters(), wanted.parameters(), model().parameters(), strict=True):
        assert torch.allclose(first - before, second - before, atol=2e-4)
    assert not torch.equal(wanted[1].weight, model()[1].weight)  # type: ignore[index, arg-type]


def overflowing(at: float) -> tuple[nn.Linear, Callable[[float], None]]:
    layer = nn.Linear(1, 1)

    def backward(factor: float) -> None:
        layer.zero_grad()
        (layer(torch.ones(1, 1)).sum() * factor).backward()
        if factor > at:
            assert layer.weight.grad is not None
            layer.weight.grad.fill_(torch.inf)

    return layer, backward


def test_the_factor_is_halved_until_gradients_are_finite_and_doubled_after_2000_that_were() -> None:
    layer, backward = overflowing(at=1000.0)
    scaling, seen = LossScale.of("float16"), []
    for _ in range(2003):
        backward(scaling.factor)
        while not scaling.undone(layer.parameters()):
            seen.append(scaling.factor)
            backward(scaling.factor)
        assert layer.weight.grad == 1.0
    assert seen == [2.0**power for power in range(15, 8, -1)] + [512.0]
    assert (scaling.factor, scaling.steady) == (512.0, 3)


def test_gradients_that_overflow_whatever_the_factor_are_told() -> None:
    layer, backward = overflowing(at=0.0)
    scaling = LossScale.of("float16")
    backward(1.0)
    for _ in range(30):
        assert not scaling.undone(layer.parameters())
    assert scaling.factor == 2.0**-14
    with pytest.raises(ModelError, match="gradients overflow in float16, whatever"):
        scaling.undone(layer.parameters())


def test_nothing_is_scaled_in_other_precisions() -> None:
    layer, backward = overflowing(at=0.0)
    scaling = LossScale.of("bfloat16")
    backward(1.0)
    assert scaling.undone(layer.parameters())
    assert (scaling.factor, scaling.steady) == (1.0, 0)


def test_rates_fall_by_layer_from_the_head_to_the_embedding() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=2, num_classes=2)
    recipe = Recipe(epochs=1, lr=1.0, warmup=0.0, layer_decay=0.5)
    optimizer = optimizer_of(vit, recipe)
    set_rate(optimizer, recipe, 0.0)
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    decays = {id(one): group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}
    found = [
        rates[id(one)] for one in (vit.head.weight, vit.blocks[1].mlp.fc1.weight, vit.blocks[0].norm1.bias, vit.patch_embed.proj.weight)
    ]
    assert found == pytest.approx([1.0, 0.5, 0.25, 0.125])
    assert (decays[id(vit.blocks[0].norm1.bias)], decays[id(vit.head.weight)]) == (0.0, recipe.weight_decay)
    with pytest.raises(BadParameter, match=r"a Sequential does not say which layers it has .* leave it at 1"):
        optimizer_of(model(), recipe)


@pytest.mark.parametrize(("name", "value"), [("accumulate", 0), ("accumulate", 65), ("ema", 1.0), ("clip", 0.0), ("layer_decay", 1.5)])
def test_a_recipe_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(BadParameter, match=f"training's {name} is"):
        Recipe(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match="'float8'; it takes float32, bfloat16 or float16"):
        Recipe(precision="float8")  # type: ignore[arg-type]
