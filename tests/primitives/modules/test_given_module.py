"""A module of the caller's own as a model: what is read from it, what is assumed and told, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.modules.given_module import IMAGENET_MEAN, IMAGENET_STD
from robustvit.spec.view import View

TINY = {"embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 10}


class Pixels(nn.Module):
    """Logits that are sums of what it is given, so that its normalisation can be read off."""

    def __init__(self, side: int = 8, channels: int = 3) -> None:
        super().__init__()
        self.line = nn.Linear(channels * side * side, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.line(images.flatten(1))


def vit(**more: Any) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **TINY, **more).eval()


def test_what_is_given_is_taken() -> None:
    module = Pixels()
    made = rv.Classifier(module, mean=(0.1, 0.2, 0.3), std=0.5, size=8, name="mine")
    assert (made.card.label, made.card.weights, made.card.notes, made.size) == ("mine", "given", {}, (8, 8))
    assert made.view == View((8, 8), 8, "center", "bicubic")
    images = torch.rand(3, 3, 8, 8)
    wanted = module((images - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / 0.5)
    assert torch.allclose(made(images), wanted, atol=1e-6)


def test_large_images_are_resized_to_eight_sevenths_and_cut() -> None:
    assert str(rv.Classifier(Pixels(224), mean=0.5, std=0.5, size=224).view) == "224x224, resize 256, center, bicubic"
    assert rv.Classifier(Pixels(64), mean=0.5, std=0.5, size=64).view.resize == 64


def test_what_is_assumed_is_told() -> None:
    bare = rv.Classifier(Pixels(224))
    assert bare.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert bare.std.flatten().tolist() == pytest.approx(IMAGENET_STD)
    assert bare.card.notes["assumed"].startswith("assumed: the mean and std of ImageNet and images of 224 px; ")
    assert rv.Classifier(Pixels(8), size=8).card.notes["assumed"].startswith("assumed: the mean and std of ImageNet; ")
    assert rv.Classifier(Pixels(224), mean=0.5, std=0.5).card.notes["assumed"].startswith("assumed: images of 224 px; ")


def test_a_model_of_timm_says_what_it_takes() -> None:
    made = rv.Classifier(vit())
    assert made.card.notes == {}
    assert (made.mean.flatten().tolist(), made.std.flatten().tolist()) == ([0.5] * 3, [0.5] * 3)
    assert str(made.view) == "224x224, resize 248, center, bicubic"


def test_a_model_of_timm_that_was_built_for_another_size_takes_that() -> None:
    assert str(rv.Classifier(vit(img_size=32, patch_size=8)).view) == "32x32, resize 32, center, bicubic"
    assert rv.Classifier(vit(img_size=384)).view.resize == 438  # 384 / 0.875


def test_logits_within_an_object_are_taken_out() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=16,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    module = transformers.ViTForImageClassification(config).eval()
    made = rv.Classifier(module, mean=0.5, std=0.5, size=32)
    images = torch.rand(2, 3, 32, 32)
    assert made.card.classes == ("cat", "dog")
    assert torch.allclose(made(images), module(pixel_values=(images - 0.5) / 0.5).logits, atol=1e-6)


def test_weights_and_preprocessing_are_the_identity() -> None:
    torch.manual_seed(0)
    first, second = Pixels(), Pixels()
    cards = [rv.Classifier(one, mean=mean, std=0.5, size=8).card for one, mean in ((first, 0.5), (second, 0.5), (first, 0.4))]
    assert len({(str(card.identity), card.fingerprint) for card in cards}) == 3
    again = rv.Classifier(first, mean=0.5, std=0.5, size=8, name="another name").card
    assert (str(again.identity), again.fingerprint) == (str(cards[0].identity), cards[0].fingerprint)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": 0.5, "size": 8}, r"given mean 0\.5 and std None; give both, or neither"),
        ({"mean": 0.5, "std": 0, "size": 8}, "std > 0"),
        ({"mean": (0.5, 0.5), "std": 0.5, "size": 8}, "raised RuntimeError: .*8x8 pixels"),
        ({"mean": float("nan"), "std": 0.5, "size": 8}, "mean is nan; it takes a number, or one for each channel"),
        ({"mean": "0.5", "std": 0.5, "size": 8}, "mean is '0.5'; it takes a number"),
        ({"mean": True, "std": 0.5, "size": 8}, "mean is True; it takes a number"),
        ({"size": 8, "view": View((8, 8))}, "given the size 8 and a view, which has one"),
        ({"size": 0}, "height"),
        ({"size": (8, 9, 10)}, "size"),
        ({"size": "8"}, "size"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((BadParameter, ModelError), match=message):
        _ = rv.Classifier(Pixels(), **given).outputs


@pytest.mark.parametrize("wrong", [None, "demo", Pixels, lambda images: images])
def test_what_is_no_module_is_refused(wrong: Any) -> None:
    with pytest.raises(BadParameter, match=r"takes a torch\.nn\.Module from normalised images to logits; this is a "):
        rv.Classifier(wrong, mean=0.5, std=0.5, size=8)


def test_a_run_takes_modules_and_tells_what_it_assumed(tmp_path: Path) -> None:
    module = vit(img_size=32, patch_size=16)
    suite = tmp_path / "s.yaml"
    suite.write_text("{name: s, title: s, data: digits, scenarios: [clean], metrics: [top1]}")
    module.pretrained_cfg = module.default_cfg = None
    done = rv.run(
        suite,
        [rv.Classifier(vit(img_size=32, patch_size=16), name="timm's"), rv.Classifier(module, size=32)],
        limit=4,
        store=tmp_path / "r",
    )
    assert not done.failed
    assert list(done.model_notes) == ["VisionTransformer"]
    assert "assumed: the mean and std of ImageNet" in done.model_notes["VisionTransformer"][0]
    board = rv.leaderboard(tmp_path / "r")
    assert set(board["model"]) == {"timm's", "VisionTransformer"}
    assert set(board["weights"]) == {"given"}
    again = rv.run(suite, [vit(img_size=32, patch_size=16)], limit=4, store=tmp_path / "r2")
    assert again.computed == 4


@pytest.mark.parametrize("wrong", [3, None, [3], [None], "demo", [], Pixels()])
def test_what_is_no_list_of_models_is_refused(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"takes a list|no model was named|a model is an address, a module or a Classifier"):
        rv.run("quick", wrong, store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_notebooks_show_models_suites_and_runs(tmp_path: Path) -> None:
    model = rv.Classifier(Pixels(32), mean=0.5, std=0.5, size=32, name="<mine>")
    assert "&lt;mine&gt;" in model._repr_html_()
    assert "30,730" in model._repr_html_()
    assert "gaussian_noise" in rv.load_suite("quick")._repr_html_()
    suite = tmp_path / "s.yaml"
    suite.write_text("{name: s, title: s, data: digits, scenarios: [clean], metrics: [top1]}")
    shown = rv.run(suite, [model], limit=4, store=tmp_path / "r")._repr_html_()
    assert "1 of 1 complete" in shown
    assert "4 computed, 4 in all" in shown


@pytest.mark.parametrize("name", [5, "", " ", "\x00", "\x1b[31mred", "two\nlines", b"bytes"])
def test_a_name_that_tables_cannot_show_is_refused(name: Any) -> None:
    with pytest.raises(BadParameter, match=r"^a model's name is .*; it takes text of visible characters, which tables show\.$"):
        rv.Classifier(Pixels(), mean=0.5, std=0.5, size=8, name=name)
    with pytest.raises(BadParameter, match="a model's name is"):
        rv.Classifier(Pixels(), mean=0.5, std=0.5, size=8).relabel(name)
    assert rv.Classifier(Pixels(), mean=0.5, std=0.5, size=8, name="größer 模型").card.label == "größer 模型"


@pytest.mark.parametrize(
    ("mean", "std", "hint"),
    [
        ((123, 117, 104), (58, 57, 57.5), r"divide them by 255: mean \(0\.482, 0\.459, 0\.408\), std \(0\.227, 0\.224, 0\.225\)\.$"),
        (127.5, 127.5, r"mean \(0\.5, 0\.5, 0\.5\), std \(0\.5, 0\.5, 0\.5\)\.$"),
        (0, 255, r"mean \(0, 0, 0\), std \(1, 1, 1\)\.$"),
    ],
)
def test_a_mean_and_std_of_bytes_are_refused(mean: Any, std: Any, hint: str) -> None:
    with pytest.raises(BadParameter, match=r"are not of pixels in \[0, 1\].*" + hint):
        rv.Classifier(Pixels(), mean=mean, std=std, size=8)
    assert rv.Classifier(Pixels(), mean=1.0, std=1, size=8).mean.flatten().tolist() == [1.0] * 3
