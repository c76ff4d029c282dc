from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from robustvit.data.hubs.imagenet_hard import imagenet_hard
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.evaluation import run as runner
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import traits
from robustvit.records.store import load_records
from robustvit.results.leaderboard import leaderboard

pytestmark = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the package datasets is not installed")
SUITE = Path(__file__).resolve().parents[3] / "suites/imagenet-hard.yaml"
LABELS = [[5], [207, 208], [999, 0, 1], [3]]
TINY = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"


@pytest.fixture
def released(encoded, tmp_path, monkeypatch):
    """Writes the repository with its split of parquet, four images; returns the folder above."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()

    def write(labels=LABELS, split="validation") -> Path:
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.Sequence(datasets.Value("int64")), "origin": datasets.Value("string")}
        )
        rows = {"image": [{"bytes": encoded(i), "path": None} for i in range(4)], "label": labels, "origin": ["imagenet_r"] * 4}
        folder = tmp_path / "ImageNet-Hard" / "data"
        folder.mkdir(parents=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return tmp_path

    return write


def test_all_labels_of_an_image_are_a_fact_and_the_first_is_its_label(released):
    data = load_data("imagenet-hard", data_dir=released())
    assert (data.labels.tolist(), len(data.classes), data.ids[3]) == ([5, 207, 999, 3], 1000, "imagenet-hard/validation/00000003")
    own = traits(data)
    assert (list(own.facts["fact_real"]), own.expected, own.filtered) == (LABELS, None, True)


def test_another_right_label_is_another_fingerprint(released, tmp_path):
    one = load_data("imagenet-hard", data_dir=released()).fingerprint
    (tmp_path / "ImageNet-Hard").rename(tmp_path / "first")
    assert load_data("imagenet-hard", data_dir=released([[5], [207, 209], [999, 0, 1], [3]])).fingerprint != one


def test_a_prediction_is_right_where_it_is_one_of_the_labels(released, tmp_path):
    root = released()
    runner.run(SUITE, [TINY], store=tmp_path / "s", data_dir=root)
    pred = load_records(tmp_path / "s").to_pandas().sort_values("sample")["pred"].tolist()
    (tmp_path / "ImageNet-Hard").rename(tmp_path / "first")
    root = released([[0, pred[0]] if pred[0] else [0], [1, 2, pred[1]], [(pred[2] + 1) % 1000], [pred[3]]])
    runner.run(SUITE, [TINY], store=tmp_path / "t", data_dir=root)
    board = leaderboard(tmp_path / "t")
    (row,) = board[board["metric"] == "top1_real"].to_dict("records")
    assert (row["value"], row["n"], row["status"]) == (75.0, 4, "complete")


@pytest.mark.parametrize("wrong", [[], [1000], [-1], None])
def test_rows_without_a_class_are_refused_by_number(released, wrong):
    with pytest.raises(DataUnreadable, match=r"'label' in .*ImageNet-Hard must hold lists .*; 1 rows hold others: 2 \("):
        load_data("imagenet-hard", data_dir=released([[5], [207], wrong, [3]]))


def test_a_folder_without_the_split_is_refused(released):
    with pytest.raises(DataMissing, match=r"data 'imagenet-hard': .*split 'validation'"):
        load_data("imagenet-hard", data_dir=released(split="train"))
    with pytest.raises(DataMissing, match="needs its files"):
        imagenet_hard(None)
