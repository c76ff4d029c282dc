"""Every data set in every layout that it comes in, and a small model run over each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, Layout, plant

from robustvit.data.formats.files import ImageFiles
from robustvit.data.formats.image_dataset import ImageDataset
from robustvit.evaluation import run as runner
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import traits
from robustvit.results.leaderboard import leaderboard
from robustvit.spec import registry
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import read_suite

TINY = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"
ELSEWHERE = {
    "digits",
    "digit-tasks",
    "food101",
    "dtd",
    "oxford-pets",
    "fgvc-aircraft",
    "cub200",
    "stl10",
    "svhn",
    "stanford-cars",
    "sequences",
    "npz",
    "ood",
    "hfds",
    "wds",
    "imagenet-p",
    "imagenet-boxes",
    "cifar10",
    "cifar100",
    "cifar10-c",
    "cifar100-c",
    "clip-benchmark",
    "imagenet-hard",
    "tfds",
    "imagenet-patch",
}  # without layouts of class folders; tested by themselves

Planted = Callable[[str], tuple[Layout, Path]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The tree of a layout, made once."""
    made: dict[str, tuple[Layout, Path]] = {}

    def tree(name: str) -> tuple[Layout, Path]:
        if name not in made:
            layout = LAYOUTS[name]()
            made[name] = layout, plant(tmp_path_factory.mktemp("tree"), layout)
        return made[name]

    return tree


@pytest.fixture
def clean(tmp_path: Path) -> Suite:
    path = tmp_path / "clean.yaml"
    path.write_text("name: clean\ntitle: Clean\ndata: digits\nscenarios: [clean]\nmetrics: [top1, top5, nll]\n")
    return read_suite(path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_opened_with_its_labels_ids_and_name(planted: Planted, name: str) -> None:
    layout, root = planted(name)
    data = load_data(layout.address, data_dir=root)
    assert isinstance(data, ImageDataset)
    assert isinstance(data.read, ImageFiles)
    found = {(data.read.root / path).relative_to(root): label for path, label in zip(data.read.paths, data.labels.tolist(), strict=True)}
    assert found == {Path(path): label for path, label in zip(layout.paths, layout.labels, strict=False)}
    assert len(set(data.ids)) == len(data) == len(layout.labels)
    assert len(data.classes) == layout.classes
    assert traits(data).scenario == layout.scenario
    assert (traits(data).base or data.name) in (data.name, "imagenet")
    assert [data[i].label for i in (0, len(data) - 1)] == [data.labels[0], data.labels[-1]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_small_model_runs_over_a_layout_and_is_on_the_leaderboard(planted: Planted, name: str, clean: Suite, tmp_path: Path) -> None:
    layout, root = planted(name)
    runner.run(
        clean, [TINY.replace("?", f"?num_classes={_outputs(layout)}&")], layout.address, store=tmp_path / "s", data_dir=root, limit=4
    )
    board = leaderboard(tmp_path / "s")
    assert set(board["status"]) == {"complete"}
    assert set(board["scenario"]) == {layout.scenario or "clean"}
    assert sorted(board["metric"]) == ["nll", "top1", "top5"]
    assert board["n"].unique().tolist() == [4]
    assert np.isfinite(board["value"]).all()


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout().texts])
def test_a_byte_order_mark_before_labels_is_read_over(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]()
    marked = layout._replace(texts={path: f"\ufeff{text}" for path, text in layout.texts.items()})
    before, after = (load_data(layout.address, data_dir=plant(tmp_path / at, one)) for at, one in (("a", layout), ("b", marked)))
    assert after.labels.tolist() == before.labels.tolist()
    assert after.fingerprint == before.fingerprint


def test_every_data_set_with_folders_has_a_layout_here() -> None:
    here = {layout().address.partition("?")[0] for layout in LAYOUTS.values()}
    known = registry.entries("data")
    human = {name for name, entry in known.items() if entry.module.startswith("robustvit.data.model_vs_human")}  # tested by themselves
    own = {name for name in known if Path(__file__).with_name(f"test_{name}.py").is_file()}  # a data set may come with a test of its own
    assert here <= set(known)
    assert set(known) - ELSEWHERE - human - own <= here


def _outputs(layout: Layout) -> int:
    return 1000 if layout.address != "folder" else layout.classes
