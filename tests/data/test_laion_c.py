from pathlib import Path

import pytest
import torch

from robustvit.data.annotations.wnids import wnids
from robustvit.data.laion_c import categories, laion_c
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.evaluation import run as runner
from robustvit.primitives.batch import traits
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.suite_file import read_suite

SUITE = Path(__file__).resolve().parents[2] / "suites" / "laion-c.yaml"
TINY = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"
LEVEL = "mosaic/intensity_level_4"


@pytest.fixture
def released(plant, tmp_path):
    return plant(tmp_path, *(f"{LEVEL}/{name}/1.png" for name in categories()))


def test_a_level_of_a_distortion_is_read_with_its_categories(released):
    data = laion_c(released, distortion="mosaic", severity=4)
    found = {name: data.classes[label] for name, label in zip(data.ids, data.labels.tolist(), strict=True)}
    assert found == {f"laion-c/{name}/1": name for name in categories()}
    assert (traits(data).scenario, traits(data).severity) == ("mosaic", "4")


def test_the_category_with_the_largest_mean_probability_is_predicted_and_other_classes_do_not_compete(released):
    (reading,) = laion_c(released, distortion="mosaic", severity=4).readings
    names = list(categories())
    logits = torch.full((2, len(wnids())), -20.0)
    logits[0, list(categories()["cat"])] = 3.0  # six classes with a sixth each, where one dog has more than any of them
    logits[0, categories()["dog"][0]] = 3.5
    logits[1, wnids().index("n04254120")] = 9.0  # a soap dispenser is in no category
    logits[1, categories()["boat"][2]] = 0.0
    assert [names[i] for i in reading.read(logits).argmax(dim=1)] == ["cat", "boat"]


def test_the_table_has_sixteen_categories_of_classes_of_their_own():
    columns = [column for group in categories().values() for column in group]
    assert (len(categories()), len(columns), len(set(columns))) == (16, 285, 285)
    assert [len(categories()[name]) for name in ("dog", "bird", "cat")] == [109, 49, 6]


def test_a_level_or_a_category_that_is_missing_is_named(released):
    with pytest.raises(DataMissing, match=r"no stickers/intensity_level_4/; it holds mosaic\."):
        laion_c(released, distortion="stickers", severity=4)
    (released / LEVEL / "dog").rename(released / LEVEL / "dogs")
    with pytest.raises(DataUnreadable, match=r"holds 15 of its 16 class folders; missing dog; 1 of 16 folders .*: dogs"):
        laion_c(released, distortion="mosaic", severity=4)


def test_the_suite_averages_the_error_over_distortions_and_levels(plant, tmp_path):
    suite = read_suite(SUITE)
    for spec in suite.data:
        params = dict(spec.params)
        plant(tmp_path / "d" / params["distortion"] / f"intensity_level_{params['severity']}", *(f"{name}/1.png" for name in categories()))
    runner.run(suite, [TINY], store=tmp_path / "s", data_dir=tmp_path / "d")
    board = leaderboard(tmp_path / "s")
    errors = 100 - board[board["metric"] == "top1"]["value"]
    (mean,) = board[board["metric"] == "mean_corruption_error"]["value"]
    assert len(errors) == 30
    assert mean == pytest.approx(errors.mean())
