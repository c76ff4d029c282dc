"""What blocks do: closed forms, steps by hand, and the metrics that read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from vits import TILE, distilled, images, made, pooled, registers, swin, vit

import robustvit as rv
from robustvit.analyses.insides.attention_profile import attention_profile, profile_passes
from robustvit.analyses.insides.class_identifiability import class_identifiability, identifiability
from robustvit.analyses.insides.feature_diversity import feature_diversity
from robustvit.analyses.insides.fourier import diagonal_spectrum, fourier
from robustvit.errors import BadParameter, HostRefused, NotApplicable
from robustvit.metrics.insides.blocks import attention_distance, high_frequencies
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import forward_with_attention
from robustvit.primitives.inference.attention_statistics import map_statistics
from robustvit.primitives.inference.token_grid import token_grid
from robustvit.primitives.inference.token_scores import readout, token_scores
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.primitives.reading import Reading
from robustvit.report.columns import Column
from robustvit.statistics.estimates import describes

ANALYSES = (attention_profile, feature_diversity, fourier, class_identifiability)
COUNT = TILE + 2
LABELS = torch.arange(COUNT) % 5


def drawn(count: int = COUNT) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def units(model: Classifier, pixels: Tensor) -> list[Tensor]:
    tiles = [tile.units for tile in unit_tokens(model, pixels)]
    return [torch.cat([tile[place] for tile in tiles]) for place in range(len(tiles[0]))]


@pytest.mark.parametrize("measure", ANALYSES)
def test_shifted_numbers_are_those_of_the_shifted_images(measure: Any) -> None:
    model, pixels = made(vit), images(COUNT)
    alone = measure(model, pixels, LABELS, drawn())
    assert all(name.startswith("value_clean_") for name in alone)
    fogged = measure(model, pixels, LABELS, drawn(), corruption=lambda some, draws: some * 0.5)
    attacked = measure(
        model, pixels, LABELS, drawn(), attack=lambda model, some, labels, draws: Crafted(some * 0.5, torch.ones(len(some)), None)
    )
    other = measure(model, pixels * 0.5, LABELS, drawn())
    for columns in (fogged, attacked):
        assert set(columns) == {*alone, *(name.replace("_clean_", "_shifted_") for name in alone)}
        for name, values in alone.items():
            assert torch.equal(columns[name], values)
            assert torch.equal(columns[name.replace("_clean_", "_shifted_")], other[name])
            assert values.dtype == torch.float32
            assert not torch.equal(values, other[name]) or name == "value_clean_offset_heads"


@pytest.mark.parametrize("measure", ANALYSES)
def test_both_a_corruption_and_an_attack_are_refused(measure: Any) -> None:
    with pytest.raises(BadParameter, match=f"{measure.__name__} compares clean images with shifted ones: give corruption or attack"):
        measure(made(vit), images(2), LABELS[:2], drawn(2), corruption=lambda some, draws: some, attack=lambda *given: given[1])


@pytest.mark.parametrize("measure", ANALYSES)
def test_models_in_windows_are_refused_by_name(measure: Any) -> None:
    with pytest.raises(HostRefused, match="'toy'"):
        measure(made(swin), images(2), LABELS[:2], drawn(2))


@pytest.mark.parametrize("make", [vit, registers, distilled])
def test_a_profile_has_the_statistics_of_every_map(make: Any) -> None:
    model, pixels = made(make), images(COUNT)
    found, maps = attention_profile(model, pixels, LABELS, drawn()), forward_with_attention(model, pixels).maps
    grid = token_grid(model, maps[0].shape[-1])
    for block, one in enumerate(maps):
        for name, values in map_statistics(one, grid, (8.0, 8.0))._asdict().items():
            assert torch.allclose(found[f"value_clean_{name}"][:, block], values.float(), atol=1e-6)
    assert bool((found["value_clean_prefix"] > 0).all()) is (grid.prefix > 0)


def test_diversity_is_the_distance_to_the_nearest_matrix_of_equal_rows() -> None:
    model, pixels = made(registers), images(COUNT)
    found = feature_diversity(model, pixels, LABELS, drawn())["value_clean_diversity"]
    for place, tokens in enumerate(units(model, pixels)):
        patches = tokens[:, 4:].double()
        residual = torch.linalg.lstsq(torch.ones(COUNT, 16, 1, dtype=torch.float64), patches)
        nearest = torch.ones(COUNT, 16, 1, dtype=torch.float64) @ residual.solution
        expected = torch.linalg.matrix_norm(patches - nearest) / torch.linalg.matrix_norm(patches)
        assert torch.allclose(found[:, place], expected.float(), atol=1e-6)
    assert found.shape == (COUNT, 7)


def test_equal_tokens_have_no_diversity_and_those_of_mean_zero_have_all() -> None:
    model = made(lambda: vit(pos_embed="none", depth=1))
    assert feature_diversity(model, images(2) * 0 + 0.3, LABELS[:2], drawn(2))["value_clean_diversity"].abs().max() < 1e-6
    tokens: Any = model.model
    tokens.patch_embed.proj.bias.data -= tokens.patch_embed((images(1) - model.mean) / model.std).mean(dim=1)[0]
    found = feature_diversity(model, images(1), LABELS[:1], drawn(1))["value_clean_diversity"]
    assert float(found[0, 0]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("side", [4, 5])
def test_a_spectrum_is_that_of_sums_over_the_grid(side: int) -> None:
    maps = Draws(0, "maps", ["a", "b"]).normal(3, side, side).double()
    found = diagonal_spectrum(maps)
    assert found.shape == (2, side // 2 + 1)
    place = torch.arange(side, dtype=torch.float64)
    for k in range(side // 2 + 1):
        angle = 2 * math.pi * k * (place[:, None] + place[None]) / side
        amplitude = ((maps * angle.cos()).sum(dim=(2, 3)) ** 2 + (maps * angle.sin()).sum(dim=(2, 3)) ** 2).sqrt()
        start = maps.sum(dim=(2, 3)).abs()
        assert torch.allclose(found[:, k], ((amplitude + 1e-6).log() - (start + 1e-6).log()).mean(dim=1), atol=1e-9)


def test_fourier_reads_the_patches_of_every_joint_as_a_map() -> None:
    model, pixels = made(registers), images(COUNT)
    found = fourier(model, pixels, LABELS, drawn())
    for place, tokens in enumerate(units(model, pixels)):
        maps = tokens[:, 4:].double().transpose(1, 2).reshape(COUNT, 24, 4, 4)
        spectrum = diagonal_spectrum(maps).float()
        assert torch.equal(found["value_clean_log_amplitude"][:, place], spectrum[:, 2])
        assert torch.equal(found["value_clean_spectrum"][:, 3 * place : 3 * place + 3], spectrum)
        assert torch.allclose(found["value_clean_feature_variance"][:, place], maps.flatten(2).var(dim=2, correction=0).mean(dim=1).float())
    assert found["value_clean_spectrum"].shape == (COUNT, 21)


def test_averaging_attention_is_a_low_pass_filter() -> None:
    model = made(lambda: vit(depth=1, pos_embed="none"), sharp=1.0)
    block: Any = model.model.blocks[0]  # type: ignore[index]
    block.attn.qkv.weight.data[:48] = 0.0  # queries and keys: attention is the mean
    found = fourier(model, images(COUNT), LABELS, drawn())["value_clean_log_amplitude"]
    assert bool((found[:, 1] < found[:, 0] + 0.5).all())
    tokens = units(model, images(COUNT))
    update = (tokens[1] - tokens[0])[:, 1:]
    assert float((update - update.mean(dim=1, keepdim=True)).abs().max()) < 1e-5


@pytest.mark.parametrize("make", [vit, registers, distilled, pooled])
def test_what_the_head_reads_after_the_last_block_gives_the_logits(make: Any) -> None:
    model, pixels = made(make), images(TILE)
    (tile,) = unit_tokens(model, pixels)
    if make in (vit,):
        assert torch.allclose(token_scores(model, readout(model, tile.mlp[-1])), tile.logits, atol=1e-4)
    net: Any = model.model
    if make is distilled:
        normed = net.norm(tile.mlp[-1][:, :2])
        ours = token_scores(model, tile.mlp[-1][:, :2])
        assert torch.allclose(ours, (net.head(normed) + net.head_dist(normed)) / 2, atol=1e-5)
    if make in (registers, pooled):
        mean = tile.mlp[-1][:, net.num_prefix_tokens :].mean(dim=1)
        assert torch.equal(readout(model, tile.mlp[-1]), mean)
        assert torch.allclose(token_scores(model, readout(model, tile.mlp[-1])), tile.logits, atol=1e-4)
    subset = ReadClassifier(model, Reading("some", 2, columns=(4, 1)))
    assert torch.equal(token_scores(subset, tile.mlp[-1]), token_scores(model, tile.mlp[-1])[..., [4, 1]])


def test_identifiability_is_the_rank_of_the_true_class() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 2.0, 1.0]])
    assert identifiability(scores, torch.tensor([0, 0, 2, 3])).tolist() == [1.0, 0.25, 1.0, 0.5]
    draws = Draws(0, "scores", [str(row) for row in range(4000)])
    found = identifiability(draws.normal(10)[:, :], torch.arange(4000) % 10)
    assert float(found.mean()) == pytest.approx(0.55, abs=4 * float(found.std()) / math.sqrt(4000))


def test_identifiability_of_blocks_by_hand() -> None:
    model, pixels = made(vit), images(COUNT)
    found, (embedded, *rest) = class_identifiability(model, pixels, LABELS, drawn()), units(model, pixels)
    net: Any = model.model

    def ranked(tokens: Tensor, label: int) -> float:
        scores = net.head(net.norm(tokens)).tolist()
        return 1 - sum(one > scores[label] for one in scores) / 5

    for row in range(COUNT):
        label = int(LABELS[row])
        for block in range(3):
            before = embedded if block == 0 else rest[2 * block - 1]
            between, after = rest[2 * block], rest[2 * block + 1]
            expected = {
                "identifiability": ranked(after[row, 0], label), "written_attention": ranked(between[row, 0] - before[row, 0], label),
                "written_mlp": ranked(after[row, 0] - between[row, 0], label),
                "identifiability_patches": sum(ranked(after[row, place], label) for place in range(1, 17)) / 16,
            }  # fmt: skip
            for name, value in expected.items():
                assert float(found[f"value_clean_{name}"][row, block]) == pytest.approx(value, abs=1e-6)


def test_tokens_that_are_their_class_are_identified_in_every_block() -> None:
    model = made(lambda: vit(depth=2, num_classes=24, final_norm=False), sharp=0.0)
    net: Any = model.model
    net.head.weight.data = torch.eye(24)
    for parameter in (net.cls_token, net.pos_embed, net.patch_embed.proj.weight, net.patch_embed.proj.bias):
        parameter.data.zero_()
    net.patch_embed.proj.bias.data[7] = 1.0
    net.cls_token.data[..., 7] = 1.0
    for block in net.blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.bias.data.zero_()
    found = class_identifiability(model, images(3), torch.tensor([7, 7, 6]), drawn(3))
    for name in ("identifiability", "identifiability_patches"):
        assert found[f"value_clean_{name}"][:2].eq(1.0).all()
        assert torch.allclose(found[f"value_clean_{name}"][2], torch.tensor(1 - 1 / 24))


def test_heads_that_pool_otherwise_or_are_none_are_refused() -> None:
    for make, why in (
        (lambda: vit(global_pool="map", class_token=False), "pools its tokens by 'map'"),
        (lambda: vit(num_classes=0), "no head"),
    ):
        model = made(make)
        with pytest.raises(HostRefused, match=f"'toy' is none: it .*{why}"):
            token_scores(model, torch.zeros(1, 1, 24))


def frame(**columns: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame({f"value_{name}": values for name, values in columns.items()})


def test_metrics_read_a_block_a_side_or_what_a_part_of_it_adds() -> None:
    rows = frame(
        clean_distance=[[1, 3], [2, 6]], shifted_distance=[[2, 5], [2, 8]], clean_log_amplitude=[[0, -1, 3, 2, 7], [0, 0, 1, 0, 0]],
        shifted_log_amplitude=[[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
    )  # fmt: skip
    assert attention_distance(rows).tolist() == [2.0, 4.0]
    assert attention_distance(rows, block=1).tolist() == [3.0, 6.0]
    assert attention_distance(rows, block=1, side="shifted").tolist() == [5.0, 8.0]
    assert attention_distance(rows, side="shifted", drift=True).tolist() == [1.5, 1.0]
    assert high_frequencies(rows, block=0).tolist() == [3.0, 1.0]
    assert high_frequencies(rows, block=1, of="attention").tolist() == [-1.0, -1.0]
    assert high_frequencies(rows, block=1, of="mlp").tolist() == [5.0, 0.0]
    assert high_frequencies(rows, of="attention").tolist() == [-1.0, -0.5]
    assert high_frequencies(rows, block=1, of="attention", side="shifted", drift=True).tolist() == [2.0, 1.0]
    with pytest.raises(NotApplicable, match="the model has 2 blocks, 0 to 1"):
        attention_distance(rows, block=2)
    with pytest.raises(BadParameter, match="give side=shifted, too"):
        attention_distance(rows, drift=True)


def test_passes_are_twice_as_many_where_something_shifts_and_unknown_of_attacks() -> None:
    given: Any = None
    assert profile_passes(given, given, {}) == Passes(forward=3.0)
    assert profile_passes(given, given, {"corruption": abs, "attack": None}) == Passes(forward=6.0)
    assert profile_passes(given, given, {"attack": abs}) is None


def test_a_suite_with_all_of_them_runs_and_is_scored(tmp_path: Any) -> None:
    names = ("attention_profile", "feature_diversity", "fourier", "class_identifiability")
    scenarios = "".join(f"  - {name}\n  - {name}: {{corruption: {{gaussian_noise: {{severity: 5}}}}}}\n" for name in names)
    scenarios += "  - attention_profile: {attack: {fgsm: {eps: 8/255}}}\n"
    metrics = "".join(
        f"  - {name}: {{side: shifted, drift: [false, true]}}\n" for name in ("attention_distance", "feature_diversity", "high_frequencies")
    )
    path = tmp_path / "insides.yaml"
    path.write_text(f"name: mine\ntitle: Mine\ndata: digits\nscenarios:\n{scenarios}metrics:\n  - class_identifiability\n{metrics}")
    done = rv.run(path, ["demo"], store=tmp_path / "s", limit=8, progress=False)
    assert (done.failed, done.undefined) == ({}, {})
    board = rv.leaderboard(tmp_path / "s").set_index(["scenario", "metric"])["value"]
    drift = board["attention_profile", "attention_distance(drift=True, side=shifted)"]
    assert np.isfinite(drift).sum() == 2, "under noise and under FGSM"
    assert board["class_identifiability", "class_identifiability"].between(50, 100).all()


def test_of_metrics_that_describe_neither_more_nor_less_is_said_to_be_better() -> None:
    column = Column("x", "x", "px", True, descriptive=True)
    assert (column.subtitle, column.marked) == ("px", False)
    assert (Column("x", "x", "px", True).subtitle, Column("x", "x", "px", True).marked) == ("px · higher is better", True)
    assert (describes("attention_distance(side=shifted)"), describes("class_identifiability"), describes("top1")) == (True, False, False)


def test_models_are_not_ranked_by_what_describes(tmp_path: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\ndata: digits\nscenarios: [attention_profile, class_identifiability]\n"
        "metrics: [attention_distance, class_identifiability]\n"
    )
    rv.run(path, ["demo/plain", "demo/pgd-at"], store=tmp_path / "s", limit=48, progress=False)
    reasons = rv.ranks(tmp_path / "s").groupby("metric")["reason"].agg(set)
    assert reasons["attention_distance"] == {"neither more nor less of it is better"}
    assert "neither more nor less of it is better" not in reasons["class_identifiability"]
