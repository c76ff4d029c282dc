"""Recipes of adversarial training of vision transformers, each with its source: what `robustvit train --preset NAME` stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustvit.errors import UnknownName, nearest
from robustvit.training.recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """Options of `robustvit train` as a paper and its code have them. differs: how this is not that recipe."""

    recipe: Recipe
    defenses: tuple[str, ...]
    source: str
    url: str
    differs: str


_WEAK = "random_resized_crop(scale=0.08,jitter=0.4)"


def _still(**given: Any) -> Recipe:
    """A recipe without the augmentation of digits."""
    return Recipe(**{"rotation": 0.0, "scale": 0.0, "shift": 0.0} | given)


PRESETS: dict[str, Preset] = {
    "mo2022": Preset(
        _still(
            epochs=40, batch_size=64, lr=0.1, weight_decay=1e-4, warmup=0.0, clip=1.0, optimizer="sgd", schedule="steps", shift=0.125
        ),
        ("pgd_at(eps=8/255,step=2/255,steps=10)",),
        "Mo et al. 2022, When Adversarial Training Meets Vision Transformers", "https://arxiv.org/abs/2210.07540",
        "For CIFAR, from weights of ImageNet (--from). Images are shifted by up to an eighth, and not mirrored. Without mixup and CutMix "
        "(the paper mixes 3 of 10 batches: mixup(cutmix=1,probability=0.3)), and without ARD and PRM, its masks of attention "
        "and patches.",
    ),
    "light": Preset(
        _still(
            epochs=110, batch_size=1024, lr=5e-4, weight_decay=0.5, warmup=10 / 110, clip=1.0, final=0.02
        ),
        ("pgd_at(eps=4/255,step=6/255,steps=1,warmup=10)", "plain(smoothing=0.1)", _WEAK),
        "Debenedetti, Sehwag and Mittal 2023, A Light Recipe to Train Robust Vision Transformers", "https://arxiv.org/abs/2209.07399",
        "The authors add 10 epochs at the last rate, scale the rate with the batch, let eps rise by whole epochs and keep the step at its "
        "last size. Drop path is the model's own.",
    ),
    "revisiting": Preset(
        _still(
            epochs=300, batch_size=1024, lr=1e-3, weight_decay=0.05, warmup=20 / 300, clip=1.0, final=0.005, ema=0.9999
        ),
        (
            "attack_at(attack=apgd_ce(eps=4/255,steps=2))", _WEAK, "rand_augment(config=rand-m9-mstd0.5-inc1)",
            "random_erasing(probability=0.25)", "mixup(alpha=0.8,cutmix=1)",
        ),
        "Singh, Croce and Hein 2023, Revisiting Adversarial Training for ImageNet", "https://arxiv.org/abs/2303.01870",
        "From a model that was trained on clean images (--from). The authors' ConvStem is not put in the place of the patch embedding, and "
        "images are attacked by their labels, not by mixed ones, from a random start, until they are misclassified.",
    ),
    "ares": Preset(
        _still(
            epochs=300, batch_size=512, lr=1e-3, weight_decay=0.05, warmup=5 / 300, clip=1.0, ema=0.9998
        ),
        (
            "pgd_at(eps=4/255,steps=3,step=8/765,warmup=5)", _WEAK, "rand_augment(config=rand-m9-mstd0.5-inc1)",
            "random_erasing(probability=0.25)", "mixup(alpha=0.8,cutmix=1)",
        ),
        "Liu et al. 2023, A Comprehensive Study on Robustness of Image Classification Models (ARES)", "https://arxiv.org/abs/2302.14301",
        "The last of three images is trained on, where the authors take that of the largest loss.",
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of a name. Raises UnknownName with the nearest."""
    if name not in PRESETS:
        raise UnknownName(f"no preset of training is called '{name}'; there are {', '.join(PRESETS)}.{nearest(name, PRESETS)}")
    return PRESETS[name]
