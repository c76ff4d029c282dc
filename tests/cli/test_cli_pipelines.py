"""What the command says of models with transforms."""

from __future__ import annotations

SUITE = """name: p
title: p
data: digits
transforms: [[], [evit], [tome]]
scenarios: [{fgsm: {eps: 1/255}}]
metrics: [robust_accuracy]
"""


def test_messages_name_the_pipelines_and_each_reason_once(tmp_path, robustvit) -> None:
    (tmp_path / "p.yaml").write_text(SUITE)
    told = robustvit("run", "--suite", tmp_path / "p.yaml", "--store", tmp_path / "s", "--limit", "4").err
    (line,) = [line for line in told.splitlines() if "gradients unchecked" in line]
    assert "demo, demo → evit(keep=0.7), demo → tome(r=8) ·" in line


def test_a_cost_that_nothing_was_measured_of_is_told(tmp_path, robustvit) -> None:
    (tmp_path / "p.yaml").write_text(SUITE)
    robustvit("run", "--suite", tmp_path / "p.yaml", "--store", tmp_path / "s", "--limit", "4")
    refused = robustvit("factors", "--store", tmp_path / "s", "--cost", "latency")
    assert (refused.code, refused.err) == (1, "robustvit: no model here has a number of ms per image (latency). Run again with --latency.")
    assert "MiB of weights" in robustvit("factors", "--store", tmp_path / "s", "--cost", "weight_bytes", "--format", "md").out
