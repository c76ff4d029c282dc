"""Models at another input size: against timm built for that size, Pillow's resampling, and what a larger patch should see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import vits
import yaml
from PIL import Image
from timm.models.vision_transformer import checkpoint_filter_fn

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.resolution.input_size import learned_positions_of_grid, resampled_positions
from robustvit.spec.sample_order import order


def at(make: str, **params: object) -> rv.Classifier:
    return rv.transformed(vits.made(vits.HOSTS[make]), "image_size", **params)


@pytest.mark.parametrize("make", ["plain", "registers", "distilled", "layer-scale"])
@pytest.mark.parametrize("side", [24, 48, 80])
def test_bicubic_is_timms_own_network_for_that_size(make: str, side: int) -> None:
    """Whose checkpoint filter takes weights of another size."""
    torch.manual_seed(0)
    own = vits.HOSTS[make]()
    arch, kwargs = type(own), {**vits._SMALL, "depth": len(own.blocks), "img_size": side}
    if make == "registers":
        kwargs |= {"reg_tokens": 4, "qk_norm": True, "class_token": False, "global_pool": "avg"}
    if make == "layer-scale":
        kwargs |= {"init_values": own.blocks[0].ls1.gamma[0].item()}
    large = arch(**kwargs).eval()
    large.load_state_dict(checkpoint_filter_fn(own.state_dict(), large))
    made = rv.transformed(vits.made(lambda: own, sharp=1.0), "image_size", size=side)
    images = torch.rand(2, 3, side, side)
    assert made.size == (side, side)
    assert torch.allclose(made(images), large((images - made.mean) / made.std), atol=1e-5)


@pytest.mark.parametrize(
    ("positions", "filter_of_pillow"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
@pytest.mark.parametrize("grid", [(6, 6), (9, 9), (3, 3)])
def test_positions_are_resampled_as_pillow_does_it(positions, filter_of_pillow, grid) -> None:
    embedding = torch.randn(1, 2 + 25, 7)
    found = resampled_positions(embedding, (5, 5), grid, positions)
    assert torch.equal(found[:, :2], embedding[:, :2]), "tokens of no patch stay"
    for channel in range(7):
        plane = Image.fromarray(embedding[0, 2:, channel].reshape(5, 5).numpy(), mode="F")
        wanted = np.asarray(plane.resize(grid[::-1], filter_of_pillow))
        assert np.allclose(found[0, 2:, channel].reshape(grid), wanted, atol=1e-5)


def test_nearest_is_the_cell_of_the_centre_and_none_is_zero() -> None:
    embedding = torch.randn(1, 1 + 16, 3)
    found = resampled_positions(embedding, (4, 4), (6, 7), "nearest")[0, 1:].reshape(6, 7, 3)
    rows, columns = ([int((i + 0.5) * 4 / count) for i in range(count)] for count in (6, 7))
    assert torch.equal(found, embedding[0, 1:].reshape(4, 4, 3)[rows][:, columns])
    left_out = resampled_positions(embedding, (4, 4), (4, 4), "none")
    assert torch.equal(left_out[:, :1], embedding[:, :1])
    assert not left_out[:, 1:].any()
    assert torch.equal(resampled_positions(embedding, (4, 4), (4, 4), "nearest"), embedding)


@pytest.mark.parametrize("positions", ["bicubic", "bilinear", "nearest", "none"])
def test_the_policy_is_that_of_the_model(positions) -> None:
    host, made = vits.made(vits.HOSTS["plain"]), at("plain", size=48, positions=positions)
    assert torch.allclose(made.model.pos_embed, resampled_positions(host.model.pos_embed, (4, 4), (6, 6), positions), atol=1e-6)


def test_a_ratio_is_rounded_to_whole_patches() -> None:
    assert [at("plain", scale=ratio).size[0] for ratio in ("9/7", 1.6, 0.3)] == [40, 48, 8]


def test_a_larger_patch_sees_in_an_enlarged_patch_what_it_saw() -> None:
    """The pseudo-inverse: <x, w> of a patch is <Bx, w'> of the same one resized by B."""
    host, made = vits.made(vits.HOSTS["plain"]), at("plain", size=64, patch=16)
    assert made.model.patch_embed.grid_size == (4, 4)
    patch = torch.randn(1, 3, 8, 8)
    larger = torch.nn.functional.interpolate(patch, (16, 16), mode="bicubic", antialias=True)
    assert torch.allclose(made.model.patch_embed.proj(larger), host.model.patch_embed.proj(patch), atol=1e-3)


