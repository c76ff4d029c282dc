"""Parts that a classifier finds itself: every loss by hand, what the model computes step by step, and training on digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
import vits
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

import robustvit as rv
from robustvit.defenses.structure.parts import loss_of_parts
from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.drawn_maps import drawn_affine, on_grid
from robustvit.primitives.geometry.maps import affine_maps
from robustvit.primitives.geometry.resampling import resampled
from robustvit.primitives.structure.part_maps import PartAssignment, PartViT, find_parts, part_model
from robustvit.primitives.training import part_losses
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

MEAN = STD = (0.5, 0.5, 0.5)
BATCH = Batch(vits.images(4), torch.arange(4) % 5, ("a", "b", "c", "d"))
ADDRESS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=4,embed_dim=24,depth=1,num_heads=2"


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def part_maps(count: int = 3, rows: int = 5, columns: int = 6) -> Tensor:
    return drawn(2, count + 1, rows, columns).mul(2).softmax(dim=1)


def windows(one: Any) -> Any:
    """The means of all windows of 3x3 of a map."""
    rows, columns = one.shape
    return np.array([[one[y : y + 3, x : x + 3].mean() for x in range(columns - 2)] for y in range(rows - 2)])


def test_presence_by_loops() -> None:
    maps = part_maps().numpy()
    best = [max(windows(image[part]).max() for image in maps) for part in range(4)]
    assert float(part_losses.presence_loss(part_maps())) == pytest.approx(1 - sum(best) / 4, abs=1e-12)


def test_background_presence_by_loops() -> None:
    """Windows of a 5x6 map are 3x4: rows at −1, 0, 1 and columns at −1, −1/3, 1/3, 1."""
    total = 0.0
    for image in part_maps().numpy():
        found = windows(image[3])
        seen = [found[y, x] * ((y - 1) ** 2 + (2 * x / 3 - 1) ** 2) / 2 for y in range(3) for x in range(4)]
        total -= math.log(max(seen)) / 2
    assert float(part_losses.background_presence_loss(part_maps())) == pytest.approx(total, abs=1e-12)
    nowhere = part_maps()
    nowhere[:, -1] = 0
    assert float(part_losses.background_presence_loss(nowhere)) == 100.0


def test_pixel_entropy_by_loops() -> None:
    maps = part_maps()
    each = [sum(-float(p) * math.log(float(p)) for p in maps[n, :, y, x]) for n in range(2) for y in range(5) for x in range(6)]
    assert float(part_losses.pixel_entropy_loss(maps)) == pytest.approx(sum(each) / 60, abs=1e-12)
    certain = functional.one_hot(torch.arange(30).view(1, 5, 6) % 4).permute(0, 3, 1, 2).double()
    assert float(part_losses.pixel_entropy_loss(certain)) == 0
    assert float(part_losses.pixel_entropy_loss(torch.full((1, 4, 5, 6), 0.25))) == pytest.approx(math.log(4))


def test_equivariance_by_loops() -> None:
    here, back = part_maps().numpy(), drawn(2, 4, 5, 6, seed=2).softmax(dim=1).numpy()
    total = 0.0
    for n in range(2):
        for part in range(3):
            one, two = here[n, part].ravel(), back[n, part].ravel()
            total += sum(one * two) / math.sqrt(sum(one**2) * sum(two**2)) / 6
    assert float(part_losses.equivariance_loss(torch.from_numpy(here), torch.from_numpy(back))) == pytest.approx(1 - total, abs=1e-12)
    assert float(part_losses.equivariance_loss(part_maps(), part_maps())) == pytest.approx(0, abs=1e-12)


def test_orthogonality_by_loops() -> None:
    features, total = drawn(2, 4, 7), 0.0
    for image in features:
        for one in range(4):
            for two in range(4):
                cosine = float(image[one] @ image[two] / (image[one].norm() * image[two].norm()))
                total += (cosine - (one == two)) ** 2
    assert float(part_losses.orthogonality_loss(features)) == pytest.approx(total / 32, abs=1e-12)
    assert float(part_losses.orthogonality_loss(torch.eye(4, 7)[None])) == 0
    assert float(part_losses.orthogonality_loss(torch.ones(1, 4, 7))) == pytest.approx(12 / 16)


def test_total_variation_by_loops() -> None:
    maps, total = part_maps(), 0.0
    for image in maps:
        for one in image:
            total += sum(abs(float(one[y + 1, x] - one[y, x])) for y in range(4) for x in range(6))
            total += sum(abs(float(one[y, x + 1] - one[y, x])) for y in range(5) for x in range(5))
    assert float(part_losses.total_variation_loss(maps)) == pytest.approx(total / (2 * 30), abs=1e-12)


def test_gradients_of_every_loss_by_finite_differences() -> None:
    scores = drawn(2, 4, 5, 6).requires_grad_(True)
    other = part_maps().flip(3)
    for loss in (
        part_losses.presence_loss, part_losses.background_presence_loss, part_losses.pixel_entropy_loss, part_losses.total_variation_loss,
        lambda maps: part_losses.equivariance_loss(maps, other), lambda maps: part_losses.orthogonality_loss(maps.flatten(2)),
    ):  # fmt: skip
        assert torch.autograd.gradcheck(lambda given, loss=loss: loss(given.softmax(dim=1)), (scores,))


def test_tokens_are_assigned_by_their_distance_to_prototypes() -> None:
    torch.manual_seed(0)
    module, tokens = PartAssignment(7, 3, (2, 5)).double(), drawn(2, 10, 7)
    found = module(tokens)
    for n in range(2):
        near = np.array([[math.exp(-float((tokens[n, p] - one).square().sum())) for p in range(10)] for one in module.prototypes.detach()])
        maps = near / near.sum(axis=0)
        np.testing.assert_allclose(found.maps[n].detach().flatten(1), maps, atol=1e-12)
        features = sum(maps[:, p, None] * tokens[n, p].numpy() for p in range(10)) / 10
        np.testing.assert_allclose(found.features[n].detach(), features, atol=1e-12)


def test_where_a_token_is_a_prototype_its_map_is_largest() -> None:
    """Of tokens at right angles: 1 / (1 + 3 exp(−18)) where a token is the prototype, 1/4 where it is none of them."""
    module, tokens = PartAssignment(16, 3, (4, 4)), 3 * torch.eye(16)[None]
    with torch.no_grad():
        module.prototypes.copy_(tokens[0, [3, 9, 12, 14]])
    maps = module(tokens).maps[0].detach()
    assert maps.flatten(1).argmax(dim=1).tolist() == [3, 9, 12, 14]
    assert maps.argmax(dim=0).flatten()[[3, 9, 12, 14]].tolist() == [0, 1, 2, 3]
    assert float(maps.flatten(1)[0, 3]) == pytest.approx(1 / (1 + 3 * math.exp(-18)))
    assert maps.flatten(1)[:, 0].tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("make", ["plain", "registers", "distilled", "average-pooled"])
def test_logits_are_those_of_the_parts_averaged_and_not_of_the_background(make: str) -> None:
    torch.manual_seed(0)
    host: Any = vits.HOSTS[make]().eval()
    images = vits.images(3)
    tokens = host.fc_norm(host.forward_features(images))[:, host.num_prefix_tokens :].detach()
    model: Any = find_parts(host, 4).eval()
    torch.nn.init.normal_(model.modulation)
    found, weight = model.assignment(tokens), model.head.weight
    each = [(found.features[:, part] * model.modulation[part]) @ weight.T for part in range(4)]
    torch.testing.assert_close(model(images), sum(each) / 4, rtol=0, atol=1e-5)
    assert float(model(images).detach().std()) > 1e-4
    assert model.head.bias is None


def test_whole_parts_are_left_out_in_training_alone() -> None:
    torch.manual_seed(0)
    model: Any = find_parts(vits.vit(depth=1), 4, 0.5)
    seen: list[Tensor] = []
    model.part_dropout.register_forward_hook(lambda part, given, made: seen.extend((given[0], made)))
    for mode in (True, False):
        model.train(mode)(vits.images(8))
    assert bool(((seen[1] == 0).all(dim=2) | torch.isclose(seen[1], 2 * seen[0]).all(dim=2)).all())
    assert 0 < int((seen[1] == 0).all(dim=2).sum()) < 32
    assert torch.equal(*seen[2:])


def test_maps_of_the_plane_are_those_of_torchvision_and_go_back_on_the_grid() -> None:
    draws = Draws(0, "x", [str(one) for one in range(200)])
    maps = drawn_affine(draws, (32, 64), 90.0, 0.1, (0.8, 1.4))
    turned, size = torch.atan2(-maps[:, 1, 0], maps[:, 0, 0]).rad2deg(), maps[:, :2, :2].det() ** -0.5
    moved = torch.linalg.inv(maps)[:, :2, 2]
    for found, low, high in ((turned, -90, 90), (size, 0.8, 1.4), (moved[:, 0], -6.4, 6.4), (moved[:, 1], -3.2, 3.2)):
        span = high - low
        assert low <= float(found.min()) < low + 0.1 * span
        assert high - 0.1 * span < float(found.max()) <= high + 1e-6
    fixed = [torch.tensor([value]) for value in (20.0, 4.0, -6.0, 1.25)]
    image = torch.nn.functional.avg_pool2d(drawn(1, 3, 32, 32), 5, 1, 2)
    expected = affine(image, 20.0, [4, -6], 1.25, [0.0, 0.0], InterpolationMode.BILINEAR)
    torch.testing.assert_close(resampled(image, affine_maps(*fixed), "zeros"), expected, atol=1e-5, rtol=0)
    coarse = on_grid(affine_maps(*fixed), (4, 4))
    expected = affine_maps(fixed[0], fixed[1] / 4, fixed[2] / 4, fixed[3])
    torch.testing.assert_close(coarse, expected, rtol=0, atol=1e-12)
    narrow = on_grid(affine_maps(torch.zeros(1), torch.tensor([6.0]), torch.tensor([8.0])), (4, 2))
    torch.testing.assert_close(narrow, affine_maps(torch.zeros(1), torch.tensor([3.0]), torch.tensor([2.0])), rtol=0, atol=1e-12)


def prepared() -> Any:
    torch.manual_seed(0)
    return rv.load_defense("parts", count=3, dropout=0.0).prepare(vits.vit(depth=1)).eval()


def test_the_loss_is_the_sum_of_its_terms_with_the_backgrounds_twice() -> None:
    """Images are turned by 90° and maps turned back by torch's own rotation."""
    module = prepared()
    model, quarter = OnPixels(module, MEAN, STD), affine_maps(torch.full((4,), 90.0), torch.zeros(4), torch.zeros(4))
    found = float(loss_of_parts(model, module, BATCH, quarter).detach())
    tokens = [module.backbone.forward_features((one - 0.5) / 0.5)[:, 1:] for one in (BATCH.images, BATCH.images.rot90(-1, (2, 3)))]
    here, there = (module.assignment(one) for one in tokens)
    terms = (
        functional.cross_entropy(model(BATCH.images), BATCH.targets).detach(), part_losses.presence_loss(here.maps),
        2 * part_losses.background_presence_loss(here.maps), part_losses.pixel_entropy_loss(here.maps),
        part_losses.equivariance_loss(here.maps, there.maps.rot90(1, (2, 3))), part_losses.orthogonality_loss(here.features),
        part_losses.total_variation_loss(here.maps),
    )  # fmt: skip
    assert all(float(one.detach()) > 1e-3 for one in terms)
    assert found == pytest.approx(sum(float(one.detach()) for one in terms), rel=1e-5)


