"""RobustBench's model_info files: their published schema, and their own numbers computed again from their own accuracies.

Schema and numbers: RobustBench/robustbench at 78fcc9e (MIT): the keys and types of model_info/*/*/*.json, what the readers
robustbench/leaderboard/template.py and robustbench/utils.py do with them, and the rows of Tian2022Deeper_DeiT-S.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustvit.errors import UsageError
from robustvit.records.manifest import ModelFacts
from robustvit.records.store import Store
from robustvit.results.export import export
from robustvit.results.exports.robustbench import ALEXNET, ALEXNET_3D, SUITES
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.spec.suite_file import load_suite

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]

ACCURACY = {
    "shot_noise": [0.758, 0.7484, 0.7388, 0.6888, 0.6224],
    "motion_blur": [0.7442, 0.6914, 0.5916, 0.4524, 0.3566],
    "snow": [0.7172, 0.612, 0.6242, 0.545, 0.5382],
    "pixelate": [0.7504, 0.7328, 0.6884, 0.5674, 0.3886],
    "gaussian_noise": [0.7516, 0.7472, 0.738, 0.6994, 0.6104],
    "defocus_blur": [0.696, 0.6614, 0.5702, 0.465, 0.3594],
    "brightness": [0.776, 0.7726, 0.7608, 0.748, 0.7218],
    "fog": [0.7048, 0.6504, 0.6102, 0.5776, 0.4884],
    "zoom_blur": [0.6366, 0.5544, 0.4846, 0.413, 0.3302],
    "frost": [0.7456, 0.7004, 0.643, 0.6382, 0.5962],
    "glass_blur": [0.71, 0.653, 0.448, 0.3866, 0.3034],
    "impulse_noise": [0.7432, 0.7376, 0.7272, 0.6902, 0.608],
    "contrast": [0.7498, 0.7462, 0.7322, 0.6452, 0.425],
    "jpeg_compression": [0.7368, 0.7192, 0.7046, 0.6592, 0.5906],
    "elastic_transform": [0.7316, 0.5344, 0.7046, 0.6402, 0.4438],
}  # fmt: skip
ACCURACY_3D = {
    "near_focus": [0.7368, 0.7118, 0.6928, 0.6678, 0.6446],
    "far_focus": [0.7398, 0.6962, 0.648, 0.6094, 0.5694],
    "bit_error": [0.699, 0.6432, 0.5594, 0.473, 0.3044],
    "color_quant": [0.769, 0.7652, 0.747, 0.6994, 0.6234],
    "flash": [0.6348, 0.6118, 0.5732, 0.5198, 0.4152],
    "fog_3d": [0.7386, 0.673, 0.5714, 0.4924, 0.4154],
    "h265_abr": [0.7706, 0.7558, 0.721, 0.625, 0.6266],
    "h265_crf": [0.7706, 0.7716, 0.757, 0.7222, 0.7048],
    "iso_noise": [0.7216, 0.722, 0.7146, 0.7044, 0.6794],
    "low_light": [0.7106, 0.6974, 0.6844, 0.6558, 0.5978],
    "xy_motion_blur": [0.6644, 0.574, 0.482, 0.3984, 0.33],
    "z_motion_blur": [0.6004, 0.5358, 0.465, 0.4026, 0.3722],
}  # fmt: skip

PUBLISHED = {"corruptions_acc_3d": "62.64", "corruptions_mce_3d": "52.5", "corruptions_acc": "62.91", "corruptions_mce": "47.61"}

SHARED: dict[str, tuple[type, ...]] = {
    "link": (str,), "name": (str,), "authors": (str,), "additional_data": (bool, type(None)), "number_forward_passes": (int, type(None)),
    "dataset": (str,), "venue": (str,), "architecture": (str,), "eps": (str, type(None)), "clean_acc": (str,),
    "reported": (str, type(None)),
}  # fmt: skip
OF_THREAT: dict[str, tuple[set[str], set[str]]] = {  # the keys of every file of imagenet, and those of some
    "Linf": ({"autoattack_acc"}, {"unreliable", "footnote", "external"}),
    "corruptions": ({"corruptions_acc", "corruptions_mce"}, {"corruptions_acc_3d", "corruptions_mce_3d", "footnote"}),
}


@pytest.fixture
def corrupted(make_store: Make, answered: Columns) -> Leaderboard:
    """A board of imagenet-c and imagenet-3dcc whose accuracies are those of Tian2022Deeper_DeiT-S."""
    cells = {("deit", name, str(level)): answered([True] * 4) for name in (*ACCURACY, *ACCURACY_3D) for level in range(1, 6)}
    store = make_store({("deit", "clean", ""): answered([True] * 4), **cells}, data="imagenet", classes=1000)
    return with_values(build_leaderboard(store), {**ACCURACY, **ACCURACY_3D})


def with_values(board: Leaderboard, accuracy: dict[str, list[float]]) -> Leaderboard:
    values = [
        100 * accuracy[row.scenario][int(row.severity) - 1] if row.scenario in accuracy else row.value for row in board.rows.itertuples()
    ]
    return replace(board, rows=board.rows.assign(value=values))


def attacked(make_store: Make, answered: Columns, data: str = "imagenet", scenario: str = "autoattack", **about: Any) -> Leaderboard:
    cells = {("m", "clean", ""): answered([True] * 15 + [False] * 5), ("m", scenario, "4/255"): robust(answered)}
    return build_leaderboard(make_store(cells, metrics=["top1", "robust_accuracy"], data=data, **about))


def robust(answered: Columns) -> dict[str, Any]:
    return answered([True] * 7 + [False] * 13, attacked=[True] * 15 + [False] * 5)


def read(text: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(text)
    return page


def check_schema(page: dict[str, Any], threat: str) -> None:
    needed, possible = OF_THREAT[threat]
    assert set(SHARED) | needed <= set(page) <= set(SHARED) | needed | possible
    assert all(isinstance(page[key], kinds) for key, kinds in SHARED.items())
    assert all(isinstance(page[key], str) for key in set(page) & (needed | possible) - {"unreliable", "footnote"})
    assert all(page[key] == str(float(page[key])) for key in page if key.endswith("_acc") or "mce" in key)


def listed(folder: Path, dataset: str, threat: str, field: str) -> list[tuple[str, float, float]]:
    """What RobustBench's list of models takes from the files of a folder: venue, clean accuracy and the ranking number, best first."""
    pages = [json.loads(path.read_text()) for path in (folder / dataset / threat).glob("*.json")]
    found = [(page["venue"] or "Unpublished", float(page["clean_acc"]) / 100, float(page[field]) / 100) for page in pages]
    assert all("".join([page["name"], page["link"], page["architecture"], page["authors"]]) for page in pages)
    return sorted(found, key=lambda one: -one[2])


