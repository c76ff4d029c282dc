"""Costs of an image: closed forms, shared weights, latency on request, and what tokens were computed on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vits
from torch import nn

import robustvit as rv
from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.pipelines.costs import activation_bytes, costs_of, stored_bytes
from robustvit.results.factors.view import factor_view
from robustvit.results.leaderboard import build_leaderboard

SUITE = """name: t
title: t
data: digits
scenarios: [clean, {fog: {severity: 3}}, {pgd: {eps: 1/255, steps: 2}}]
metrics: [top1, robust_accuracy, gmacs, tokens, {tokens: {block: 1}}]
"""


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.ReLU())


def test_bytes_of_a_linear_layer_are_counted_by_hand() -> None:
    weights = 4 * (48 * 5 + 5)
    assert stored_bytes(linear()) == weights
    reads_and_writes = 4 * (48 + 5) + 4 * (5 + 5)  # the product; the ReLU; flattening is a view
    assert activation_bytes(linear(), (4, 4)) == (reads_and_writes, 4 * (48 + 5 + 5))  # the image stays alive: its caller holds it


def test_the_peak_is_what_is_alive_at_once_and_no_view_of_it() -> None:
    class Widens(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            kept = images.flatten(1)[:, :10].exp()  # 10, held until the end
            wide = torch.cat([images.flatten(1)] * 5, dim=1)  # 240
            wide = wide.relu()  # 240 and 240 at once, then one of them
            low = wide.view(5, 48).sum(dim=0, keepdim=True)  # 48
            del wide
            return low[:, :10] + kept

    assert activation_bytes(Widens(), (4, 4)).peak == 4 * (48 + 10 + 240 + 240)


def test_tokens_that_are_gone_before_the_widest_layer_need_no_memory() -> None:
    host = vits.made(vits.HOSTS["plain"])
    assert costs_of(rv.transformed(host, "semantic_tokens(count=1, at=0)")).peak_bytes < costs_of(host).peak_bytes


def test_shared_weights_are_stored_once_and_a_layer_says_what_it_stores() -> None:
    class Packed(nn.Linear):
        def weight_bytes(self) -> int:
            return 7

    shared = nn.Linear(8, 8)
    tied = nn.Linear(8, 8)
    tied.weight = shared.weight
    assert stored_bytes(nn.Sequential(shared, shared)) == 4 * 72
    assert stored_bytes(nn.Sequential(shared, tied)) == 4 * (64 + 8 + 8)
    assert stored_bytes(nn.Sequential(Packed(8, 8), nn.LayerNorm(8))) == 7 + 4 * 16


def test_operations_of_a_token_reducer_are_those_of_its_papers() -> None:
    host = vits.made(vits.HOSTS["plain"])
    merged = rv.transformed(host, "mctf(r=2)")
    merged(vits.images(1))
    assert costs_of(merged).macs == round(1e9 * float(merged.model.counted["gmacs"][0]))
    assert costs_of(merged).macs < count(merged.model, host.size).macs, "torch counts the similarities of tokens, too"
    assert costs_of(host).macs == count(host.model, host.size).macs
    assert costs_of(rv.transformed(host, "ats")).macs is None


def test_a_quantiser_of_attention_maps_costs_no_operation_more() -> None:
    host = vits.made(vits.HOSTS["plain"])
    assert costs_of(rv.transformed(host, "log2(bits=4)")).macs == costs_of(host).macs


def test_costs_that_need_numbers_are_not_counted() -> None:
    class Chooses(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, : 2 + int(images.sum() > 1e9)]

    found = costs_of(vits.made(Chooses))
    assert (found.macs, found.moved_bytes, found.peak_bytes) == (None, None, None)
    assert "not counted" in found.reason
    assert "macs" not in found.facts()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("costs")
    (folder / "t.yaml").write_text(SUITE)
    models = ["demo", "demo+tome(r=2)", "demo+ats", "demo+quantize(bits=8)"]
    assert not rv.run(folder / "t.yaml", models, store=folder / "s", limit=70, latency=True).failed
    return folder / "s"


@pytest.mark.long
def test_each_pipeline_has_its_own_costs_and_latency(store) -> None:
    known = build_leaderboard(store).cards["demo"].pipelines
    host, tome, ats, int8 = known[""], known["tome(r=2)"], known["ats"], known["quantize(bits=8)"]
    assert tome["macs"] < host["macs"] == int8["macs"]
    assert 3.5 < host["weight_bytes"] / int8["weight_bytes"] < 4
    assert host["weight_bytes"] == tome["weight_bytes"] >= 4 * host["parameters"]
    assert "macs" not in ats
    assert all(0 < one["latency"] < 10 for one in known.values())
    assert {one["gradient"] for one in known.values()} == {"exact"}


def test_rows_tell_the_tokens_and_operations_of_every_image(store) -> None:
    rows = rv.load_records(store).to_pandas(["sample", "value_tokens", "value_gmacs"])
    tome = rows[rows["transforms"] == "tome(r=2)"]
    host = rv.load_model("demo")
    depth, tokens = len(host.model.blocks), 17
    expected = [tokens - 2 * min(block + 1, 4) for block in range(depth)]
    assert (np.stack(tome["value_tokens"].to_numpy())[:, :3] == expected[:3]).all()
    assert tome["value_gmacs"].nunique() == 1
    ats = rows[(rows["transforms"] == "ats") & (rows["scenario"] == "clean")]
    assert ats["value_gmacs"].nunique() > 3, "what is computed depends on the image"
    alone = rv.transformed(host, "ats")
    data = rv.load_data("digits")
    sample = next(one for one in (data[i] for i in range(len(data))) if one.id == ats["sample"].iloc[5])
    with torch.no_grad():
        alone(alone.preprocess(sample.image)[None])
    assert torch.equal(alone.model.counted["tokens"][0].float(), torch.tensor(ats["value_tokens"].iloc[5]))
    assert rows.loc[rows["transforms"] == "quantize(bits=8)", "value_gmacs"].isna().all()


def test_the_factor_view_has_costs_by_pipeline_and_measured_operations_where_they_vary(store) -> None:
    board = build_leaderboard(store)
    view = factor_view(board).rows.set_index("model")
    own = board.rows[(board.rows["metric"] == "gmacs") & (board.rows["scenario"] == "clean")].set_index("transforms")["value"]
    assert view.loc["demo → ats", "macs"] == pytest.approx(1e9 * own["ats"])
    assert view.loc["demo → tome(r=2)", "macs"] == board.cards["demo"].pipelines["tome(r=2)"]["macs"]
    assert view.loc["demo → quantize(bits=8)", "weight_bytes"] < view.loc["demo", "weight_bytes"] / 3
    assert (view["latency"] > 0).all()


def test_a_latency_that_was_measured_is_kept_by_later_runs(store, tmp_path) -> None:
    (tmp_path / "t.yaml").write_text(SUITE.replace("severity: 3", "severity: 1"))
    rv.run(tmp_path / "t.yaml", ["demo+tome(r=2)"], store=store, limit=4)
    assert build_leaderboard(store).cards["demo"].pipelines["tome(r=2)"]["latency"] > 0