def test_under_the_identity_equivariance_costs_nothing() -> None:
    module = prepared()
    model, identity = OnPixels(module, MEAN, STD), torch.eye(3).expand(4, 3, 3)
    rest = loss_of_parts(model, module, BATCH, identity)
    tokens = module.assignment(module.backbone.forward_features((BATCH.images - 0.5) / 0.5)[:, 1:])
    others = functional.cross_entropy(model(BATCH.images), BATCH.targets) + sum(
        weight * loss(tokens.maps)
        for weight, loss in (
            (1, part_losses.presence_loss), (2, part_losses.background_presence_loss), (1, part_losses.pixel_entropy_loss),
            (1, part_losses.total_variation_loss),
        )
    ) + part_losses.orthogonality_loss(tokens.features)  # fmt: skip
    assert float((rest - others).detach()) == pytest.approx(0, abs=1e-5)


def test_the_defense_moves_every_image_by_a_map_of_its_own() -> None:
    module, draws = prepared(), Draws.for_step(0, 0, BATCH.ids)
    model = OnPixels(module, MEAN, STD)
    found = rv.load_defense("parts", count=3, degrees=30.0, shift=0.2).loss(model, BATCH, draws)
    maps = drawn_affine(draws, (32, 32), 30.0, 0.2, (0.8, 1.4))
    assert float((maps[0] - maps[1]).abs().max()) > 0.05
    assert torch.equal(found, loss_of_parts(model, module, BATCH, maps))


