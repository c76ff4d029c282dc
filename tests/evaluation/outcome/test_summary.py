"""The result of a run in words, and what is told of the models on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.evaluation.outcome.summary import Summary


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.line(images.mean(dim=(2, 3)))


def test_a_summary_is_told_in_words() -> None:
    done = Summary(Path("r"), "quick", 3, 1500, computed=1000, seconds=2.04, complete=2)
    assert str(done) == "quick: 2 of 3 cells complete, 1,000 of 1,500 rows computed in 2.0 s; store r"
    done.failed, done.stopped = {"abc": "it broke", "def": "this, too"}, True
    assert str(done).endswith("in 2.0 s; stopped when the budget was spent; 2 failed: it broke; store r")


def test_two_modules_of_one_name_are_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"^the model 'Net' is named twice\. Give .* rv\.Classifier\(module, name=…\)\.$"):
        rv.run("quick", [Net(), Net()], store=tmp_path / "r", limit=4)
    with pytest.raises(BadParameter, match=r"^the model 'demo' is named twice\.$"):
        rv.run("quick", ["demo", "demo"], store=tmp_path / "r", limit=4)


def test_what_is_assumed_of_a_module_is_told_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    model = rv.Classifier(Net(), name="bare net")
    for seed in (0, 1):
        rv.score(model, "digits", limit=4, seed=seed, store=tmp_path / "r")
    (told,) = caplog.messages
    assert told.startswith("bare net: assumed: the mean and std of ImageNet and images of 224 px; say what it takes by rv.Classifier(")
    rv.score(rv.Classifier(Net(), mean=0.5, std=0.5, size=8, name="known net"), "digits", limit=4, store=tmp_path / "r")
    assert len(caplog.messages) == 1
