"""The additive model of shifted views against least squares, the denoiser step by step, and artefacts planted and removed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.analyses.artifact_energy import artifact_energy
from robustvit.data.formats.arrays import array_dataset
from robustvit.defenses.structure.feature_denoiser import distance, drawn_shifts
from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_dropping import why_not_plain
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.structure.feature_denoiser import DenoisedNorm, FeatureDenoiser, denoise_features
from robustvit.primitives.structure.position_artefacts import added_sums, position_artefacts, rolled, without_artefacts
from robustvit.primitives.surgery.patch_features import patch_features
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.spec.spec import Spec
from robustvit.spec.view import View
from robustvit.training.loop import train
from robustvit.training.recipe import Recipe
from robustvit.training.state import TrainingState

GRID, PATCH = (3, 4), (2, 2)
MEAN = STD = (0.5, 0.5, 0.5)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shifts_of(count: int, views: int, seed: int = 0) -> Tensor:
    made = torch.randint(-2, 3, (count, views, 2), generator=torch.Generator().manual_seed(seed))
    made[:, 0] = 0
    return made


def test_images_are_rolled_by_whole_patches() -> None:
    images, shifts = torch.rand(3, 3, 6, 8), shifts_of(3, 4)
    found = rolled(images, shifts, PATCH)
    for row in range(3):
        for view in range(4):
            down, right = (2 * shifts[row, view]).tolist()
            assert torch.equal(found[row, view], images[row].roll((down, right), (1, 2)))


def least_squares(features: list[Tensor], shifts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """G, of mean 0, and the F of every image from one dense system with an unknown for each place of each image and each position."""
    rows, patches, images = [], GRID[0] * GRID[1], sum(map(len, features))
    values = []
    for image, (own, moves) in enumerate((f, s) for fs, ss in zip(features, shifts, strict=True) for f, s in zip(fs, ss, strict=True)):
        for view, (down, right) in enumerate(moves.tolist()):
            for position in range(patches):
                place = (position // GRID[1] - down) % GRID[0] * GRID[1] + (position % GRID[1] - right) % GRID[1]
                row = np.zeros((images + 1) * patches)
                row[image * patches + place] = row[images * patches + position] = 1
                rows.append(row)
                values.append(own[view, position].numpy())
    solved = torch.from_numpy(np.linalg.lstsq(np.stack(rows), np.stack(values), rcond=None)[0]).view(images + 1, patches, -1)
    mean = solved[-1].mean(dim=0)
    return solved[-1] - mean, [one + mean for one in solved[:-1]]


def test_sums_over_batches_solve_the_joint_least_squares_problem() -> None:
    shifts = [shifts_of(2, 3, 1), shifts_of(3, 3, 2)]
    features = [seeded(len(some), 3, 12, 5, seed=7 + len(some)) for some in shifts]
    sums: dict[str, Tensor] = {}
    for own, moves in zip(features, shifts, strict=True):
        sums = added_sums(sums, own, moves, GRID)
    artefacts, places = least_squares(features, shifts)
    assert torch.allclose(position_artefacts(sums), artefacts, atol=1e-10)
    found = without_artefacts(features[1], shifts[1], GRID, position_artefacts(sums))
    assert torch.allclose(found[:, 0], torch.stack(places[2:]), atol=1e-10)  # the first view is not shifted
    down, right = shifts[1][2, 1].tolist()
    assert torch.equal(found[2, 1].view(*GRID, -1), found[2, 0].view(*GRID, -1).roll((down, right), (0, 1)))


def test_what_adds_up_is_taken_apart_exactly() -> None:
    shifts, own, artefacts = shifts_of(4, 3), seeded(4, 12, 5), seeded(12, 5, seed=1)
    artefacts -= artefacts.mean(dim=0)
    moved = rolled(own.transpose(1, 2).unflatten(2, GRID), shifts, (1, 1)).flatten(3).transpose(2, 3)
    sums = added_sums({}, moved + artefacts, shifts, GRID)
    assert torch.allclose(position_artefacts(sums), artefacts, atol=1e-12)
    assert torch.allclose(without_artefacts(moved + artefacts, shifts, GRID, position_artefacts(sums)), moved, atol=1e-12)


def test_views_that_do_not_differ_tell_nothing_of_artefacts() -> None:
    shifts, features = torch.zeros(2, 3, 2, dtype=torch.int64), seeded(2, 3, 12, 5)
    sums = added_sums({}, features, shifts, GRID)
    assert not position_artefacts(sums).any()
    assert torch.allclose(without_artefacts(features, shifts, GRID, position_artefacts(sums))[:, 1], features.mean(dim=1))


def test_shifts_are_a_samples_own_and_the_first_view_is_the_image() -> None:
    both = drawn_shifts(Draws(0, "x", ("a", "b")), 50, 2)
    assert torch.equal(both[1:], drawn_shifts(Draws(0, "x", ("b",)), 50, 2))
    assert not both[:, 0].any()
    assert set(both.flatten().tolist()) == {-2, -1, 0, 1, 2}


def test_the_distance_is_the_squared_error_and_one_minus_the_cosine() -> None:
    one, other = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]), torch.tensor([[[4.0, 3.0], [2.0, 0.0]]])
    assert float(distance(one, other)) == pytest.approx((1 + 1 + 4 + 4) / 4 + 1 - (24 / 25 + 0) / 2)


def random_denoiser(width: int, grid: tuple[int, int], resampled: bool = False) -> FeatureDenoiser:
    torch.manual_seed(0)
    made = FeatureDenoiser(width, grid, 1, resampled)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def test_prefix_tokens_pass_and_patch_tokens_go_through_position_map_attention_and_mlp() -> None:
    denoiser = random_denoiser(192, (2, 3))
    assert denoiser.layers[0].attn.num_heads == 3
    tokens = seeded(2, 8, 192).float()
    found = DenoisedNorm(nn.LayerNorm(192), denoiser, 2)(tokens)
    normed, layer = functional.layer_norm(tokens, (192,)), denoiser.layers[0]
    assert torch.equal(found[:, :2], normed[:, :2])
    x = normed[:, 2:] + denoiser.positions[0].reshape(192, 6).T
    q, k, v = layer.attn.qkv(layer.norm1(x)).view(2, 6, 3, 3, 64).permute(2, 0, 3, 1, 4)
    mixed = ((q @ k.transpose(2, 3) / 8).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
    x = x + layer.attn.proj(mixed)
    x = x + layer.mlp.fc2(functional.gelu(layer.mlp.fc1(layer.norm2(x))))
    assert torch.allclose(found[:, 2:], x, atol=1e-3, rtol=1e-4)
    assert layer.mlp.fc1.out_features == 4 * 192


@pytest.mark.parametrize("make", ["plain", "layer-scale", "registers", "distilled", "average-pooled"])
def test_a_trained_denoiser_changes_logits_where_these_are_read_from_patch_tokens(make) -> None:
    module = vits.HOSTS[make]().eval()
    before, images = module(vits.images(2)), vits.images(2)
    denoise_features(module, 1)
    assert torch.allclose(module(images), before, atol=1e-5), "at first it is the host"
    module.norm.denoiser = random_denoiser(24, (4, 4)).eval()
    assert torch.allclose(module(images), before, atol=1e-5) is (module.global_pool == "token")


def test_the_map_is_resampled_for_other_grids_where_the_model_takes_them() -> None:
    denoiser = random_denoiser(8, (4, 4), resampled=True)
    given = seeded(1, 4, 8).float()
    resampled = functional.interpolate(denoiser.positions, (2, 2), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    assert torch.allclose(denoiser(given), denoiser.layers(given + resampled))
    for other, count in ((denoiser, 5), (random_denoiser(8, (4, 4)), 4)):
        with pytest.raises(ModelError, match=f"takes all 4x4 patch tokens of an image, not {count}"):
            other(torch.zeros(1, count, 8))


def test_tokens_may_not_be_dropped_before_it() -> None:
    assert why_not_plain(denoise_features(vits.vit(), 1)) == "it reads tokens in their places, and takes all of an image"
    with pytest.raises(HostRefused, match="ReducedViT"):
        rv.transformed(rv.transformed(vits.made(vits.vit), "evit(keep=0.5)"), "feature_denoiser")


def test_an_attack_sees_through_a_trained_denoiser() -> None:
    module = denoise_features(vits.pooled(), 1)
    module.norm.denoiser = random_denoiser(24, (4, 4))
    model = vits.made(lambda: module, sharp=1.0).double()
    images, way = (0.3 + 0.4 * vits.images(1)).double().requires_grad_(), seeded(1, 3, 32, 32)
    slope = torch.autograd.grad(model(images).logsumexp(dim=1).sum(), images)[0]
    ends = [model(images + sign * 1e-5 * way).logsumexp(dim=1).sum().detach() for sign in (1, -1)]
    assert float((ends[0] - ends[1]) / 2e-5) == pytest.approx(float((slope * way).sum()), rel=1e-4)


def planted() -> nn.Module:
    """A host whose patch features are a projection of each patch, and a map of positions added to it."""
    torch.manual_seed(0)
    module: Any = vits.vit(depth=1, class_token=False, global_pool="avg")
    for last in (module.blocks[0].attn.proj, module.blocks[0].mlp.fc2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    nn.init.normal_(module.pos_embed, std=1.5)
    nn.init.normal_(module.patch_embed.proj.weight, std=0.1)
    whole: nn.Module = module
    return whole


def batch(count: int = 6, seed: int = 1) -> Batch:
    images = torch.rand(count, 3, vits.SIDE, vits.SIDE, generator=torch.Generator().manual_seed(seed))
    return Batch(images, torch.arange(count) % 5, tuple(f"{seed}/{row}" for row in range(count)))


def test_the_loss_of_a_planted_artefact_in_closed_form() -> None:
    """The error of the host itself is the artefact, whose mean square is that of the map less its mean."""
    defense = rv.load_defense("feature_denoiser", views=3)
    model: Any = defense.prepare(planted())
    read, shown = OnPixels(model, MEAN, STD), batch()
    loss = defense.loss(read, shown, Draws.for_step(0, 0, shown.ids))
    artefacts = (model.pos_embed - model.pos_embed.mean(dim=1, keepdim=True))[0].detach()
    shifts = drawn_shifts(Draws.for_step(0, 0, shown.ids), 3, 1)
    views = rolled((shown.images - 0.5) / 0.5, shifts, (8, 8)).flatten(0, 1)
    own = model.patch_embed(views).detach() + model.pos_embed.mean(dim=1, keepdim=True).detach()
    cosine = functional.cosine_similarity(own + artefacts, own, dim=2).mean()
    assert float(loss.detach()) == pytest.approx(float(artefacts.square().mean() + 1 - cosine), rel=1e-4)


def test_gradients_by_finite_differences_and_none_of_the_host() -> None:
    defense = rv.load_defense("feature_denoiser", views=2)
    model: Any = defense.prepare(planted()).double()
    for parameter in model.norm.denoiser.parameters():
        nn.init.normal_(parameter, std=0.2)
    read, shown = OnPixels(model, MEAN, STD).double(), batch(2)
    shown = shown.with_images(shown.images.double())

    def loss() -> Tensor:
        defense.state.clear()
        return defense.loss(read, shown, Draws.for_step(0, 0, shown.ids))

    loss().backward()
    own = [name for name, _ in model.named_parameters() if name.startswith("norm.denoiser.")]
    assert [name for name, one in model.named_parameters() if one.grad is not None] == own
    assert [name for name, one in model.named_parameters() if one.requires_grad] == own, "no penalty beside it trains the host"
    for name in ("positions", "layers.0.mlp.fc1.weight", "layers.0.attn.qkv.bias"):
        weight = model.norm.denoiser.get_parameter(name)
        way = seeded(*weight.shape)
        with torch.no_grad():
            ends = [(weight.add_(step * way), loss())[1] for step in (1e-5, -2e-5)]
            weight.add_(1e-5 * way)
        assert float((ends[0] - ends[1]) / 2e-5) == pytest.approx(float((weight.grad * way).sum()), rel=1e-4)


def data() -> rv.Data:
    levels = np.random.default_rng(0).integers(0, 256, (16, vits.SIDE, vits.SIDE, 3), np.uint8)
    return array_dataset("noise", levels, np.arange(16) % 5, ids=[f"n{i}" for i in range(16)], classes=list("abcde"))


def trained(module: nn.Module, epochs: int = 2, **more: Any) -> nn.Module:
    recipe = Recipe(epochs=epochs, batch_size=8, lr=0.02, weight_decay=0.5, ema=0.5, rotation=0, scale=0, shift=0)
    view = View((vits.SIDE, vits.SIDE), vits.SIDE)
    defense = rv.load_defense("feature_denoiser")
    return train(module, data(), view=view, mean=MEAN, std=STD, defense=defense, recipe=recipe, seed=0, **more).model


def test_training_moves_the_denoiser_and_no_bit_of_the_host() -> None:
    host = rv.transformed(vits.made(vits.vit), "token_aware_pooling").model  # whose batch normalisation has buffers
    module = vits.vit(depth=2, pos_drop_rate=0.2, drop_path_rate=0.3)
    for start in (module, host.train()):
        before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
        after = trained(copy.deepcopy(start)).state_dict()
        for name, tensor in before.items():
            assert torch.equal(after[name.replace("norm.", "norm.norm.", 1) if name.startswith("norm.") else name], tensor), name
        assert after["norm.denoiser.positions"].any()
        assert after["norm.denoiser.layers.0.mlp.fc2.weight"].any()


def test_a_resumed_run_goes_on_with_the_sums_of_artefacts() -> None:
    states: list[TrainingState] = []
    whole = trained(planted(), keep=lambda state: states.append(copy.deepcopy(state)))
    resumed = trained(planted(), start=states[0])
    assert states[0].defenses["feature_denoiser"]["kernel"].any()
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_training_removes_a_planted_artefact_and_leaves_what_is_the_images_own() -> None:
    host: Any = planted()
    model: Any = trained(copy.deepcopy(host), epochs=60)
    images = (batch(4, seed=3).images - 0.5) / 0.5
    own = host.patch_embed(images) + host.pos_embed.mean(dim=1)
    before, after = ((made.forward_features(images) - own).detach().square().mean() for made in (host, model))
    assert float(before) > 2
    assert float(after) < 0.05 * float(before)
    places = (host.pos_embed - host.pos_embed.mean(dim=1)).detach().square().sum() / 16
    patches = (1 - 1 / 16) * host.patch_embed.proj.weight.detach().square().sum() / 3  # of uniform noise in [−1, 1]
    assert energy(host) == pytest.approx(float(places / (places + patches)), abs=0.03)
    assert abs(energy(model)) < 0.03


def energy(module: nn.Module) -> float:
    """The share of `artifact_energy` over 32 images of noise, by the mean map of 200 others."""
    card = Card("toy", Spec("toy"), fingerprint(module), "given")
    model = Classifier(module, mean=MEAN, std=STD, view=View((vits.SIDE, vits.SIDE), vits.SIDE), card=card)
    mean = patch_features(model, batch(200, seed=5).images).double().mean(dim=0)
    given, draws = batch(32, seed=6), Draws(0, "analysis", batch(32, seed=6).ids)
    found = artifact_energy(model, given.images, given.labels, draws, {"mean": mean}, calibration=data())
    return 1 - float(found["value_position_residual"].sum() / found["value_patch_variance"].sum())


def test_a_loop_that_did_not_prepare_the_model_is_told() -> None:
    with pytest.raises(HostRefused, match="trains the denoiser that its `prepare` adds"):
        rv.load_defense("feature_denoiser").loss(OnPixels(vits.vit(), MEAN, STD), batch(2), Draws.for_step(0, 0, ("a", "b")))
