"""The laws of every defense: what it makes depends on its draws alone, crafting leaves no trace, and what is exported is a classifier."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.spec.registry import entries, lookup

SETTINGS: dict[str, dict[str, Any]] = {
    "ablations": {"width": 8},
    "attack_at": {"attack": {"fgsm": {"eps": "8/255"}}},
    "cutmix": {"classes": 5},
    "mixup": {"classes": 5},
    "pixmix": {"mixing": "fractals"},
    "universal_patch_at": {"size": 4},
    "consistency": {"sigma": 0.25},
    "gaussian": {"sigma": 0.25},
    "macer": {"sigma": 0.25},
    "smoothadv": {"sigma": 0.25},
    "convolutional_start": {"kernel": 1},  # the host has two heads
    "droppos": {"width": 16, "heads": 2, "mask": 0.5},
}
TAKES_EPS = {"pgd_at", "trades", "mart", "fast_at", "nfgsm", "free_at", "smoothadv"}
_TEACHER = "needs a teacher of these classes: tests/defenses/test_distillation.py and its neighbours"
SKIPPED = {
    "quantisation_aware": "of quantised models: tests/defenses/test_quantisation_aware.py",
    "distillation": _TEACHER,
    "relation_distillation": _TEACHER,
    "scalekd": _TEACHER,
}
MEAN = STD = (0.5, 0.5, 0.5)


def made(name: str) -> Defense:
    if name == "lora":
        pytest.importorskip("peft", reason="peft (the extra [peft]) is not installed")
    settings = {**SETTINGS.get(name, {}), **({"eps": "8/255"} if name in TAKES_EPS else {})}
    settings |= {"steps": 2} if name in ("pgd_at", "trades", "mart", "smoothadv") else {}
    return rv.load_defense(name, **settings)


def host() -> nn.Module:
    torch.manual_seed(0)
    return vits.vit().train()


def batch(count: int = 6) -> Batch:
    images = torch.rand(count, 3, vits.SIDE, vits.SIDE, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(count) % 5, tuple(map(str, range(count))), progress=TrainingStep(3, 20, 10))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(one, second[name]) for name, one in first.items())


@pytest.mark.parametrize("name", sorted(set(entries("defense")) - set(SKIPPED)))
def test_the_laws_of_a_defense(name: str) -> None:
    """Of a step as the loop takes it, up to the optimizer's, twice."""
    losses, images = [], []
    for _ in range(2):
        defense = made(name)
        torch.manual_seed(7)
        model = defense.prepare(host())
        read, draws, before = OnPixels(model, MEAN, STD), Draws.for_step(0, 3, batch().ids), state_of(model)
        given = defense.batch(batch(), draws.at("batch"))
        generator = torch.random.get_rng_state()
        shown = defense.craft_for(read, given, draws)
        assert same(state_of(model), before), "crafting moves no weight and no buffer"
        assert torch.equal(torch.random.get_rng_state(), generator)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert read.training
        torch.manual_seed(3)
        loss = defense.objective(read, shown, draws)
        assert loss.dim() == 0
        assert torch.isfinite(loss)
        assert all(torch.equal(one, before[key]) for key, one in model.named_parameters()), "a loss moves no weight"
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None and parameter.grad.any()]
        asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert len(trained) > min(3, len(asking) - 1)
        losses.append(loss.detach())
        images.append(shown.shown)
    assert torch.equal(losses[0], losses[1]), "the same draws give the same loss"
    assert torch.equal(images[0], images[1])


@pytest.mark.parametrize("name", sorted(set(entries("defense")) - set(SKIPPED)))
def test_what_is_exported_is_a_classifier_of_the_same_kind(name: str) -> None:
    defense, model = made(name), host()
    classes = defense.prepare(copy.deepcopy(model))
    exported = defense.export(classes).eval()
    logits = exported(torch.rand(2, 3, vits.SIDE, vits.SIDE))
    assert logits.shape == (2, 5)
    if not defense.surgery:
        assert set(exported.state_dict()) == set(model.state_dict()), "it loads strictly into the architecture"


def test_every_defense_names_its_source() -> None:
    for name in entries("defense"):
        entry = lookup("defense", name)
        assert entry.source, name
        assert entry.family, name
