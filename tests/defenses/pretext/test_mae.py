"""Masked autoencoding: what is shown, what is compared, a reference in loops, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.pretext.mae import drawn_masks, masked_error, pixel_targets, reconstruction
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.training.structure import structured

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = tuple("abcd")
SMALL = {"width": 16, "blocks": 1, "heads": 2}
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)


def prepared(host: Any = vits.vit, **params: object) -> Any:
    torch.manual_seed(0)
    return rv.load_defense("mae", **SMALL | params).prepare(host(depth=2))


def loss_of(vit: nn.Module, images: Tensor = IMAGES, ids: tuple[str, ...] = IDS, **params: object) -> Tensor:
    batch = Batch(images, torch.zeros(len(ids), dtype=torch.int64), ids)
    return rv.load_defense("mae", **SMALL | params)(rv.OnPixels(vit, MEAN, STD), batch, Draws.for_step(0, 3, ids))


def patch(image: Tensor, index: int) -> Tensor:
    row, column = divmod(index, 4)
    return image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]


def test_patches_are_shown_by_share_and_put_back_in_their_places() -> None:
    masks = drawn_masks(Draws(0, "s", [str(i) for i in range(100)]), 196, 0.75)
    assert masks.shown.shape == (100, 49)
    assert masks.masked.sum(dim=1).unique().tolist() == [147]
    for shown, places, masked in zip(*masks, strict=True):
        assert [places[one].item() for one in shown] == list(range(49)), "the first patch shown is the first of the shuffled row, …"
        assert sorted(places.tolist()) == list(range(196))
        assert sorted([*shown.tolist(), *masked.nonzero()[:, 0].tolist()]) == list(range(196))
    assert torch.bincount(masks.shown.flatten(), minlength=196).float().std() < 0.3 * 25


def test_targets_are_the_pixels_of_a_patch_less_their_mean_over_their_deviation() -> None:
    found, plain = (pixel_targets(IMAGES, (8, 8), normalise) for normalise in (True, False))
    for index in (0, 3, 6, 15):
        pixels = patch(IMAGES[1], index).numpy().astype(np.float64).ravel()
        assert np.allclose(plain[1, index], pixels)
        assert np.allclose(found[1, index], (pixels - pixels.mean()) / np.sqrt(pixels.var(ddof=1) + 1e-6), atol=1e-5)
    assert torch.equal(pixel_targets(torch.full((1, 3, 32, 32), 0.25), (8, 8), True), torch.zeros(1, 16, 192)), "of one colour: 0"


def test_only_masked_patches_count_and_a_perfect_prediction_costs_nothing() -> None:
    targets, masked = torch.randn(2, 4, 6), torch.tensor([[True, False, True, True], [False, False, True, False]])
    wrong = targets + 100 * (~masked)[:, :, None]
    assert masked_error(wrong, targets, masked) == 0
    found = targets.clone()
    found[0, 2, 5] += 3
    assert masked_error(found, targets, masked).item() == pytest.approx(9 / 6 / 4)


def by_steps(vit: Any, image: Tensor, shown: list[int]) -> Tensor:
    """The decoder's pixels of all patches of one normalised image, as the paper has it, patch by patch."""
    decoder, prefix = vit.pixel_decoder, vit.num_prefix_tokens
    first = [] if vit.cls_token is None else [vit.cls_token[0, 0]]
    tokens = first + [(vit.patch_embed.proj.weight * patch(image, one)).sum(dim=(1, 2, 3)) + vit.patch_embed.proj.bias
                      + sine(one, vit.embed_dim) for one in shown]  # fmt: skip
    latent = decoder.narrow(vit.norm(vit.blocks(torch.stack(tokens)[None])))[0]
    full = list(latent[:prefix])
    for place in range(16):
        full.append((latent[prefix + shown.index(place)] if place in shown else decoder.mask) + sine(place, 16))
    made = torch.stack(full)[None]
    for block in decoder.blocks:
        made = block(made)
    return decoder.pixels(decoder.norm(made))[0, prefix:]


def sine(place: int, width: int) -> Tensor:
    """Sines of the row and of the column, then cosines, at wavelengths from 2π to 10000·2π; their order is timm's."""
    row, column = divmod(place, 4)
    waves = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    return torch.cat([wave(at * waves) for wave in (torch.sin, torch.cos) for at in (row, column)]).float()