def test_enlarged_images_are_those_of_the_own_view_interpolated() -> None:
    host = vits.made(vits.HOSTS["plain"])
    large, enlarged = at("plain", size=48), at("plain", size=48, enlarged=True)
    images = vits.images(3)
    wanted = torch.nn.functional.interpolate(images, (48, 48), mode="bicubic", antialias=True).clamp(0, 1)
    assert enlarged.size == host.size
    assert torch.allclose(enlarged(images), large(wanted), atol=1e-6)
    with pytest.raises(HostRefused, match="enlarges its images already"):
        rv.transformed(enlarged, "image_size", size=64)


@pytest.mark.parametrize(("make", "params", "said"), [
    ("plain", {"size": 50}, r"'toy': 50 px are no multiple of its patches of 8 px"),
    ("swin", {"size": 64, "positions": "bilinear"}, r"'toy': it has no learned position embedding of a grid that positions=bilinear could"),
    ("cnn", {"size": 64, "positions": "none"}, r"no learned position embedding"),
    ("plain", {"size": 64, "positions": "none", "patch": 24}, r"64 px are no multiple of its patches of 24 px"),
    ("cnn", {"size": 64, "patch": 4}, r"its patches cannot be resized"),
])  # fmt: skip
def test_what_a_model_cannot_do_is_said(make: str, params: dict, said: str) -> None:
    with pytest.raises(HostRefused, match=said):
        at(make, **params)


@pytest.mark.parametrize("params", [{}, {"size": 48, "scale": 2}, {"size": 8192}])
def test_a_size_or_a_ratio(params: dict) -> None:
    with pytest.raises(BadParameter, match=r"image_size (takes a size in pixels|of 8192 px is too large)"):
        at("plain", **params)


def test_a_size_comes_before_what_walks_the_blocks() -> None:
    with pytest.raises(HostRefused, match=r"name image_size before the transforms that do so"):
        rv.load_model("demo+evit(keep=0.5)+image_size(scale=2)")


def test_a_network_that_takes_one_size_alone_is_refused() -> None:
    host = rv.load_model("arch/hvt?num_classes=5&img_size=32&patch_size=4&crop_pct=1")
    with pytest.raises(HostRefused, match="'image_size' does not take"):
        rv.transformed(host, "image_size", size=64)


SMALL = "img_size=16&patch_size=4&dim=12&heads=2&depth=2&num_classes=5"


@pytest.mark.parametrize("address", ["arch/hilo", "arch/channel_vit"])
@pytest.mark.parametrize("policy", ["bicubic", "bilinear", "nearest", "none"])
def test_learned_positions_of_our_architectures_are_resampled(address: str, policy: str) -> None:
    model = rv.load_model(f"{address}?{SMALL}")
    torch.nn.init.normal_(position := _position(model))
    made = rv.transformed(model, "image_size", size=24, positions=policy)
    wanted = resampled_positions(position.flatten(1, -2), (4, 4), (6, 6), policy)
    assert torch.equal(_position(made).flatten(1, -2), wanted)
    assert made(torch.rand(2, 3, 24, 24)).shape == (2, 5)
    assert position.flatten(1, -2).shape[1] == 16, "those of the given model stay"


def _position(model: rv.Classifier) -> torch.Tensor:
    return model.model.stages[0].position if hasattr(model.model, "stages") else model.model.patch_embed.position


@pytest.mark.parametrize(("address", "size", "said"), [
    ("arch/hilo", 20, "does not divide into windows of 2x2"), ("arch/cpvt", 18, "18 px are no multiple of its patches of 4 px"),
    ("arch/hvt", 24, "each of its stages has learned positions of its own"),
])  # fmt: skip
def test_sizes_that_our_architectures_do_not_take(address: str, size: int, said: str) -> None:
    with pytest.raises(HostRefused, match=said):
        rv.transformed(rv.load_model(f"{address}?{SMALL}" + ("&pool_width=1" if "hvt" in address else "")), "image_size", size=size)


@pytest.mark.parametrize("address", ["arch/hilo", "arch/cpvt", "arch/channel_vit", "arch/hvt"])
def test_images_that_patches_do_not_divide_are_refused_by_every_architecture(address: str) -> None:
    with pytest.raises(BadParameter, match=f"{address}: patches of 4 pixels do not divide images of 30; .* such as 28"):
        rv.load_model(f"{address}?{SMALL.replace('img_size=16', 'img_size=30')}")


PAGE = {
    "vit_tiny_patch16_224": "learned embeddings (", "flexivit_small": "learned embeddings (",
    "deit_tiny_patch16_224": "learned embeddings (",
    "eva02_tiny_patch14_224": "learned embeddings beside rotary", "swin_tiny_patch4_window7_224": "rotary or relative",
    "vit_relpos_small_patch16_224": "rotary or relative", "twins_svt_small": "none in a grid", "resnet18": "none in a grid",
}  # fmt: skip


