"""X-Pruner, reduced: masks against finite differences of their objective, budgets against counted MACs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch.nn import functional

from robustvit.evaluation.cost.macs import count
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.transforms.pruning.xprune import fit_masks, regulariser, units_of, within_budget, xprune
from robustvit.transforms.weight_sharing import weight_sharing

TOKENS, WIDTH, DEPTH, HEADS, NEURONS = 17, 24, 2, 4, 96
HEAD = WIDTH // HEADS * (4 * TOKENS * WIDTH + 2 * TOKENS**2)
NEURON = 2 * TOKENS * WIDTH
FIT: dict[str, Any] = {"keep": 0.5, "remove": True, "samples": 10}


class Noise:
    """A data set of noise that is never opened."""

    name = fingerprint = "noise"
    ids = tuple(f"n/{i}" for i in range(10))

    def __len__(self) -> int:
        return len(self.ids)


def labelled(host: Classifier) -> Any:
    """Loads noise that is labelled as the host classifies it."""

    def load(data: Noise, positions: np.ndarray) -> Batch:
        images = vits.images(10)[positions]
        return Batch(images, host(images).argmax(dim=1), tuple(data.ids[i] for i in positions))

    return load


def host(sharp: float = 6.0) -> Classifier:
    return vits.made(lambda: vits.vit(depth=DEPTH, num_heads=HEADS), sharp)


def random_masks(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"heads": HEADS, "neurons": NEURONS}
    return {f"{kind}.{i}": torch.rand(size, 5, generator=generator) for kind, size in sizes.items() for i in range(DEPTH)}


def learned(model: Classifier, **settings: Any) -> dict[str, torch.Tensor]:
    about = {"sparsity": 1.0, "smoothness": 1.0, "epochs": 1} | FIT | settings
    return fit_masks(model, labelled(model), Draws(0, "t", ["t"]), calibration=Noise(), **about)


def objective(model: Classifier, logits: dict[str, torch.Tensor], sparsity: float, smoothness: float) -> float:
    """The objective of X-Pruner with one image at a time, masks read class by class in loops."""
    masks = {name: value.sigmoid() for name, value in logits.items()}
    images = vits.images(10)
    labels, total = model(images).argmax(dim=1), 0.0
    for image, label in zip(images, labels, strict=True):
        hooks = []
        for i, block in enumerate(model.model.blocks):
            for layer, mask in ((block.attn.proj, masks[f"heads.{i}"]), (block.mlp.fc2, masks[f"neurons.{i}"])):
                channel = torch.cat([mask[unit, label].expand(layer.in_features // len(mask)) for unit in range(len(mask))])
                hooks.append(layer.register_forward_pre_hook(lambda _, tokens, channel=channel: (tokens[0] * channel,)))
        total += float(functional.cross_entropy(model(image[None]), label[None])) / 10
        for hook in hooks:
            hook.remove()
    mean = sum(float(mask.mean()) for mask in masks.values()) / len(masks)
    spread = sum(float(np.mean([np.var(row.double().numpy(), ddof=1) for row in mask])) for mask in masks.values()) / len(masks)
    return total + sparsity * mean + smoothness * spread


@pytest.mark.parametrize(("sparsity", "smoothness"), [(0.0, 0.0), (2.0, 3.0)])
def test_a_step_goes_down_the_objective(sparsity, smoothness) -> None:
    """Adam's first step is its rate, 0.1, against the sign of the gradient."""
    model = host(2.0).double()
    found = {name: torch.logit(mask.double()) for name, mask in learned(model, sparsity=sparsity, smoothness=smoothness).items()}
    start = {name: torch.full_like(mask, 2.0) for name, mask in found.items()}
    for name, unit, label in (
        ("heads.0", 1, int(model(vits.images(1)).argmax())),
        ("heads.1", 3, 0),
        ("neurons.0", 7, 2),
        ("neurons.1", 50, 1),
    ):
        ends = []
        for sign in (1, -1):
            moved = {key: value.clone() for key, value in start.items()}
            moved[name][unit, label] += sign * 1e-3
            ends.append(objective(model, moved, sparsity, smoothness))
        step = float(found[name][unit, label] - 2.0)
        assert step == pytest.approx(-0.1 * np.sign(ends[0] - ends[1]), abs=2e-3) or abs(ends[0] - ends[1]) < 1e-9


def test_the_regulariser_is_the_mean_mask_and_the_variance_over_classes() -> None:
    masks = [torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.tensor([[0.2, 0.2], [0.2, 0.2], [0.2, 0.2]])]
    assert float(regulariser(masks, 2.0, 0.0)) == pytest.approx(2 * (0.5 + 0.2) / 2)
    assert float(regulariser(masks, 0.0, 4.0)) == pytest.approx(4 * (np.var([0.0, 1.0], ddof=1) / 2 + 0.0) / 2)


