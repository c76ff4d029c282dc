"""Skip connections, reach, clusters and positions of tokens: closed forms and steps by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from vits import TILE, distilled, images, made, pooled, registers, swin, vit

from robustvit.analyses.insides.attention_reach import attention_reach, by_distance
from robustvit.analyses.insides.skip_strength import skip_strength
from robustvit.analyses.insides.token_clusters import agreement, token_clusters
from robustvit.analyses.insides.token_position_probe import fit_probe, probe_passes, token_position_probe
from robustvit.errors import BadParameter, HostRefused
from robustvit.metrics.insides.blocks import near_attention
from robustvit.metrics.insides.blocks import skip_strength as skip_metric
from robustvit.metrics.insides.similarity import cluster_agreement
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import forward_with_attention
from robustvit.primitives.inference.token_grid import TokenGrid, token_grid
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import GRADIENT, Passes
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

COUNT = TILE + 2
LABELS = torch.arange(COUNT) % 5
ONES = [skip_strength, attention_reach]


class Train:
    """Images by number, of which no labels are read."""

    name, ids = "train", tuple(str(row) for row in range(12))

    def __len__(self) -> int:
        return len(self.ids)


def drawn(count: int = COUNT) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def units(model: Classifier, pixels: Tensor) -> list[Tensor]:
    tiles = [tile.units for tile in unit_tokens(model, pixels)]
    return [torch.cat([tile[place] for tile in tiles]) for place in range(len(tiles[0]))]


@pytest.mark.parametrize("measure", ONES)
def test_shifted_numbers_are_those_of_the_shifted_images(measure: Any) -> None:
    model, pixels = made(vit), images(COUNT)
    found = measure(model, pixels, LABELS, drawn(), corruption=lambda some, draws: some * 0.5)
    alone, other = measure(model, pixels, LABELS, drawn()), measure(model, pixels * 0.5, LABELS, drawn())
    assert set(found) == {*alone, *(name.replace("_clean_", "_shifted_") for name in alone)}
    for name in alone:
        assert torch.equal(found[name], alone[name])
        assert torch.equal(found[name.replace("_clean_", "_shifted_")], other[name])
        assert not torch.equal(alone[name], other[name])
    with pytest.raises(HostRefused, match="'toy'"):
        measure(made(swin), images(2), LABELS[:2], drawn(2))
    with pytest.raises(BadParameter, match=f"{measure.__name__} compares clean images with shifted ones"):
        measure(model, images(2), LABELS[:2], drawn(2), corruption=lambda some, draws: some, attack=lambda *given: given[1])


@pytest.mark.parametrize("make", [vit, registers, pooled])
def test_skip_strength_is_the_ratio_of_norms(make: Any) -> None:
    model, pixels = made(make), images(COUNT)
    found = skip_strength(model, pixels, LABELS, drawn())
    joints = units(model, pixels)
    prefix, has_class = joints[0].shape[1] - 16, make is vit
    for place, (before, after) in enumerate(itertools.pairwise(joints)):
        for row in range(COUNT):
            ratios = [float(before[row, t].norm() / (after - before)[row, t].norm()) for t in range(before.shape[1])]
            assert float(found["value_clean_skip_patches"][row, place]) == pytest.approx(np.mean(ratios[prefix:]), rel=1e-4)
            if has_class:
                assert float(found["value_clean_skip_class"][row, place]) == pytest.approx(ratios[0], rel=1e-4)
    assert ("value_clean_skip_class" in found) is has_class
    assert found["value_clean_skip_patches"].shape == (COUNT, len(joints) - 1)


def test_an_update_scaled_down_makes_the_skip_stronger() -> None:
    model = made(vit)
    before = skip_strength(model, images(2), LABELS[:2], drawn(2))["value_clean_skip_patches"]
    block: Any = model.model.blocks[0]  # type: ignore[index]
    block.attn.proj.weight.data *= 0.1
    block.attn.proj.bias.data *= 0.1
    after = skip_strength(model, images(2), LABELS[:2], drawn(2))["value_clean_skip_patches"]
    assert torch.allclose(after[:, 0], 10 * before[:, 0], rtol=1e-4)
    rows = pd.DataFrame({"value_clean_skip_patches": list(before.numpy())})
    assert skip_metric(rows, block=1, of="attention").tolist() == pytest.approx(before[:, 2].tolist())
    assert skip_metric(rows, block=1, of="mlp").tolist() == pytest.approx(before[:, 3].tolist())


def test_uniform_identity_and_shift_attention_reach_what_they_reach() -> None:
    grid = TokenGrid(1, 4, 4, True)
    places = [(r, c) for r in range(4) for c in range(4)]
    count = np.zeros((16, 4))
    for i, (r, c) in enumerate(places):
        for other in places:
            count[i, max(abs(r - other[0]), abs(c - other[1]))] += 1 / 16
    uniform = torch.full((1, 1, 17, 17), 1 / 17, dtype=torch.float64)
    assert by_distance(uniform, grid)[0, 0].tolist() == pytest.approx(count.mean(axis=0).tolist())
    identity = torch.eye(17, dtype=torch.float64)[None, None]
    assert by_distance(identity, grid)[0, 0].tolist() == pytest.approx([1, 0, 0, 0])
    right = torch.zeros(1, 1, 17, 17, dtype=torch.float64)
    right[0, 0, 0, 0] = 1.0
    for i, (r, c) in enumerate(places):
        right[0, 0, 1 + i, 1 + places.index((r, min(c + 2, 3)))] = 1.0
    assert by_distance(right, grid)[0, 0].tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 2, 0])


@pytest.mark.parametrize("make", [vit, distilled])
def test_reach_is_of_every_head_of_every_block(make: Any) -> None:
    model, pixels = made(make), images(COUNT)
    found, maps = attention_reach(model, pixels, LABELS, drawn()), forward_with_attention(model, pixels).maps
    grid = token_grid(model, maps[0].shape[-1])
    each = torch.stack([by_distance(one, grid) for one in maps], dim=1)
    assert torch.allclose(found["value_clean_reach"], each.flatten(1).float(), atol=1e-6)
    assert torch.allclose(found["value_clean_near"], (each[..., 0] + each[..., 1]).mean(dim=2).float(), atol=1e-6)
    assert float(each.sum(dim=-1).sub(1).abs().max()) < 1e-6
    rows = pd.DataFrame({"value_clean_near": list(found["value_clean_near"].numpy())})
    assert near_attention(rows, block=2).tolist() == pytest.approx(found["value_clean_near"][:, 2].tolist())


def test_apart_classes_are_clusters_and_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    apart = np.eye(4)[labels] * 50 + rng.normal(size=(120, 4))
    assert agreement(apart, labels, 0) == pytest.approx((1.0, 1.0, 1.0))
    purity, nmi, ari = agreement(rng.normal(size=(120, 4)), labels, 0)
    assert purity < 0.5
    assert nmi < 0.15
    assert abs(ari) < 0.1


def test_purity_is_the_commonest_class_of_each_cluster() -> None:
    """A cluster of six and one, and one of five and one."""
    features = np.array([[0.0]] * 7 + [[9.0]] * 6)
    labels = np.array([0] * 6 + [1] + [0] * 5 + [1])
    assert agreement(features, labels, 0)[0] == pytest.approx(11 / 13)


def test_clusters_are_of_each_group_and_block() -> None:
    model, labels = made(registers), torch.arange(128) % 5
    pixels = images(128)
    found = token_clusters(model, pixels, labels, drawn(128), group=64)
    starts = drawn(128).at("starts").integers(low=0, high=2**31 - 1).tolist()[::64]
    joints = units(model, pixels)
    for block in range(3):
        features = joints[2 + 2 * block][:, 4:].mean(dim=1).double().numpy()
        for group in range(2):
            rows = slice(64 * group, 64 * group + 64)
            expected = agreement(features[rows], labels[rows].numpy(), starts[group])
            own = [float(found[f"value_clean_cluster_{name}"][group, block]) for name in ("purity", "nmi", "ari")]
            assert own == pytest.approx(expected, abs=1e-6)
    of_class = token_clusters(model, pixels, labels, drawn(128), group=64, of="class")  # it has registers and no class token
    features = joints[2][:64, 4:].mean(dim=1).double().numpy()
    assert float(of_class["value_clean_cluster_nmi"][0, 0]) == pytest.approx(
        agreement(features, labels[:64].numpy(), starts[0])[1], abs=1e-6
    )
    with_class = made(vit)
    own = token_clusters(with_class, pixels, labels, drawn(128), group=64, of="class")["value_clean_cluster_nmi"]
    features = units(with_class, pixels)[4][:64, 0].double().numpy()
    assert float(own[0, 1]) == pytest.approx(agreement(features, labels[:64].numpy(), starts[0])[1], abs=1e-6)
    group = np.arange(256) // 64
    table = pd.DataFrame({"group": group, **{name: list(np.tile(values.numpy(), (2, 1))[group]) for name, values in found.items()}})
    expected = found["value_clean_cluster_ari"][:, 1].tolist()
    assert np.asarray(cluster_agreement(table, of="ari", block=1).values).tolist() == pytest.approx(expected * 2)
    with pytest.raises(BadParameter, match="some images are of no class"):
        token_clusters(model, pixels, labels - 1, drawn(128), group=64)


def fitted(model: Classifier, pixels: Tensor, samples: int = 12, ridge: float = 1e-3) -> dict[str, Tensor]:
    def load(data: Any, positions: np.ndarray) -> Batch:
        return Batch(pixels[positions], torch.zeros(len(positions), dtype=torch.int64), tuple(str(one) for one in positions))

    return fit_probe(model, load, drawn(1), train=Train(), samples=samples, ridge=ridge)  # type: ignore[arg-type]


def probed(model: Classifier, pixels: Tensor, artifact: dict[str, Tensor], **more: Any) -> dict[str, Tensor]:
    count = len(pixels)
    return token_position_probe(model, pixels, LABELS[:count], drawn(count), artifact, train=Train(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [vit, registers])
def test_a_probe_is_ridge_regression_on_the_places(make: Any) -> None:
    """By scikit-learn, on standardised tokens."""
    from sklearn.linear_model import Ridge

    model, pixels = made(make), images(12)
    weight = fitted(model, pixels, samples=10, ridge=0.01)["weight"]
    chosen = order(Train.ids)[:10]
    for block, tokens in enumerate(units(model, pixels[chosen])[2::2]):
        rows = tokens[:, tokens.shape[1] - 16 :].double().flatten(0, 1).numpy()
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        ridge = Ridge(alpha=0.01 * len(rows)).fit((rows - mean) / scale, np.tile(np.eye(16), (10, 1)))
        expected = ridge.coef_.T / scale[:, None]
        assert np.allclose(weight[block, :-1].numpy(), expected, rtol=1e-4, atol=1e-7)
        assert np.allclose(weight[block, -1].numpy(), ridge.intercept_ - mean @ expected, rtol=1e-4, atol=1e-6)


def test_places_are_told_by_position_embeddings_alone() -> None:
    pixels = images(12)
    told, untold = made(vit), made(lambda: vit(pos_embed="none"))
    told.model.pos_embed.data *= 50  # type: ignore[union-attr,operator]
    assert float(probed(told, pixels, fitted(told, pixels))["value_clean_position"][:, 0].mean()) > 0.99
    blank = torch.full_like(pixels, 0.5) + 1e-3 * pixels.mean(dim=(2, 3), keepdim=True)
    found = probed(untold, blank, fitted(untold, blank))["value_clean_position"]
    assert float(found.mean()) == pytest.approx(1 / 16, abs=1e-6)


def test_a_probe_reads_shifted_images_with_the_same_weights() -> None:
    model, pixels = made(vit), images(COUNT)
    artifact = fitted(model, images(12))
    found = probed(model, pixels, artifact, corruption=lambda some, draws: some**3)
    assert torch.equal(found["value_shifted_position"], probed(model, pixels**3, artifact)["value_clean_position"])
    assert found["value_clean_position"].shape == (COUNT, 3)
    spec = Spec("token_position_probe", (("samples", 100),))
    assert probe_passes(spec, model, {"train": Train(), "corruption": object()}) == Passes(forward=2.0, fit=12 / GRADIENT)
    assert probe_passes(spec, model, {"train": Train(), "attack": object()}) is None
