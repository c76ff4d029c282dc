"""SimCLR: its loss in loops, its limits and symmetries, its head, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.pretext.simclr import contrastive_loss, projection
from robustvit.defenses.pretext.views import ViewChoice, random_views
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.training.structure import structured

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = tuple("abcd")
PAIRS = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))


def prepared(host: Any = vits.vit, **params: object) -> Any:
    torch.manual_seed(0)
    return rv.load_defense("simclr", width=8, **params).prepare(host())


def loss_of(model: nn.Module, images: Tensor = IMAGES, ids: tuple[str, ...] = IDS, step: int = 0, **params: object) -> Tensor:
    batch = Batch(images, torch.zeros(len(ids), dtype=torch.int64), ids)
    on_pixels = rv.OnPixels(model, (0.5,) * 3, (0.5,) * 3)
    return rv.load_defense("simclr", width=8, **params)(on_pixels, batch, Draws.for_step(0, step, ids))


def test_the_loss_is_that_of_the_paper_pair_by_pair() -> None:
    views, total = [*PAIRS[0], *PAIRS[1]], 0.0

    def similarity(i: int, j: int) -> float:
        return (views[i] @ views[j] / views[i].norm() / views[j].norm() / 0.3).exp().item()

    for i in range(10):
        total -= math.log(similarity(i, (i + 5) % 10) / sum(similarity(i, k) for k in range(10) if k != i))
    assert contrastive_loss(*PAIRS, 0.3).item() == pytest.approx(total / 10, rel=1e-5)


def test_a_temperature_without_end_leaves_chance() -> None:
    assert contrastive_loss(*PAIRS, 1e8).item() == pytest.approx(math.log(2 * 5 - 1), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_equal_pairs_that_are_orthogonal_to_others_leave_what_the_temperature_does(temperature: float) -> None:
    basis = 3 * torch.eye(6)
    expected = math.log(1 + (2 * 6 - 2) * math.exp(-1 / temperature))
    assert contrastive_loss(basis, basis, temperature).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_pairs_may_be_permuted_and_views_exchanged() -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    found = contrastive_loss(*PAIRS, 0.2)
    assert torch.allclose(contrastive_loss(PAIRS[0][order], PAIRS[1][order], 0.2), found, rtol=1e-6)
    assert torch.allclose(contrastive_loss(PAIRS[1], PAIRS[0], 0.2), found, rtol=1e-6)
    assert not torch.allclose(contrastive_loss(PAIRS[0], PAIRS[1][order], 0.2), found, rtol=1e-3), "other pairs"


def test_lengths_do_not_matter_and_gradients_are_exact() -> None:
    first, second = PAIRS.double()
    assert torch.allclose(contrastive_loss(7 * PAIRS[0], PAIRS[1], 0.2), contrastive_loss(*PAIRS, 0.2), rtol=1e-5)
    given = first.clone().requires_grad_()
    contrastive_loss(given, second, 0.5).backward()  # type: ignore[no-untyped-call]
    step = torch.zeros_like(first)
    step[2, 3] = 1e-5
    slope = (contrastive_loss(first + step, second, 0.5) - contrastive_loss(first - step, second, 0.5)) / 2e-5
    assert given.grad is not None
    assert given.grad[2, 3].item() == pytest.approx(slope.item(), rel=1e-5)


def test_the_loss_is_computed_in_float32_in_mixed_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = contrastive_loss(*PAIRS, 0.1)
    assert torch.equal(found, contrastive_loss(*PAIRS, 0.1))


def test_the_projection_is_linear_layers_with_batch_normalisation() -> None:
    torch.manual_seed(0)
    head, features = projection(6, 3, 4), torch.randn(9, 6)
    made = features
    for layer in range(3):
        made = made @ [one for one in head if isinstance(one, nn.Linear)][layer].weight.T
        made = (made - made.mean(dim=0)) / (made.var(dim=0, correction=0) + 1e-5).sqrt()
        made = made.clamp(min=0) if layer < 2 else made
    assert torch.allclose(head(features), made, atol=1e-5)
    assert [name for name, _ in head.named_parameters() if name.endswith("bias")] == ["1.bias", "4.bias"]


def test_both_views_of_an_image_go_through_the_model_and_its_head_does_not() -> None:
    vit = prepared(lambda: vits.vit(depth=1)).train()
    loss_of(vit).backward()
    assert vit.head.weight.grad is None
    assert vit.patch_embed.proj.weight.grad.abs().sum() > 0
    assert loss_of(vit).item() != loss_of(vit, step=1).item(), "other draws"


def test_the_two_views_have_draws_of_their_own() -> None:
    vit = prepared(lambda: vits.vit(depth=1)).eval()
    draws, choice = Draws.for_step(0, 0, IDS).at("loss"), ViewChoice(0.08, 0.5, 1.0, 0.5)
    first, second = (
        vit.projection(vit.forward_head(vit.forward_features((random_views(IMAGES, draws.at(view), choice) - 0.5) / 0.5), pre_logits=True))
        for view in ("first", "second")
    )
    assert loss_of(vit).item() == pytest.approx(contrastive_loss(first, second, 0.1).item(), rel=1e-4)


def test_two_views_without_a_change_are_one() -> None:
    vit = prepared(lambda: vits.vit(depth=1)).eval()
    still = {"scale": 1.0, "flip": 0.0, "jitter": 0.0, "blur": 0.0}
    features = vit.projection(vit.forward_head(vit.forward_features((IMAGES - 0.5) / 0.5), pre_logits=True))
    assert loss_of(vit, temperature=0.7, **still).item() == pytest.approx(contrastive_loss(features, features, 0.7).item(), rel=1e-5)


@pytest.mark.parametrize("host", [vits.swin, vits.pooled, lambda: timm.create_model("resnet10t", num_classes=5)])
def test_other_models_of_timm_are_taken_and_exported_as_they_were(host: Any) -> None:
    model = prepared(host).train()
    loss_of(model).backward()
    host().load_state_dict(rv.load_defense("simclr").export(model).state_dict(), strict=True)
    assert hasattr(model, "projection")


def test_what_is_left_is_the_model_that_was_named() -> None:
    kwargs = "img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
    start = rv.load_model(f"vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs={kwargs}")
    assert structured(start, rv.load_defense("simclr")).card.transforms == ()


def test_it_learns_to_tell_images_apart() -> None:
    vit = prepared(lambda: vits.vit(depth=1)).train()
    colours = torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    images = (colours + 0.1 * torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    optimizer = torch.optim.AdamW(vit.parameters(), lr=3e-3)
    losses = []
    for step in range(24):
        optimizer.zero_grad()
        losses.append(loss := loss_of(vit, images, tuple("abcdefgh"), step, temperature=0.5, scale=0.5, jitter=0.0))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[0] > 1.2
    assert losses[-1] < 0.02 + math.log(1 + 14 * math.exp(-(1 + 1 / 7) / 0.5)), "pairs at the corners of a simplex have the least loss"


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(HostRefused, match="takes models of timm with `forward_head`, and a Sequential has none"):
        prepared(vits.small_cnn)
    with pytest.raises(BadParameter, match="the model has no projection; give 'simclr' what its `prepare` returns"):
        loss_of(vits.vit())
