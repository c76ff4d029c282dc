from pathlib import Path

import numpy as np
import pandas as pd
from layouts import LAYOUTS, plant

from robustvit.evaluation import run as runner
from robustvit.metrics.real_labels import top1_real
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary

TINY = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"


def test_a_prediction_is_correct_where_it_is_one_of_the_labels_and_images_without_any_are_left_out() -> None:
    records = pd.DataFrame({"pred": [3, 4, 5, 6], "fact_real": [np.array([2, 3]), np.array([3]), np.array([], int), np.array([6])]})
    values = top1_real(records)
    assert values[[0, 1, 3]].tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(values[2])


def test_the_suite_counts_the_images_that_have_reassessed_labels(tmp_path: Path) -> None:
    root = plant(tmp_path / "data", LAYOUTS["imagenet with reassessed labels"]())
    runner.run("imagenet-real", [TINY], store=tmp_path / "s", data_dir=root)
    board = leaderboard(tmp_path / "s").set_index("metric")
    assert board["status"].tolist() == ["complete", "complete"]
    assert (board.loc["top1", "n"], board.loc["top1_real", "n"]) == (5, 4)
    assert set(board["params"]) == {"labels=real"}
    assert "clean top-1" in summary(leaderboard(tmp_path / "s"))
