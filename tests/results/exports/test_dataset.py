"""The folder that `datasets.load_dataset` opens, and its data card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import DatasetCard

from robustvit.errors import UsageError
from robustvit.records.store import Store
from robustvit.results.export import export
from robustvit.results.exports.dataset import DESCRIPTIONS
from robustvit.results.leaderboard import COLUMNS, Leaderboard, build_leaderboard


@pytest.fixture
def board(make_store: Callable[..., Store], answered: Callable[..., dict[str, Any]]) -> Leaderboard:
    return build_leaderboard(make_store({("a", "clean", ""): answered([True] * 9 + [False]), ("a", "fog", "1"): None}))


def test_datasets_opens_the_folder(board: Leaderboard, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(board, "dataset", tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == list(COLUMNS)
    assert found.to_pandas()["value"].tolist() == pytest.approx(board.rows["value"].tolist(), nan_ok=True)
    assert datasets.get_dataset_config_names(str(tmp_path / "out")) == ["leaderboard"]


def test_the_card_describes_every_column(board: Leaderboard, tmp_path: Path) -> None:
    export(board, "dataset", tmp_path)
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.to_dict()["configs"] == [{"config_name": "leaderboard", "data_files": "leaderboard.parquet", "default": True}]
    assert list(DESCRIPTIONS) == list(COLUMNS)
    assert all(f"| {name.replace('_', chr(92) + '_')} | {kind} | " in card.text for name, kind in COLUMNS.items())
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "leaderboard.parquet"), board.rows)


def test_a_readme_of_others_is_kept(board: Leaderboard, tmp_path: Path) -> None:
    export(board, "dataset", tmp_path)
    export(board, "dataset", tmp_path)
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(UsageError, match="is a text of your own"):
        export(board, "dataset", tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project\n"


def test_it_cannot_be_printed(board: Leaderboard) -> None:
    with pytest.raises(UsageError, match="dataset is 2 files here, which cannot be printed; name a folder with -o"):
        export(board, "dataset")
