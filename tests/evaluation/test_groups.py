"""Samples that are measured together: the next in evaluation order, whatever the limit, the batch and the order of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

import robustvit as rv
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.evaluation.loading import load_data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.records.records import read
from robustvit.records.store import Store
from robustvit.spec.registry import analysis
from robustvit.spec.sample_order import order
from robustvit.spec.suite_file import read_suite
from robustvit.statistics.cell_means import values_of
from robustvit.statistics.estimates import Clustered, Metric, Weighted, resolve_metric
from robustvit.statistics.resamples import Resampler, Resamples


def sums(group: int) -> Any:
    """Registers an analysis of groups: the sum of their pixels, and their draws."""

    @analysis(name="group_sums", family="made", source="definition", group="group")
    def group_sums(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, group: int = group) -> dict[str, Tensor]:
        """Sums over groups."""
        assert len(images) % group == 0
        assert len(images) <= -(-model.tile // group) * group
        apart = images.double().sum(dim=(1, 2, 3)).unflatten(0, (-1, group)).sum(dim=1)
        drawn = draws.uniform(2).unflatten(0, (-1, group)).sum(dim=1)
        return {"value_pixels": apart.float(), "value_drawn": drawn}

    return group_sums


def suite_of(folder: Path, scenarios: str, data: str = "digits") -> rv.Suite:
    """A suite of these scenarios, whose title is needed by none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made.yaml").write_text(f"name: made\ntitle: Groups\ndata: {data}\nscenarios: {scenarios}\nmetrics: [top1]\n")
    return read_suite(folder / "made.yaml")


def run(folder: Path, limit: int | None, **more: Any) -> pd.DataFrame:
    """The rows of a run of the analysis on digits."""
    rv.run(suite_of(folder, "[group_sums]"), ["demo"], store=folder / "store", limit=limit, **more)
    store = Store(folder / "store")
    (cell,) = [cell for cell in store.cells() if "group" in store.files(cell)[0].columns()]
    return read(store.files(cell))


@pytest.mark.parametrize("batch", [8, 20, 64])
def test_values_are_of_the_group_whatever_limits_and_batches(tmp_path: Path, batch: int) -> None:
    sums(16)
    data = load_data("digits")
    places = order(data.ids)
    images = ImageCache(data, rv.load_model("demo").view, workers=0).rows_with_digests(np.arange(64)).images
    first = run(tmp_path, 20, batch_size=batch)
    rows = run(tmp_path, 54, batch_size=batch)
    assert len(first) == 20
    assert rows.iloc[:20].equals(first)
    assert rows["group"].tolist() == [row // 16 for row in range(54)]
    assert rows["sample"].tolist() == [data.ids[place] for place in places[:54]]
    for group in range(4):
        expected = images[16 * group : 16 * group + 16].astype(np.float64).sum() / 255
        assert rows[rows["group"] == group]["value_pixels"].to_numpy() == pytest.approx(expected, rel=1e-6)
    drawn = np.stack(rows["value_drawn"].tolist())
    assert len(np.unique(drawn, axis=0)) == 4
    whole = run(tmp_path / "other", 54, batch_size=16)
    assert whole["value_drawn"].map(tuple).tolist() == rows["value_drawn"].map(tuple).tolist()


def test_the_last_group_of_the_data_is_whole_or_has_no_value(tmp_path: Path) -> None:
    sums(256)
    rows = run(tmp_path, None)
    left = len(rows) % 256
    assert left
    assert rows["value_pixels"].isna().to_numpy().nonzero()[0].tolist() == list(range(len(rows) - left, len(rows)))
    assert np.stack(rows["value_drawn"].tolist())[-left:].shape == (left, 2)
    assert np.isnan(np.stack(rows["value_drawn"].tolist())[-left:]).all()


def test_groups_larger_than_the_data_have_no_value_and_the_rest_goes_on(tmp_path: Path) -> None:
    sums(512)
    found = rv.run(suite_of(tmp_path, "[clean, group_sums]", "digits?part=5/5"), ["demo"], store=tmp_path / "store", limit=40)
    table = rv.leaderboard(tmp_path / "store")
    assert table[table["scenario"] == "clean"]["value"].notna().all()
    (why,) = found.undefined.values()
    assert "'group_sums(group=512)' measures groups of 512 samples, and data 'digits" in why
    assert not found.failed


def test_other_numbers_of_rows_and_sizes_of_groups_fail_the_cell(tmp_path: Path) -> None:
    @analysis(name="group_sums", family="made", source="definition", group="group")
    def of_rows(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, group: int = 16) -> dict[str, Tensor]:
        """A row for each sample."""
        return {"value_x": labels.float()}

    found = rv.run(suite_of(tmp_path, "[group_sums]"), ["demo"], store=tmp_path / "store", limit=20)
    assert "must return a row for each group of 16 samples: 2 in column 'value_x'; it returned 32" in str(found.failed)
    found = rv.run(suite_of(tmp_path, "[{group_sums: {group: 24}}]"), ["demo"], store=tmp_path / "store", limit=20)
    assert "got group=24; groups are of a divisor of 512, such as 16 or 64" in str(found.failed)


def test_a_statistic_of_clusters_is_of_their_own_weights() -> None:
    values, ids = np.array([3.0, 1.0, 2.0]), ["c", "a", "b"]
    metric = resolve_metric("cka")
    made = Metric("made", metric.entry, lambda rows: Clustered(ids, Weighted(lambda weights: weights @ values)))
    found = values_of(made, pd.DataFrame({"sample": ["x"]}), Resamples(["x"]), Resampler())
    assert isinstance(found.values, Weighted)
    for place, expected in enumerate([1.0, 2.0, 3.0]):  # of a, b, c
        assert float(found.values.of(np.eye(3)[place : place + 1])[0]) == expected
    assert found.key == Resamples(["a", "b", "c"]).key