def test_what_is_refused() -> None:
    with pytest.raises(BadParameter, match="count"):
        rv.load_defense("parts", count=0)
    assert find_parts(module := vits.vit(), 0) is module
    for make, why in (
        (lambda: find_parts(vits.vit(), 2), "it finds 2 parts already"), (lambda: vits.vit(num_classes=0), "no linear layer"),
        (lambda: vits.vit(class_token=False, global_pool="map"), "no linear layer"), (lambda: vits.vit(patch_size=16), "2x2 patches"),
        (lambda: vits.vit(dynamic_img_size=True), "of one size"),
    ):  # fmt: skip
        with pytest.raises(HostRefused, match=why):
            find_parts(make(), 3)
    with pytest.raises(HostRefused, match="'parts' takes timm's plain vision transformers, and the model to train is none: it is a ResNet"):
        rv.load_defense("parts").prepare(timm.create_model("resnet10t", num_classes=5))
    with pytest.raises(HostRefused, match="trains the parts that its `prepare` adds, and this OnPixels has none"):
        rv.load_defense("parts").loss(OnPixels(vits.vit(), MEAN, STD), BATCH, Draws.for_step(0, 0, BATCH.ids))
    with pytest.raises(ModelError, match="on all 4x4 patch tokens of an image, not 15"):
        PartAssignment(24, 2, (4, 4))(torch.zeros(1, 15, 24))