def test_numbers_of_corruptions_are_robustbenchs_own(corrupted: Leaderboard) -> None:
    page = read(export(corrupted, "robustbench"))
    check_schema(page, "corruptions")
    assert {key: page[key] for key in PUBLISHED} == PUBLISHED
    assert (page["eps"], page["dataset"], page["clean_acc"]) == (None, "imagenet", "100.0")


def test_alexnets_errors_are_those_by_which_alexnet_has_a_hundred(corrupted: Leaderboard) -> None:
    own = {name: [1 - error / 100] * 5 for name, error in {**ALEXNET, **ALEXNET_3D}.items()}
    page = read(export(with_values(corrupted, own), "robustbench"))
    published = {"corruptions_mce": "100.0", "corruptions_mce_3d": "100.0", "corruptions_acc": "21.12", "corruptions_acc_3d": "28.47"}
    assert {key: page[key] for key in published} == published


def test_autoattack_fills_a_file_of_its_norm(make_store: Make, answered: Columns) -> None:
    page = read(export(attacked(make_store, answered), "robustbench"))
    check_schema(page, "Linf")
    assert (page["eps"], page["clean_acc"], page["autoattack_acc"]) == ("4/255", "75.0", "35.0")
    assert "unreliable" not in page  # one attack alone is unchecked, which RobustBench shows as unknown
    assert page["footnote"].startswith("AutoAttack on 20 images, clean accuracy on 20.")
    assert (page["authors"], page["venue"], page["name"]) == ("N/A", "N/A", "m")


def test_a_file_lies_where_robustbenchs_leaderboard_reads_it(corrupted: Leaderboard, tmp_path: Path) -> None:
    (tmp_path / "model_info").mkdir()
    export(corrupted, "robustbench", tmp_path / "model_info")
    ((venue, clean, robust_accuracy),) = listed(tmp_path / "model_info", "imagenet", "corruptions", "corruptions_acc")
    assert (venue, clean, robust_accuracy) == ("N/A", 1.0, pytest.approx(float(PUBLISHED["corruptions_acc"]) / 100))