@pytest.mark.parametrize("name", PAGE)
def test_the_page_says_which_models_have_learned_positions(name: str) -> None:
    rows = [line for line in (Path(__file__).parents[3] / "docs/sizes.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    (row,) = [line for line in rows if line.startswith(f"| {PAGE[name]}")]
    with torch.device("meta"):
        found = learned_positions_of_grid(timm.create_model(name))
    assert (found is None) == ("is refused by name" in row)


@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_a_ratio_of_less_than_half_a_patch_is_refused(scale: float) -> None:
    with pytest.raises(BadParameter, match=f"image_size: {scale} times 32 px is less than half a patch of 8 px"):
        at("plain", scale=scale)


@pytest.mark.parametrize("step", ["anchor", "aps", "blurpool"])
def test_patches_of_another_side_come_before_what_is_made_for_one(step: str) -> None:
    with pytest.raises(HostRefused, match=r"an earlier transform put an? .* in it, .*; name image_size before that"):
        rv.transformed(rv.transformed(vits.made(vits.HOSTS["plain"]), step), "image_size", size=64, patch=16)


@pytest.mark.parametrize("make", ["swin"])
def test_an_anchored_pyramid_is_made_for_one_size(make: str) -> None:
    with pytest.raises(HostRefused, match="an earlier transform put an Anchored in it, which is made for one size"):
        rv.transformed(rv.transformed(vits.made(vits.HOSTS[make]), "anchor"), "image_size", size=64)


def test_hugging_face_positions_follow() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers (the extra [hf]) is not installed")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8, num_labels=5
    )
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(config).eval()
    torch.nn.init.normal_(network.vit.embeddings.position_embeddings)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.inner(pixel_values=images).logits

    made = rv.transformed(vits.made(Logits, sharp=1.0), "image_size", size=48, positions="nearest")
    inner = made.model.inner.vit.embeddings
    old, new = (part.position_embeddings[0] for part in (network.vit.embeddings, inner))
    assert torch.equal(new[1:].reshape(6, 6, 24), old[1:].reshape(4, 4, 24)[[0, 1, 1, 2, 3, 3]][:, [0, 1, 1, 2, 3, 3]])
    assert torch.equal(new[0], old[0])
    assert made(torch.rand(2, 3, 48, 48)).shape == (2, 5)
    assert (network.vit.embeddings.patch_embeddings.image_size, inner.patch_embeddings.num_patches) == ((32, 32), 36)


SUITE = {
    "name": "sizes", "title": "Sizes", "data": "digits", "scenarios": ["clean"], "metrics": ["top1"],
    "transforms": [[{"image_size": {"scale": [1, 2]}}], [{"image_size": {"scale": 2, "enlarged": True}}]],
}  # fmt: skip


def test_each_size_is_a_cell_of_its_own_view_and_equals_the_model_of_that_size(tmp_path: Path) -> None:
    (tmp_path / "sizes.yaml").write_text(yaml.safe_dump(SUITE))
    rv.run(tmp_path / "sizes.yaml", ["demo"], limit=32, store=tmp_path / "store")
    board = rv.leaderboard(tmp_path / "store").set_index("transforms")["value"]
    data = rv.load_data("digits")
    chosen = order(data.ids)[:32]
    assert len(board) == 3
    for steps, value in board.items():
        made = rv.load_model(f"demo+{str(steps).replace(', ', ',')}")
        images = torch.stack([made.preprocess(data[i].image) for i in chosen])
        assert images.shape[-1] == (64 if steps == "image_size(scale=2)" else 32)
        assert value == pytest.approx(100 * (made(images).argmax(dim=1).numpy() == data.labels[chosen]).mean())


@pytest.mark.long
def test_what_learns_comes_after_the_size(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"'static_int8' learns of images of the size before 'image_size'.*name 'image_size' before it"):
        rv.run("quick", ["demo+static_int8(calibration=digits?split=train)+image_size(scale=2)"], limit=4, store=tmp_path / "store")
    done = rv.run("quick", ["demo+image_size(scale=2)+static_int8(calibration=digits?split=train)"], limit=4, store=tmp_path / "other")
    assert done is not None


def test_a_checkpoint_of_another_size_is_loaded_by_its_path(tmp_path: Path) -> None:
    made = rv.load_model("demo+image_size(scale=2,positions=bilinear)")
    rv.save_checkpoint(made, tmp_path / "large.safetensors")
    loaded = rv.load_model(f"file:{tmp_path / 'large.safetensors'}")
    images = torch.rand(2, 3, 64, 64)
    assert loaded.view == made.view
    assert torch.equal(loaded(images), made(images))
