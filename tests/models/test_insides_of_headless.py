"""Models without a head under analyses that read no outputs, and under those that do."""

from __future__ import annotations

from pathlib import Path

import robustvit as rv
from robustvit.primitives.scenario import takes_headless
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import Spec, parse
from robustvit.spec.suite_file import read_suite

HEADLESS = "vit_tiny_patch16_224?weights=random&num_classes=0&kwargs=img_size=32,patch_size=8,embed_dim=10,depth=1,num_heads=1"
SCENARIOS = """
  - clean
  - feature_diversity: {corruption: {gaussian_noise: {severity: 5}}}
  - feature_diversity: {attack: {fgsm: {eps: 8/255}}}
  - feature_diversity: {attack: {ssp: {eps: 8/255, steps: 2, layer: 0}}}
  - token_position_probe: {train: "digits?split=train", samples: 8}
  - class_identifiability
  - ood_scores: {train: "digits?split=train", samples: 8}
"""


def bound(node: object) -> Spec:
    (spec,) = parse(node)
    return bind(scenario_entry(spec.name), spec)


def test_analyses_of_features_run_and_what_reads_logits_has_no_value(tmp_path: Path) -> None:
    """Ten features, ten digits: the numbers alone would pass."""
    text = f"name: inside\ntitle: Inside\ndata: digits\nscenarios:{SCENARIOS}metrics: [top1, feature_diversity, position_probe_accuracy]\n"
    (tmp_path / "inside.yaml").write_text(text)
    found = rv.run(read_suite(tmp_path / "inside.yaml"), [HEADLESS], limit=4, store=tmp_path / "store")
    assert not found.failed
    table = rv.leaderboard(tmp_path / "store")
    known = table[table["value"].notna() & (table["unit"] != "ms")]
    settings = {
        (str(row.scenario), "corruption=gaussian" in str(row.params), "attack=ssp" in str(row.params)) for row in known.itertuples()
    }
    assert settings == {("feature_diversity", True, False), ("feature_diversity", False, True), ("token_position_probe", False, False)}
    assert len(found.undefined) == 4
    assert all("has no head: its outputs are features, and no classes" in why for why in found.undefined.values())


def test_an_analysis_takes_a_model_without_a_head_where_it_and_its_attack_read_no_logits() -> None:
    assert takes_headless(bound("fourier"))
    assert takes_headless(bound({"fourier": {"corruption": {"fog": {"severity": 3}}}}))
    assert takes_headless(bound({"fourier": {"attack": {"ssp": {"eps": "8/255"}}}}))
    assert not takes_headless(bound({"fourier": {"attack": {"pgd": {"eps": "8/255"}}}}))
    assert not takes_headless(bound("class_identifiability"))
    assert not takes_headless(bound("clean"))