def test_several_models_take_a_folder(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    cells: dict[Any, Any] = {(model, "clean", ""): answered([True] * 20) for model in "ab"}
    cells |= {(model, "autoattack", "4/255"): robust(answered) for model in "ab"}
    board = build_leaderboard(make_store(cells, metrics=["top1", "robust_accuracy"], data="imagenet"))
    with pytest.raises(UsageError, match="is 2 files here, which cannot be printed; name a folder with -o"):
        export(board, "robustbench")
    export(board, "robustbench", tmp_path / "out")
    assert len(listed(tmp_path / "out", "imagenet", "Linf", "autoattack_acc")) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; this export has 2 files and takes a folder"):
        export(board, "robustbench", tmp_path / "file")


def test_a_model_without_autoattack_is_refused_with_the_suites_that_fill_it(make_store: Make, answered: Columns) -> None:
    cells = {("m", "clean", ""): answered([True] * 4), ("m", "fog", "1"): answered([True] * 4)}
    board = build_leaderboard(make_store(cells, data="imagenet"))
    with pytest.raises(UsageError, match=r"no standard AutoAttack.*1 of the 75 corrupted cells.*suites autoattack and imagenet-c"):
        export(board, "robustbench")


def test_one_corruption_less_is_no_mean(corrupted: Leaderboard) -> None:
    rows = corrupted.rows
    less = replace(corrupted, rows=rows[~((rows["scenario"] == "fog") & (rows["severity"] == "5"))])
    with pytest.raises(UsageError, match="74 of the 75"):
        export(less, "robustbench")
    left = rows[~((rows["scenario"] == "flash") & (rows["severity"] == "5"))]
    assert "corruptions_acc_3d" not in read(export(replace(corrupted, rows=left), "robustbench"))


def test_a_chain_that_has_not_ended_is_no_autoattack(make_store: Make, answered: Columns) -> None:
    board = attacked(make_store, answered, scenario="autoattack 2/4")
    with pytest.raises(UsageError, match="its AutoAttack is partial: 2 of 4 attacks"):
        export(board, "robustbench")


@pytest.mark.parametrize("params", ["norm=linf, version=fast", "norm=l1", "norm=linf, through=host"])
def test_only_the_standard_version_counts(make_store: Make, answered: Columns, params: str) -> None:
    board = attacked(make_store, answered)
    with pytest.raises(UsageError, match="no standard AutoAttack"):
        export(replace(board, rows=board.rows.assign(params=params)), "robustbench")


def test_l2_has_a_file_of_its_own(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    board = attacked(make_store, answered, data="cifar10")
    rows = board.rows.assign(params="norm=l2, version=standard", severity=board.rows["severity"].replace("4/255", "0.5"))
    export(replace(board, rows=rows), "robustbench", tmp_path)
    (page,) = (json.loads(path.read_text()) for path in (tmp_path / "cifar10" / "L2").glob("*.json"))
    assert (page["eps"], page["autoattack_acc"]) == ("0.5", "35.0")


def test_of_several_eps_it_is_robustbenchs(make_store: Make, answered: Columns) -> None:
    cells: dict[Any, Any] = {
        ("m", "clean", ""): answered([True] * 20),
        ("m", "autoattack", "1/255"): answered([True] * 20, attacked=[True] * 20),
    }
    usual = {("m", "autoattack", "4/255"): robust(answered)}
    board = build_leaderboard(make_store({**cells, **usual}, metrics=["top1", "robust_accuracy"], data="imagenet"))
    assert read(export(board, "robustbench"))["autoattack_acc"] == "35.0"
    other = board.rows.assign(severity=board.rows["severity"].replace("4/255", "2/255"))
    with pytest.raises(UsageError, match=r"AutoAttack in Linf is there 2 times \(severity 1/255, severity 2/255\)"):
        export(replace(board, rows=other), "robustbench")


def test_data_without_a_leaderboard_is_refused(make_store: Make, answered: Columns) -> None:
    with pytest.raises(UsageError, match="evaluated on digits; RobustBench has leaderboards of cifar10, cifar100, imagenet"):
        export(attacked(make_store, answered, data="digits"), "robustbench")


def test_a_paper_is_read_from_the_citation_of_a_model_of_its_own(make_store: Make, answered: Columns) -> None:
    entry = '@inproceedings{a,\n title={On {ViTs} and {B{\\"o}sch}},\n author={Doe, Jane and Max Roe},\n booktitle={ICLR},\n year={2024}}'
    citation = f"{entry}\n@misc{{b, title={{Other}}}}"
    board = attacked(make_store, answered)
    card = ModelFacts(identity="arch/own()", citation=citation, url="https://example.org")
    page = read(export(replace(board, cards={"m": card}), "robustbench"))
    assert (page["authors"], page["venue"], page["link"]) == ("Jane Doe, Max Roe", "ICLR 2024", "https://example.org")
    assert page["name"].startswith("On ViTs and B")
    library = replace(card, identity="timm(arch=vit_tiny_patch16_224.augreg_in21k_ft_in1k)")
    page = read(export(replace(board, cards={"m": library}), "robustbench"))
    assert (page["name"], page["architecture"], page["additional_data"]) == ("m", "vit_tiny_patch16_224", True)


def test_the_suites_that_fill_a_file_have_what_it_needs() -> None:
    assert any(block.name == "autoattack" for block in load_suite(SUITES["attacks"]).scenarios)
    for name in ("imagenet-c",):
        assert set(ALEXNET) <= {block.name for block in load_suite(SUITES["imagenet"]).scenarios}, name
    assert list(ALEXNET) != list(ALEXNET_3D)


def test_suspect_gradients_are_unreliable(make_store: Make, answered: Columns) -> None:
    board = attacked(make_store, answered)
    for text, unreliable in (("suspect: one step beats iterative", True), ("honest", False)):
        rows = board.rows.assign(gradients=board.rows["gradients"].where(board.rows["gradients"] == "", text))
        assert read(export(replace(board, rows=rows), "robustbench"))["unreliable"] is unreliable


def test_an_empty_board_is_refused(corrupted: Leaderboard) -> None:
    with pytest.raises(UsageError, match="no model on this leaderboard"):
        export(replace(corrupted, rows=pd.DataFrame(corrupted.rows.iloc[:0])), "robustbench")
