"""The factors that names of weights contain, and those that stay unknown."""

import pytest

from robustvit.results.factors.weight_names import augreg_files, factors, size_in


@pytest.mark.parametrize(
    ("name", "family", "pretraining", "fine_tuned", "recipe"),
    [
        ("vit_base_patch16_224.augreg_in21k_ft_in1k", "vit", "in21k", "in1k", "augreg"),
        ("vit_base_patch16_224.augreg2_in21k_ft_in1k", "vit", "in21k", "in1k", "augreg2"),
        ("vit_base_patch16_224.sam_in1k", "vit", "in1k", "none", "sam"),
        ("vit_base_patch16_224.mae", "vit", "in1k", "none", "mae"),
        ("vit_base_patch16_224.dino", "vit", "in1k", "none", "dino"),
        ("vit_base_patch16_clip_224.openai", "vit", "wit400m", "none", "clip"),
        ("vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "vit", "laion2b", "in12k → in1k", "clip"),
        ("vit_base_patch14_dinov2.lvd142m", "vit", "lvd142m", "none", "dinov2"),
        ("deit_base_distilled_patch16_224.fb_in1k", "deit", "in1k", "none", "deit distilled"),
        ("deit3_base_patch16_224.fb_in1k", "deit3", "in1k", "none", "deit3"),
        ("tiny_vit_21m_224.dist_in22k_ft_in1k", "tiny_vit", "in22k", "in1k", "distilled"),
        ("hiera_base_224.mae_in1k_ft_in1k", "hiera", "in1k", "in1k", "mae"),
        ("beit_base_patch16_224.in22k_ft_in22k_in1k", "beit", "in22k", "in22k → in1k", "beit"),
        ("resnet50.a1_in1k", "resnet", "in1k", "none", "a1"),
        ("convnext_tiny.fb_in1k", "convnext", "in1k", "none", "unknown"),
        ("deit_tiny_patch16_224", "deit", "unknown", "unknown", "unknown"),
        ("mine", "unknown", "unknown", "unknown", "unknown"),
    ],
)
def test_a_tag_has_the_factors_of_its_weights(name: str, family: str, pretraining: str, fine_tuned: str, recipe: str) -> None:
    found = factors(name)
    assert (found.family, found.pretraining, found.fine_tuned, found.recipe) == (family, pretraining, fine_tuned, recipe)


def test_the_name_of_an_augreg_file_has_its_recipe() -> None:
    found = factors("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0")
    assert {name: getattr(found, name) for name in ("augmentation", "weight_decay", "dropout", "stochastic_depth", "learning_rate")} == {
        "augmentation": "medium1", "weight_decay": 0.1, "dropout": 0.0, "stochastic_depth": 0.0, "learning_rate": 0.001,
    }  # fmt: skip
    assert (found.patch, found.pretraining, found.fine_tuned, found.recipe) == (16, "in21k", "none", "augreg")


def test_an_augreg_tag_tells_what_its_file_tells() -> None:
    found = factors("vit_small_patch16_224.augreg_in21k_ft_in1k")
    assert (found.augmentation, found.weight_decay, found.patch, found.fine_tuned) == ("light1", 0.03, 16, "in1k")


def test_every_augreg_file_agrees_with_its_tag() -> None:
    for tag, file in augreg_files().items():
        by_tag, by_file = factors(tag.replace("augreg", "augreg2")), factors(file)
        assert by_tag.pretraining == by_file.pretraining, tag
        assert by_tag.kind == by_file.kind, tag
        assert size_in(tag) == (size_in(file) or size_in(tag)), tag


@pytest.mark.parametrize(
    ("name", "kind", "patch", "size"),
    [
        ("vit_base_patch8_224.augreg_in21k_ft_in1k", "transformer", 8, 224),
        ("vit_small_r26_s32_224.augreg_in21k_ft_in1k", "hybrid", None, 224),
        ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "transformer", 14, 448),
        ("mobilevitv2_200.cvnets_in1k", "hybrid", None, None),
        ("convit_small.fb_in1k", "transformer", None, None),
        ("swin_tiny_patch4_window7_224.ms_in1k", "transformer", 4, 224),
        ("resnetv2_101x3_bit.goog_in21k_ft_in1k", "convolution", None, None),
    ],
)
def test_an_architecture_tells_its_kind_patch_and_size(name: str, kind: str, patch: int | None, size: int | None) -> None:
    found = factors(name)
    assert (found.kind, found.patch, size_in(name)) == (kind, patch, size)
