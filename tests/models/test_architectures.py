"""The architectures of papers on efficient and robust transformers, in their smallest variants with random weights, through suite quick.

`nox -s architectures` runs these; they take minutes, and no other session does.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import robustvit as rv

pytestmark = pytest.mark.architectures

TIMM = (
    "beit_base_patch16_224", "coat_lite_tiny", "convit_tiny", "convnext_atto", "davit_tiny", "deit3_small_patch16_224",
    "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224", "dm_nfnet_f0", "efficientformer_l1", "efficientformerv2_s0",
    "eva02_tiny_patch14_224", "flexivit_small", "gcvit_xxtiny", "hiera_tiny_224", "inception_next_atto", "levit_128s", "mobilevitv2_050",
    "mvitv2_tiny", "naflexvit_base_patch16_gap", "pit_ti_224", "pit_ti_distilled_224", "resnet18", "resnetv2_50x1_bit",
    "samvit_base_patch16_224",
    "swin_tiny_patch4_window7_224", "tiny_vit_5m_224", "twins_pcpvt_small", "twins_svt_small", "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2", "vit_small_patch16_rope_224", "vit_small_patch32_224", "vit_tiny_patch16_224",
)  # fmt: skip
SMALLER = {"vit_small_patch14_dinov2": "img_size=112", "vit_small_patch14_reg4_dinov2": "img_size=112"}  # of 518 px otherwise
_PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
HUGGING_FACE = {  # class of configuration: what makes it small
    "BeitConfig": _PLAIN | {"intermediate_size": 64},
    "CvtConfig": {"embed_dim": [16, 32, 64], "depth": [1, 2, 3], "num_heads": [1, 2, 4]},
    "DeiTConfig": _PLAIN | {"intermediate_size": 64, "architectures": ["DeiTForImageClassification"]},
    "Dinov2Config": _PLAIN,
    "LevitConfig": {
        "hidden_sizes": [16, 32, 48], "num_attention_heads": [1, 2, 3], "depths": [1, 1, 1], "key_dim": [8, 8, 8],
        "architectures": ["LevitForImageClassification"],
    },
    "MobileViTV2Config": {"width_multiplier": 0.5, "image_size": 64},
    "SegformerConfig": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "SwinConfig": {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
    "ViTConfig": _PLAIN | {"intermediate_size": 64},
}  # fmt: skip
SIDES = {"CvtConfig": 64, "LevitConfig": 224, "MobileViTV2Config": 64, "SegformerConfig": 64}


def assert_it_answers_quick(address: str, store: Path) -> None:
    summary = rv.run("quick", models=[address], data="digits", limit=2, batch_size=2, store=store)
    rows = rv.load_records(store).to_pandas()
    assert not summary.failed
    assert rows.groupby("cell").size().eq(2).all()
    assert rows.cell.nunique() == summary.cells


@pytest.mark.parametrize("arch", TIMM)
def test_an_architecture_of_timm_answers_suite_quick(arch: str, tmp_path: Path) -> None:
    assert_it_answers_quick(f"{arch}?weights=random&num_classes=10&kwargs={SMALLER.get(arch, '')}", tmp_path / "store")


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_an_architecture_of_transformers_answers_suite_quick(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers (the extra [hf]) is not installed")
    config = getattr(transformers, name)(num_labels=10, **HUGGING_FACE[name])
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / "model")
    side = SIDES.get(name, 32)
    transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(tmp_path / "model")
    assert_it_answers_quick(f"hf/{tmp_path / 'model'}", tmp_path / "store")
