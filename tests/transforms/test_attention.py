"""The attention_temperature transform, against the same attention computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused, SuiteError
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.suite_file import read_suite
from robustvit.spec.written.call import called
from robustvit.transforms.attention import attention_temperature

SUITE = """name: t
title: t
data: digits
transforms: {}
scenarios: [clean]
metrics: [top1]
"""


def suite(folder: Path, transforms: str):
    (folder / "t.yaml").write_text(SUITE.format(transforms))
    return read_suite(folder / "t.yaml", "t.yaml")


def windowed(attention: nn.Module, tokens: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    """Swin's attention within windows, the bias of relative positions and the mask of shifted windows undivided."""
    n, t, width = tokens.shape
    query, key, value = attention.qkv(tokens).view(n, t, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    scores = torch.einsum("nhic,nhjc->nhij", query, key) / (math.sqrt(query.shape[-1]) * temperature)
    table, index = attention.relative_position_bias_table, attention.relative_position_index
    scores = scores + table[index.flatten()].view(t, t, -1).permute(2, 0, 1)
    scores = scores if mask is None else scores + mask.repeat(n // len(mask), 1, 1)[:, None]
    return attention.proj(torch.einsum("nhij,nhjc->nihc", scores.softmax(dim=-1), value).reshape(n, t, width))


def test_the_bias_of_relative_positions_is_not_divided(monkeypatch) -> None:
    host, pixels = vits.made(vits.swin), vits.images(4)
    found = attention_temperature(host, temperature=2.0)(pixels)
    kind = type(host.model.layers[0].blocks[0].attn)
    monkeypatch.setattr(kind, "forward", lambda self, tokens, mask=None: windowed(self, tokens, mask, 2.0))
    assert torch.allclose(found, host(pixels), atol=1e-4)


def test_a_high_temperature_attends_evenly() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    even = attention_temperature(host, temperature=1e9)(pixels)
    for block in host.model.blocks:
        block.attn.qkv.weight[:24] = 0.0  # queries of zero attend to all keys equally
        block.attn.qkv.bias[:24] = 0.0
    assert torch.allclose(even, host(pixels), atol=1e-4)


def test_temperatures_multiply() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    twice = attention_temperature(attention_temperature(host, temperature=2.0), temperature=1.5)
    assert torch.allclose(twice(pixels), attention_temperature(host, temperature=3.0)(pixels), atol=1e-4)


def test_the_card_and_the_view_are_the_hosts() -> None:
    host = vits.made(vits.vit)
    made = attention_temperature(host, temperature=2.0)
    assert (made.card, made.view, made.outputs, made.gradient) == (host.card, host.view, 5, "exact")


def test_precision_is_set_on_the_host_too() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    made = attention_temperature(host, temperature=2.0)
    exact = made(pixels)
    made.configure(precision="bfloat16")
    assert not torch.equal(made(pixels), exact)
    with made.in_float32():
        assert torch.equal(made(pixels), exact)


@pytest.mark.parametrize("make", [vits.cnn, lambda: vits.HuggingFace("eager")], ids=["cnn", "eager"])
def test_a_model_whose_attention_cannot_be_intercepted_is_refused_when_it_is_transformed(make) -> None:
    spec = bind(lookup("transform", "attention_temperature"), called("attention_temperature(temperature=2)", "transform"))
    with pytest.raises(HostRefused, match="'attention_temperature' takes models whose attention can be intercepted, and 'toy' is none"):
        apply_transform(vits.made(make, sharp=1.0), spec)


def test_a_list_of_temperatures_is_a_pipeline_for_each(tmp_path) -> None:
    found = suite(tmp_path, "[[], [{attention_temperature: {temperature: [1, 1.5, 2]}}]]").transforms
    assert [[str(spec) for spec in pipeline] for pipeline in found] == [
        [], *([f"attention_temperature(temperature={t})"] for t in ("1", "1.5", "2")),
    ]  # fmt: skip


def test_a_run_evaluates_every_temperature_and_tables_name_it(tmp_path) -> None:
    loaded = suite(tmp_path, "[[], [{attention_temperature: {temperature: [1, 1.5]}}]]")
    rv.run(loaded, models=["demo"], data="digits", store=tmp_path / "s", limit=64)
    board = rv.leaderboard(tmp_path / "s").set_index("transforms")["value"]
    names = ["", "attention_temperature(temperature=1)", "attention_temperature(temperature=1.5)"]
    assert list(board.index) == names
    assert board.iloc[0] == board.iloc[1] > 90
    assert names[1:] == [str(*cell.transforms) for cell in make(loaded, ["demo"], "digits", Settings()).cells[1:]]


def test_a_pipeline_that_is_listed_twice_is_refused(tmp_path) -> None:
    with pytest.raises(SuiteError, match="pipeline of transforms occurs twice"):
        suite(tmp_path, "[[{attention_temperature: {temperature: [2, 2]}}]]")


@pytest.mark.parametrize("temperature", ["0", "-1", "hot"])
def test_a_temperature_is_positive(tmp_path, temperature) -> None:
    with pytest.raises(BadParameter, match=r"t\.yaml:4: transform 'attention_temperature': temperature"):
        suite(tmp_path, f"[[{{attention_temperature: {{temperature: {temperature}}}}}]]")
