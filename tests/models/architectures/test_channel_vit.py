"""ChannelViT against the plain ViT on each channel, and channels whose tokens are left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from robustvit.analyses.lesions.channel_subsets import channel_subsets
from robustvit.errors import BadParameter
from robustvit.evaluation.loading import load_model
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.shown_channels import listed_channels
from robustvit.transforms.channels.keep_channels import keep_channels

SETTING = "img_size=32&patch_size=8&dim=24&heads=2&depth=2&num_classes=5"


def of(channels: int = 3) -> Classifier:
    return load_model(f"arch/channel_vit?channels={channels}&{SETTING}")


def pixels(channels: int = 3) -> torch.Tensor:
    return torch.rand(6, channels, 32, 32, generator=torch.Generator().manual_seed(1))


def test_with_channel_embeddings_of_zero_its_tokens_are_the_plain_vits_on_each_channel() -> None:
    model: Any = of(4).model
    embedding = model.patch_embed
    embedding.channel.data.zero_()
    plain = VisionTransformer(
        img_size=32, patch_size=8, in_chans=1, embed_dim=24, num_heads=2, depth=1, class_token=False, global_pool="avg"
    )
    plain.patch_embed.proj.load_state_dict(embedding.proj.state_dict())
    plain.pos_embed.data = embedding.position.data
    images = pixels(4)
    expected = torch.cat([plain._pos_embed(plain.patch_embed(images[:, one : one + 1])) for one in range(4)], dim=1)
    assert torch.allclose(embedding(images), expected, atol=1e-6)
    assert model._pos_embed(embedding(images)).shape == (6, 4 * 16 + 1, 24)


def test_each_channel_has_an_embedding_of_its_own() -> None:
    embedding: Any = of().model.patch_embed
    same = pixels()[:, :1].expand(-1, 3, -1, -1)
    first, second, _ = embedding(same).chunk(3, dim=1)
    assert torch.allclose(second - first, (embedding.channel[1] - embedding.channel[0]).expand_as(first), atol=1e-5)


def by_hand(model: Classifier, images: torch.Tensor, kept: tuple[int, ...]) -> torch.Tensor:
    vit: Any = model.model
    tokens = vit.patch_embed((images - model.mean) / model.std).unflatten(1, (model.channels, 16))[:, list(kept)].flatten(1, 2)
    return vit.forward_head(vit.norm(vit.blocks(vit._pos_embed(tokens))))


@pytest.mark.parametrize("kept", [(0,), (0, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_channels_that_are_not_kept_have_no_tokens(kept: tuple[int, ...]) -> None:
    model, images = of(4), pixels(4)
    assert torch.allclose(keep_channels(model, channels=kept)(images), by_hand(model, images, kept), atol=1e-5)
    assert model.model.patch_embed.kept is None
    labels = model(images).argmax(dim=1)
    found = channel_subsets(model, images, labels, Draws(0, "x", tuple("abcdef")))
    place = listed_channels(4, 32, 0).index(kept)
    assert found["value_subset_right"][:, place].tolist() == (by_hand(model, images, kept).argmax(dim=1) == labels).float().tolist()


def test_nothing_is_left_of_two_transforms_that_keep_different_channels() -> None:
    once = keep_channels(of(), channels=(0, 1))
    assert torch.allclose(keep_channels(once, channels=(1, 2))(pixels()), keep_channels(of(), channels=(1,))(pixels()), atol=1e-6)
    with pytest.raises(BadParameter, match=r"no channel of 'arch/channel_vit.*' is left, which was shown 0, 1 alone"):
        keep_channels(once, channels=(2,))


def test_other_channels_than_three_are_normalised_by_a_half() -> None:
    assert of(5).mean.flatten().tolist() == of(5).std.flatten().tolist() == [0.5] * 5
    assert of().mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