def test_units_without_effect_score_least() -> None:
    model = host()
    model.model.blocks[0].attn.proj.weight[:, 6:12] = 0
    model.model.blocks[1].mlp.fc2.weight[:, :10] = 0
    found = learned(model, epochs=30, smoothness=0.0, sparsity=0.5)
    heads, neurons = found["heads.0"].mean(dim=1), found["neurons.1"].mean(dim=1)
    assert int(heads.argmin()) == 1
    assert float(neurons[:10].max()) < float(neurons[10:].median())


def test_smoothness_brings_the_masks_of_classes_together() -> None:
    free, smooth = (learned(host(), epochs=20, smoothness=weight)["heads.0"].var(dim=1).mean() for weight in (0.0, 1000.0))
    assert float(smooth) < 0.5 * float(free)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.8, 0.999, 1.0])
def test_the_budget_of_macs_is_kept_and_used(keep) -> None:
    model, masks = host(), random_masks()
    prunable = DEPTH * (HEADS * HEAD + NEURONS * NEURON)
    rest = count(model.model, (32, 32)).macs - prunable
    left = count(xprune(model, masks, calibration=Noise(), keep=keep).model, (32, 32)).macs - rest
    least = DEPTH * (HEAD + NEURON)
    assert left <= max(least, keep * prunable)
    assert left > min(keep * prunable, prunable) - HEAD - 1 or left == least


def test_units_of_highest_scores_stay() -> None:
    scores = [torch.tensor([0.9, 0.1, 0.5]), torch.tensor([0.2, 0.3])]
    assert [one.int().tolist() for one in within_budget(scores, [10, 1], 0.67)] == [[1, 0, 1], [0, 1]]
    assert [one.int().tolist() for one in within_budget(scores, [10, 1], 22 / 32)] == [[1, 0, 1], [1, 1]]
    assert [one.int().tolist() for one in within_budget(scores, [10, 1], 0.01)] == [[1, 0, 0], [0, 1]]
    assert [one.int().tolist() for one in within_budget([torch.ones(4)], [1], 0.5)] == [[1, 1, 0, 0]]


def test_units_that_are_removed_equal_units_that_are_zeroed_and_the_largest_budget_is_the_host() -> None:
    model, masks, images = host(), random_masks(), vits.images(5)
    removed, zeroed = (xprune(model, masks, calibration=Noise(), keep=0.5, remove=remove)(images) for remove in (True, False))
    assert torch.allclose(removed, zeroed, atol=1e-5)
    assert not torch.allclose(removed, model(images), atol=1e-2)
    assert torch.allclose(xprune(model, masks, calibration=Noise(), keep=1.0)(images), model(images), atol=1e-5)


def test_logits_are_those_of_units_without_output() -> None:
    model, masks, images = host(), random_masks(3), vits.images(5)
    flags = within_budget([mask.mean(dim=1) for mask in masks.values()], [HEAD] * DEPTH + [NEURON] * DEPTH, 0.6)
    found = xprune(model, masks, calibration=Noise(), keep=0.6)(images)
    for i, block in enumerate(model.model.blocks):
        block.attn.proj.weight.mul_(flags[i].repeat_interleave(WIDTH // HEADS))
        block.mlp.fc2.weight.mul_(flags[DEPTH + i])
    assert torch.allclose(found, model(images), atol=1e-5)


def test_a_state_dict_of_other_units_loads() -> None:
    made, other = (xprune(host(), random_masks(seed), calibration=Noise(), keep=0.5) for seed in (0, 1))
    assert made.model.blocks[0].mlp.fc1.out_features != other.model.blocks[0].mlp.fc1.out_features
    other.model.load_state_dict(made.model.state_dict())
    assert torch.equal(other(vits.images(2)), made(vits.images(2)))


def test_blocks_that_share_their_layers_have_their_units_together() -> None:
    model = weight_sharing(host())
    units = units_of(model.model)
    assert [(one.name, one.size, one.macs) for one in units] == [("heads.0", HEADS, 2 * HEAD), ("neurons.0", NEURONS, 2 * NEURON)]
    made = xprune(model, learned(model), calibration=Noise(), keep=0.5).model
    assert made.blocks[0].mlp.fc1 is made.blocks[1].mlp.fc1
    assert made.blocks[0].attn.num_heads == made.blocks[1].attn.num_heads < HEADS
