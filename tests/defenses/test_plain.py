import math

import pytest
import torch
from torch import nn

from robustvit.defenses.plain import plain
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec


class _Says(nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def _loss(logits: list[float], smoothing: float) -> float:
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.tensor([0]), ("a",))
    return float(plain(smoothing=smoothing).loss(_Says(torch.tensor(logits)), batch, Draws(0, "loss", batch.ids)))


def test_without_smoothing_it_is_the_negative_log_probability() -> None:
    assert _loss([math.log(0.8), math.log(0.2)], 0.0) == pytest.approx(-math.log(0.8))


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    expected = -(0.95 * math.log(0.8) + 0.05 * math.log(0.2))
    assert _loss([math.log(0.8), math.log(0.2)], 0.1) == pytest.approx(expected)


def test_it_sets_only_a_loss() -> None:
    made = plain()
    assert [part for part in ("prepare", "batch", "loss", "step", "after_step", "export") if made.sets(part)] == ["loss"]


def test_smoothing_all_of_the_label_away_is_refused() -> None:
    with pytest.raises(BadParameter, match="smoothing"):
        bind(lookup("defense", "plain"), Spec("plain").with_params(smoothing=1.0))
