"""Where the data sets of suites are looked for, and the message about those that are missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, plant, plant_images

import robustvit as rv
from robustvit.data.formats.left_out import LeftOut
from robustvit.errors import BadParameter, DataMissing
from robustvit.evaluation.command_line import command_line
from robustvit.evaluation.datasets import Samples, mismatches, omissions, open_data, wanted
from robustvit.evaluation.loading import load_data
from robustvit.evaluation.plan import Settings
from robustvit.evaluation.requested import make
from robustvit.primitives.batch import Data, Traits, left_out
from robustvit.records.store import Store
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import load_suite, read_suite
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

SUITE = "name: mine\ntitle: Mine\ndata: [{}]\nscenarios: [clean]\nmetrics: [top1]\n"


def suite_on(tmp_path: Path, *data: str) -> Suite:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(", ".join(data)))
    return read_suite(path)


@pytest.mark.parametrize("given", ["all", "all/imagenet-9"])
def test_a_suite_on_one_data_set_takes_its_folder_or_the_one_above(tmp_path: Path, given: str) -> None:
    plant(tmp_path / "all/imagenet-9", LAYOUTS["imagenet-9, original"]())
    ((data, *_),) = open_data(suite_on(tmp_path, "imagenet-9"), None, tmp_path / given)
    assert len(data) == 9


def test_all_missing_data_sets_are_named_at_once(tmp_path: Path) -> None:
    plant(tmp_path / "imagenet-a", LAYOUTS["imagenet-a"]())
    with pytest.raises(DataMissing, match=r"^2 data sets of suite 'mine' are missing: imagenet-r, imagenet-o\.") as caught:
        open_data(suite_on(tmp_path, "imagenet-r", "imagenet-a", "imagenet-o"), None, tmp_path)
    named = [name for name in ("imagenet-a", "imagenet-r", "imagenet-o") if f"nothing at {tmp_path / name}." in str(caught.value)]
    assert named == ["imagenet-r", "imagenet-o"]


MODEL = "vit_tiny_patch16_224?weights=random&num_classes=3&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Folders that are sorted as 1, 10, 2 or as 1, 2, 10."""
    plant_images(tmp_path / "x", ["1/a.png", "2/b.png", "10/c.png"])
    return tmp_path / "x"


def evaluate(data: str, tmp_path: Path) -> None:
    make(suite_on(tmp_path, "digits"), [MODEL], data, Settings())


def train(data: str, tmp_path: Path) -> None:
    train_from_spec(MODEL, data, out=tmp_path / "m.safetensors", recipe=Recipe(epochs=1))


def fit_in_a_suite(data: str, tmp_path: Path) -> None:
    folder, _, given = data.removeprefix("folder:").partition("?order=")
    train = f"{{folder: {{order: {given}}}}}" if given else "folder"
    (tmp_path / "uap.yaml").write_text(
        f"name: mine\ntitle: Mine\ndata: digits\nscenarios: [{{uap: {{eps: 8/255, train: {train}}}}}]\nmetrics: [top1]\n"
    )
    Path(folder).rename(tmp_path / "folder")
    make(read_suite(tmp_path / "uap.yaml"), [MODEL.replace("classes=3", "classes=10")], "digits", Settings(data_dir=tmp_path))


def fit_by_perturb(data: str, tmp_path: Path) -> None:
    folder, _, given = data.removeprefix("folder:").partition("?")
    Path(folder).rename(tmp_path / "data/folder")
    train = {"folder": dict([given.split("=")])} if given else "folder"
    images = torch.rand(2, 3, 32, 32)
    rv.perturb(rv.load_model(MODEL), images, torch.tensor([0, 1]), "uap", eps="8/255", train=train, samples=3, epochs=1)