@pytest.mark.parametrize("host", [vits.vit, lambda depth: vits.vit(depth=depth, class_token=False, global_pool="avg", fc_norm=False)])
def test_the_loss_is_that_of_the_paper_step_by_step(host: Any) -> None:
    vit = prepared(host).eval()
    nn.init.normal_(vit.pixel_decoder.mask)
    masks = drawn_masks(Draws.for_step(0, 3, IDS).at("loss"), 16, 0.75)
    normal = (IMAGES - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    total = 0.0
    for row, image in enumerate(normal):
        pixels = by_steps(vit, image, masks.shown[row].tolist())
        for place in set(range(16)) - set(masks.shown[row].tolist()):
            of = patch(image, place).flatten()
            total += ((pixels[place] - (of - of.mean()) / (of.var() + 1e-6).sqrt()) ** 2).mean().item()
    assert loss_of(vit).item() == pytest.approx(total / (4 * 12), rel=1e-4)


def test_pixels_that_are_not_shown_reach_no_prediction() -> None:
    vit = prepared().eval()
    masks = drawn_masks(Draws(0, "s", IDS), 16, 0.75)
    other, shown = IMAGES.clone(), {(row, one) for row in range(4) for one in masks.shown[row].tolist()}
    for row in range(4):
        for place in range(16):
            patch(other[row], place).add_(0.0 if (row, place) in shown else 1.0)
    assert torch.equal(reconstruction(vit, other, masks), reconstruction(vit, IMAGES, masks))


def test_what_is_shown_of_an_image_does_not_depend_on_its_company() -> None:
    vit = prepared().eval()
    each = [loss_of(vit, IMAGES[row : row + 1], IDS[row : row + 1]).item() for row in range(4)]
    assert loss_of(vit).item() == pytest.approx(sum(each) / 4, rel=1e-5)
    assert len({round(one, 6) for one in each}) == 4


def test_no_gradient_flows_into_positions_or_the_head_and_the_export_is_the_plain_structure() -> None:
    defense, vit = rv.load_defense("mae", **SMALL), prepared()
    loss_of(vit).backward()
    assert vit.pos_embed.grad is None
    assert vit.head.weight.grad is None
    for one in (vit.cls_token, vit.patch_embed.proj.weight, vit.norm.weight, vit.pixel_decoder.mask):
        assert one.grad.abs().sum() > 0
    vits.vit(depth=2).load_state_dict(defense.export(vit).state_dict(), strict=True)
    assert hasattr(vit, "pixel_decoder"), "the model that is trained on keeps its decoder"


def test_it_learns_the_other_patches_of_images_that_repeat() -> None:
    vit = prepared().train()
    tile = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    images, ids = tile.repeat(1, 1, 4, 4), tuple("abcdefgh")
    optimizer = torch.optim.AdamW([one for one in vit.parameters() if one.requires_grad], lr=5e-3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        losses.append(loss := loss_of(vit, images, ids))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[0] > 0.9
    assert losses[-1] < 0.4, "the mean of all, which says nothing of an image, leaves 7/8"


def test_what_is_left_is_the_model_that_was_named() -> None:
    kwargs = "img_size=32,patch_size=8,embed_dim=8,depth=1,num_heads=1"
    start = rv.load_model(f"vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs={kwargs}")
    made = structured(start, rv.load_defense("mae", width=8, blocks=1, heads=1))
    assert made.card.transforms == ()
    assert list(made.model.state_dict()) == list(start.model.state_dict())


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(HostRefused, match=r"ratio 0\.99 shows 0 of 16; choose a lower ratio"):
        prepared(ratio=0.99)
    with pytest.raises(HostRefused, match="takes timm's plain vision transformers"):
        rv.load_defense("mae", **SMALL).prepare(vits.swin())
    with pytest.raises(HostRefused, match="takes models with position embeddings, and the model to train has none"):
        prepared(lambda depth: vits.vit(depth=depth, pos_embed="none"))
    with pytest.raises(HostRefused, match="a width of 10 has none"):
        prepared(width=10)
    with pytest.raises(BadParameter, match="width is 16, which 3 heads do not divide"):
        prepared(heads=3)
