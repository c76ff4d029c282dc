"""From a run to the verdict on gradients: of a model with true gradients, and of the same model with false ones."""

from pathlib import Path

import pytest

from robustvit.evaluation import run as runner
from robustvit.results.gradient_masking import findings
from robustvit.results.leaderboard import leaderboard

SUITE = """
name: small-honesty
title: Small
data: digits
scenarios:
  - loss_surface
  - fgsm: {eps: 8/255}
  - pgd: {eps: [8/255, 1], steps: 5}
  - square: {eps: 8/255, steps: 5}
  - transfer: {surrogate: demo, attack: {pgd: {eps: 8/255, steps: 5, early: false}}}
metrics: [robust_accuracy, slope_disagreement, random_step_wins, probability_outputs]
"""
MASKED = '''
import torch
from robustvit.models.demo import bundled


class Levels(torch.autograd.Function):
    """Rounding to three levels, with a gradient that has nothing to do with it."""

    @staticmethod
    def forward(context, pixels):
        return (pixels * 3).round() / 3

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.sin(1e3 * torch.arange(gradient.numel()).float()).view_as(gradient)


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = bundled("demo").model

    def forward(self, pixels):
        return self.inner(Levels.apply(pixels))
'''


def test_false_gradients_are_suspect_and_true_ones_are_honest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(SUITE)
    (tmp_path / "masked_models.py").write_text(MASKED)
    monkeypatch.chdir(tmp_path)
    masked = "masked_models:Masked?mean=0.5&std=0.5&img_size=32"
    runner.run("small.yaml", ["demo", masked], store=tmp_path / "s", limit=16)
    board = leaderboard(tmp_path / "s")
    verdicts = {model: set(part) - {""} for model, part in board.groupby("model")["gradients"]}
    assert verdicts["demo"] == {"honest"}
    (verdict,) = verdicts[masked]
    assert verdict.startswith("suspect: transfer beats white-box")
    assert "the loss does not follow its gradient (16 of 16: loss_surface)" in verdict
    assert set(findings(tmp_path / "s", ["demo"])["status"]) == {"passed"}
