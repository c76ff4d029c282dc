"""Before a run adds to rows, or says that there is nothing to do, a tile of them is computed again and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import robustvit as rv
from robustvit.errors import ModelError
from robustvit.evaluation.checks.recheck import differing
from robustvit.evaluation.run import run
from robustvit.evaluation.worker import Worker

SUITE = "name: s\ntitle: S\ndata: digits\nscenarios: [{fog: {severity: 3}}, clean, {pgd: {eps: 4/255, steps: 3}}]\nmetrics: [top1]\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path / "s.yaml"


def demo() -> rv.Classifier:
    return rv.load_model("demo")


def edited() -> rv.Classifier:
    """The demo with the same weights, and code that somebody went on editing."""
    model = demo()
    inner = model.model.forward
    model.model.forward = lambda images: inner((images * 2).round() / 2)
    return model


def test_a_model_edited_with_the_same_weights_is_not_shown_the_rows_of_its_former_code(suite, tmp_path):
    store = tmp_path / "store"
    assert run(suite, [demo()], store=store, limit=40).computed == 120
    assert run(suite, [demo()], store=store, limit=40).computed == 0
    with pytest.raises(ModelError, match=r"model 'demo' gives other rows .* of 40 samples of 'clean' .*its weights have not.*--store"):
        run(suite, [edited()], store=store, limit=40)


def test_rows_are_not_added_to_those_of_a_model_that_was_edited(suite, tmp_path):
    store = tmp_path / "store"
    (tmp_path / "less.yaml").write_text(SUITE.replace("{fog: {severity: 3}}, ", ""))
    run(tmp_path / "less.yaml", [demo()], store=store, limit=40)
    with pytest.raises(ModelError, match="gives other rows"):
        run(suite, [edited()], store=store, limit=40)
    assert len(list(store.glob("cells/*/0*.parquet"))) == 2


def rows(margin: float = 3.0, pred: int = 1, **more: object) -> pd.DataFrame:
    return pd.DataFrame({"sample": ["a", "b"], "label": [1, 1], "pred": [1, pred], "margin": [5.0, margin], **more})


@pytest.mark.parametrize(
    ("held", "now", "same", "others"),
    [
        (rows(), rows(3.001), True, []),
        (rows(), rows(3.1), True, ["b"]),
        (rows(), rows(pred=0), True, ["b"]),
        (rows(0.0), rows(0.0, pred=0), True, []),  # tied: rounding decides
        (rows(), rows().assign(label=[1, 2]), True, ["b"]),
        (rows(nll=[0.1, np.nan]), rows(nll=[0.1, np.nan]), True, []),
        (rows(nll=[0.1, np.nan]), rows(nll=[0.1, 0.2]), True, ["b"]),
        (rows(top5=[np.arange(5), np.arange(5)]), rows(top5=[np.arange(5), np.arange(1, 6)]), True, ["b"]),
        (rows(attacked=[True, True]), rows(-2.0, 0, attacked=[True, True]), False, []),  # another machine: the attack went elsewhere
        (rows(attacked=[True, True]), rows(-2.0, 0, attacked=[True, True]), True, ["b"]),
        (rows(attacked=[True, True]), rows(attacked=[True, False]), False, ["b"]),
        (rows(), rows().assign(sample=["a", "c"]), True, ["a", "b"]),
    ],
)
def test_rows_agree_up_to_rounding(held, now, same, others):
    assert differing(held, now, same, "float32") == others


def test_half_precision_is_compared_as_coarsely_as_it_computes():
    assert differing(rows(), rows(3.05), True, "bfloat16") == []
    assert differing(rows(), rows(3.5), True, "float16") == ["b"]


def test_the_cheapest_cell_is_asked(suite, tmp_path, monkeypatch):
    run(suite, [demo()], store=tmp_path / "store", limit=20)
    asked = []
    inner = rv.Classifier.forward
    monkeypatch.setattr(rv.Classifier, "forward", lambda self, images: asked.append(len(images)) or inner(self, images))
    assert run(suite, [demo()], store=tmp_path / "store", limit=20).computed == 0
    assert sum(asked) == 12 + 20  # the probe's, and one tile of `clean`
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("samples", "forwards"), [(300, 300 * 3), (3000, 0)])
def test_rows_that_take_many_passes_are_computed_again_in_small_numbers_or_not_at_all(tmp_path, monkeypatch, samples, forwards):
    (tmp_path / "c.yaml").write_text(
        f"name: c\ntitle: C\ndata: digits\nscenarios: [{{gaussian: {{sigma: 0.25, selection: 10, samples: {samples - 10}}}}}]\n"
        "metrics: [average_certified_radius]\n"
    )
    run(tmp_path / "c.yaml", [demo()], store=tmp_path / "store", limit=5)
    asked = []
    inner = Worker.evaluate
    monkeypatch.setattr(Worker, "evaluate", lambda self, task, begin: asked.append(task.stop - begin) or inner(self, task, begin))
    assert run(tmp_path / "c.yaml", [demo()], store=tmp_path / "store", limit=5).computed == 0
    assert sum(asked) * samples == forwards