def test_trained_on_digits_it_comes_back_from_its_file_to_the_bit(tmp_path: Any) -> None:
    out = tmp_path / "p.safetensors"
    trained: Any = train_from_spec(ADDRESS, out=out, defenses=("parts(count=4)",), recipe=Recipe(epochs=1, batch_size=320, lr=0.01)).model
    loaded: Any = load_model(f"file:{out}")
    assert [(spec.name, spec.get("count")) for spec in loaded.card.identity.get("surgery")] == [("parts", 4)]
    assert torch.equal(loaded(vits.images(3)), trained(vits.images(3)))
    own = part_model(loaded)
    assert isinstance(own, PartViT)
    assert bool((own.modulation[:-1] != 1).any(dim=1).all()), "the gains of every part but the background are learned"
    assert torch.equal(own.modulation[-1], own.modulation[-1, :1].expand(24)), "and those of the background decay alike"


@pytest.mark.parametrize("frozen", [True, False])
def test_the_transformer_is_frozen_or_trained(frozen: bool) -> None:
    model: Any = rv.load_defense("parts", count=3, dropout=0.4, frozen=frozen).prepare(vits.vit(depth=1))
    assert model.part_dropout.p == 0.4
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    own = {"assignment.prototypes", "modulation", "head.weight"}
    assert trained == (own if frozen else {name for name, _ in model.named_parameters()})
    assert own < {name for name, _ in model.named_parameters()}