@pytest.mark.parametrize("use", [evaluate, train, fit_in_a_suite, fit_by_perturb])
def test_whatever_uses_the_labels_of_numbered_classes_wants_their_order(
    numbered: Path, tmp_path: Path, use: Callable[[str, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copytree(numbered, tmp_path / "y")
    with pytest.raises(BadParameter, match=r"label 1: sorted as text .* it is '10', in natural order .* it is '2'.*\?order=natural"):
        use(f"folder:{numbered}", tmp_path)
    for place in (tmp_path / "folder", tmp_path / "data/folder"):
        shutil.rmtree(place, ignore_errors=True)
    use(f"folder:{tmp_path / 'y'}?order=natural", tmp_path)


def test_two_orders_are_two_cells_and_the_order_of_the_text_is_the_cell_of_old(numbered: Path, tmp_path: Path) -> None:
    suite = suite_on(tmp_path, "digits")
    found = [
        make(suite, [MODEL], f"folder:{numbered}?order={order}", Settings()).cells[0].data_fingerprint for order in ("text", "natural")
    ]
    assert found[0] == rv.load_data(f"folder:{numbered}").fingerprint != found[1]


@pytest.mark.parametrize(
    ("limit", "count"),
    [(None, 500), (1, 1), (1.0, 500), (0.5, 250), (0.0001, 1), (2.0, 2), (499, 499), (9999, 500), (600.0, 500)],
)
def test_a_float_up_to_one_is_a_share_of_the_samples_and_a_whole_number_their_count(limit: float | None, count: int) -> None:
    assert wanted(limit, 500) == count
    assert Samples.of(load_data("digits"), limit).asked == count


@pytest.mark.parametrize("limit", [0, 0.0, -1, -0.5, 1.5, float("nan"), float("inf")])
def test_a_limit_that_takes_no_samples_is_refused(limit: float) -> None:
    with pytest.raises(BadParameter, match=r"--limit is .*1\.0 for all"):
        wanted(limit, 500)


def test_the_command_of_a_run_in_python_repeats_its_limit(tmp_path: Path) -> None:
    suite, store = suite_on(tmp_path, "digits"), Store(tmp_path / "s", create=True)
    for limit, shown in ((1, "1"), (1.0, "1.0"), (0.123456789, "0.123456789")):
        assert f"--limit {shown} " in command_line(suite, ["demo"], None, Settings(limit=limit), store)


def opened(layout: str, root: Path, *more: str) -> Data:
    """The data set of a layout with more files in its first class folder."""
    planted = plant(root, LAYOUTS[layout]())
    for name in more:
        shutil.copy(planted / LAYOUTS[layout]().paths[0], (planted / LAYOUTS[layout]().paths[0]).with_name(name))
    return load_data(LAYOUTS[layout]().address, data_dir=root)


def test_a_set_with_fewer_images_than_it_has_and_one_with_more_are_said_alike(tmp_path: Path) -> None:
    few = opened("imagenet-a", tmp_path / "a")
    many = replace(opened("imagenet-o", tmp_path / "o"), traits=Traits(expected=50))
    assert mismatches([Samples.of(few, None), Samples.of(many, None)]) == [
        "imagenet-a holds 200 of its 7,500 images", "imagenet-o holds 200 images, 150 more than its 50",
    ]  # fmt: skip
    assert not mismatches([Samples.of(replace(many, traits=Traits(expected=200)), None), Samples.of(load_data("digits"), None)])


def test_the_parts_of_a_data_set_are_told_together(tmp_path: Path) -> None:
    data = replace(opened("imagenet-a", tmp_path), ignored=LeftOut(linked_folders=3))
    parts = [replace(data, traits=Traits(scenario="fog", severity=str(level), expected=3)) for level in (1, 2, 3)]
    samples = [Samples.of(one, None) for one in parts]
    assert mismatches(samples) == ["imagenet-a fog 1 holds 200 images, 197 more than its 3; likewise 2 more parts of imagenet-a"]
    assert omissions(samples) == ["imagenet-a fog 1: 3 linked folders; likewise 2 more parts of imagenet-a"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_belongs_to_a_set_is_not_told_and_what_lies_among_its_images_is(tmp_path: Path, layout: str) -> None:
    assert not omissions([Samples.of(opened(layout, tmp_path / "a"), None)])
    data = opened(layout, tmp_path / "b", "x.avif", "y.heic")
    assert omissions([Samples.of(data, None)]) == [f"{data.name}: 2 files with other endings (.avif, .heic)"]


def test_data_of_ones_own_need_not_count_what_it_leaves_out() -> None:
    assert left_out(load_data("digits")) == ""
    assert left_out(replace(load_data("digits"), ignored=None)) == ""


def test_all_data_that_a_suite_needs_is_named_at_once_that_of_its_scenarios_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBUSTVIT_DATA", raising=False)
    suite = load_suite("imagenet-patch")
    for place in (None, tmp_path):
        with pytest.raises(DataMissing, match=r"2 data sets of suite 'imagenet-patch' are missing: imagenet, imagenet-patch\.") as raised:
            open_data(suite, None, place)
        assert str(raised.value).count("data 'imagenet-patch'") == 1


def test_variants_of_one_name_are_named_by_the_parameters_that_differ_and_both_are_shown(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "name: s\ntitle: S\ndata: [{digits: {split: [test, train], ink: grey}}]\nscenarios: [clean]\nmetrics: [top1]\n"
    )
    rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "store", limit=6)
    board = rv.leaderboard(tmp_path / "store")
    assert sorted(board["data"]) == sorted(board["base"]) == ["digits(split=test)", "digits(split=train)"]
    assert board["cell"].nunique() == 2
    rv.run("quick", ["demo"], "digits", store=tmp_path / "alone", limit=2)
    assert set(rv.leaderboard(tmp_path / "alone")["data"]) == {"digits"}
