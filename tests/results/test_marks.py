"""Complete numbers that are marked, with the reason: no better than chance, or gradients that were not all there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

import robustvit as rv
from robustvit.cli.printing import print_marked
from robustvit.evaluation.run import run
from robustvit.primitives.model_card import Card
from robustvit.results.leaderboard import leaderboard
from robustvit.results.marks import faulty_gradients
from robustvit.results.summary import summary
from robustvit.spec.spec import Spec
from robustvit.statistics.estimates import resolve_metric

CLEAN = "name: s\ntitle: S\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n"
ATTACKED = (
    "name: s\ntitle: S\ndata: digits\nscenarios: [clean, {pgd: {eps: 8/255, steps: 3}}]\nmetrics: [top1, robust_accuracy, attack_success]\n"
)


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        (tmp_path / "s.yaml").write_text(text)
        return tmp_path / "s.yaml"

    return write


def of_digits(tmp_path: Path, name: str, change: Any = lambda x: x, shift: int = 0) -> str:
    """Sixty digits as files."""
    data = rv.load_data("digits")
    for i in range(60):
        path = tmp_path / name / str((data[i].label + shift) % 10) / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(data[i].image)).save(path)
    return f"folder:{tmp_path / name}"


class Rooted(nn.Module):
    """A network on the square of the square root of its input: the same logits, and at zero a gradient that is not finite."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.net(pixels.sqrt().square())


def rooted() -> rv.Classifier:
    demo = rv.load_model("demo")
    net = nn.Sequential(transforms.Normalize(demo.mean.flatten().tolist(), demo.std.flatten().tolist()), demo.model)
    card = Card("rooted", Spec("given"), "rooted", "given")
    return rv.Classifier(Rooted(net), mean=(0.0,) * 3, std=(1.0,) * 3, view=demo.view, card=card)


def test_clean_accuracy_no_better_than_chance_is_marked_with_the_likely_reasons(suite, tmp_path):
    for place in (of_digits(tmp_path, "shifted", shift=1), of_digits(tmp_path, "right")):
        run(suite(CLEAN), ["demo"], place, store=tmp_path / "stores" / Path(place).name, limit=60)
    doubted, right = (leaderboard(tmp_path / "stores" / name) for name in ("shifted", "right"))
    row = doubted[(doubted["scenario"] == "clean") & (doubted["metric"] == "top1")].iloc[0]
    assert row["status"] == "complete"
    assert row["reason"].startswith(
        "no better than chance (10 % with 10 classes): the classes of data and model may be numbered differently"
    )
    assert summary(doubted)["clean top-1"][0].endswith("] ?")
    assert (right["reason"] == "").all()
    assert not summary(right)["clean top-1"][0].endswith("?")


def test_gradients_that_were_not_finite_mark_the_numbers_of_their_attack_alone(suite, tmp_path, capsys):
    darkened = of_digits(tmp_path, "dark", lambda x: x // 2 * (x > 60))
    run(suite(ATTACKED), [rooted()], darkened, store=tmp_path / "store", limit=24)
    board = leaderboard(tmp_path / "store")
    rows = pd.concat(pd.read_parquet(path) for path in (tmp_path / "store").rglob("*.parquet") if "attacked" in pd.read_parquet(path))
    count, attacked = int((rows["gradient"] == "inside").sum()), int(rows["attacked"].sum())
    assert 0 < count <= attacked <= 24
    where = "where it was taken a quarter of a level inside [0, 1]"
    reason = f"the input gradient was not finite on {count} of {attacked} attacked samples, {where}"
    assert board.set_index(["scenario", "metric"])["reason"].to_dict() == {
        ("clean", "top1"): "",
        ("pgd", "top1"): "",
        ("pgd", "robust_accuracy"): reason,
        ("pgd", "attack_success"): reason,
    }
    shown = summary(board).iloc[0]
    assert [name for name in shown.index if shown[name].endswith("] ?")] == ["pgd 8/255 accuracy", "attack_success"]
    print_marked(board)
    assert f"pgd 8/255 robust_accuracy, attack_success on folder: {reason}" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (["exact", "not used", "exact", "surrogate"], ""),
        (
            ["not finite", "exact", "exact", "not used"],
            "the input gradient was not finite on 1 of 3 attacked samples, where it counted as zero",
        ),
        (["absent", "absent", "exact", "not used"], "the input gradient was zero or missing on 2 of 3 attacked samples"),
        (
            ["absent", "not finite", "inside", "not used"],
            "the input gradient was not finite on 1 of 3 attacked samples, where it was taken a quarter of a level inside [0, 1], "
            "and not finite on 1 of 3 attacked samples, where it counted as zero, and zero or missing on 1 of 3 attacked samples",
        ),
    ],
)
def test_every_fault_of_a_gradient_is_counted_over_the_attacked_samples(codes, reason):
    rows = pd.DataFrame({"gradient": codes, "attacked": [True, True, True, False]})
    assert faulty_gradients(resolve_metric("robust_accuracy"), rows) == reason
    assert faulty_gradients(resolve_metric("fooling_rate"), rows) == ""
