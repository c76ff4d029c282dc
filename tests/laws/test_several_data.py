"""Suites on several data sets: released copies beside clean images, clips beside each other, one table for all of it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, plant
from PIL import Image

from robustvit.data.annotations.wnids import listed, wnids
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, SuiteError, UsageError
from robustvit.evaluation import run as runner
from robustvit.evaluation.loading import load_data
from robustvit.evaluation.requested import make as planned
from robustvit.evaluation.settings import Settings
from robustvit.metrics.corruption import alexnet
from robustvit.records.store import Store
from robustvit.results.comparison import compare
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary
from robustvit.spec.spec import parse
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import bind_storage, load_suite, read_suite
from robustvit.spec.view import Overrides

TINY = "vit_tiny_patch16_224?weights=random&kwargs=depth=1,embed_dim=24,num_heads=2"
LARGE = "vit_tiny_patch16_224?weights=random&kwargs=img_size=256,depth=1,embed_dim=24,num_heads=2"
DIGITS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=1,num_heads=2"
NAMES = tuple(f"{wnids()[i]}/ILSVRC2012_val_{i:08}.JPEG" for i in (1, 207, 999))


def draw(path: Path, seed: int, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of ImageNet and the released copies of all fifteen corruptions, in their real layouts."""
    root = tmp_path_factory.mktemp("disk")
    for seed, name in enumerate(NAMES):
        draw(root / "imagenet" / "val" / name, seed, (300, 260))
        for corruption in alexnet()["ce_mean"]:
            for severity in range(1, 6):
                draw(root / "imagenet-c" / corruption / str(severity) / name, seed, (224, 224))
    return root


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Suite]:
    def written(text: str) -> Suite:
        path = tmp_path / "mine.yaml"
        path.write_text(f"name: mine\ntitle: Mine\n{text}\n")
        return read_suite(path, "mine.yaml")

    return written


def test_the_released_files_make_one_group_with_the_clean_images(disk: Path, tmp_path: Path) -> None:
    runner.run("imagenet-c-released", [TINY], store=tmp_path / "s", data_dir=disk)
    board = leaderboard(tmp_path / "s")
    cells = board[board["cell"] != ""].drop_duplicates("cell")
    assert sorted(cells["source"].unique()) == ["original", "released"]
    assert set(cells.loc[cells["source"] == "released", "view"]) == {"224x224, center, bicubic"}
    assert set(zip(cells["data"], cells["base"], strict=True)) == {("imagenet", "imagenet"), ("imagenet-c", "imagenet")}
    averages = board[(board["cell"] == "") & (board["scenario"] == "")].set_index("metric")
    assert set(averages["status"]) == {"complete"}
    assert averages.loc["mce_alexnet", "source"] == "released"
    assert len(summary(board)) == 1


def test_a_cell_of_a_released_file_is_called_by_its_corruption(disk: Path, tmp_path: Path) -> None:
    runner.run("imagenet-c-released", [TINY], store=tmp_path / "s", data_dir=disk)
    questions = Store(tmp_path / "s").questions()
    assert ("fog", "3", "corruption") in {(one.scenario, one.severity, one.kind) for one in questions}
    assert len({one.cell for one in questions}) == 76


def test_released_and_generated_corruptions_never_share_a_group(disk: Path, tmp_path: Path, write: Callable[[str], Suite]) -> None:
    generated = write("data: imagenet\nscenarios: [clean, fog: {severity: 3}]\nmetrics: [corruption_error]")
    both = write("data: [imagenet, imagenet-c: {corruption: fog, severity: 3}]\nscenarios: [clean]\nmetrics: [corruption_error]")
    runner.run(generated, [TINY], store=tmp_path / "a", data_dir=disk / "imagenet")
    runner.run(both, [TINY], store=tmp_path / "b", data_dir=disk)
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    board = leaderboard(tmp_path / "a")
    fog = board[(board["metric"] == "corruption_error") & (board["scenario"] == "fog")]
    assert list(fog["status"]) == ["undefined"]  # requested twice, and never averaged
    assert "several variants" in fog["reason"].iloc[0]


def test_stored_corruptions_and_others_stand_beside_each_other(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    text = "data: digits\nscenarios: [clean, fog: {severity: 3}]\nmetrics: [top1, corruption_error]"
    for more in ("\nstorage: jpeg85", "", "\nstorage: jpeg20"):
        runner.run(write(text + more), [DIGITS], store=tmp_path / "s", limit=4)
    board = leaderboard(tmp_path / "s")
    averages = board[board["metric"] == "corruption_error"]
    assert dict(zip(averages["storage"], averages["status"], strict=True)) == dict.fromkeys(
        ("jpeg(quality=85)", "", "jpeg(quality=20)"), "complete"
    )
    assert len(summary(board)) == 3


@pytest.mark.parametrize("words", ["jpeg", "clean", "png", "", "jpeg99"])
def test_storage_is_jpeg_of_a_quality(words: str) -> None:
    with pytest.raises(BadParameter, match=r"jpeg85|quality"):
        bind_storage(words, "--storage")


def test_storage_where_nothing_is_made_is_refused(disk: Path) -> None:
    with pytest.raises(UsageError, match="makes no corruptions"):
        planned(load_suite("imagenet-c-released"), [TINY], None, Settings(data_dir=disk, storage=bind_storage("jpeg85")))


def test_labels_that_contradict_the_clean_images_are_refused(disk: Path, tmp_path: Path, write: Callable[[str], Suite]) -> None:
    shutil.copytree(disk, tmp_path / "d")
    fog = tmp_path / "d" / "imagenet-c" / "fog" / "3"
    (fog / wnids()[5]).mkdir()
    (fog / NAMES[0]).rename(fog / wnids()[5] / NAMES[0].rpartition("/")[2])
    (fog / NAMES[0]).parent.rmdir()
    suite = write("data: [imagenet, imagenet-c: {corruption: fog, severity: 3}]\nscenarios: [clean]\nmetrics: [top1]")
    with pytest.raises(DataUnreadable, match="'imagenet' and 'imagenet-c fog 3' give 1 of the same samples different labels"):
        planned(suite, [TINY], None, Settings(data_dir=tmp_path / "d"))


def test_a_released_image_of_another_size_is_named_by_its_file(disk: Path, tmp_path: Path, write: Callable[[str], Suite]) -> None:
    shutil.copytree(disk / "imagenet-c" / "fog", tmp_path / "fog")
    draw(tmp_path / "fog" / "3" / NAMES[1], 0, (100, 80))
    suite = write("data: {imagenet-c: {corruption: fog, severity: 3}}\nscenarios: [clean]\nmetrics: [top1]")
    with pytest.raises(DataUnreadable, match=r"fog/3/.*00000207\.JPEG: 80x100 pixels; the images of 'imagenet-c' are 224x224"):
        runner.run(suite, [TINY], store=tmp_path / "s", data_dir=tmp_path)


def test_an_average_over_cells_of_other_samples_names_the_odd_one(disk: Path, tmp_path: Path, write: Callable[[str], Suite]) -> None:
    shutil.copytree(disk / "imagenet-c", tmp_path / "c")
    shutil.rmtree((tmp_path / "c" / "fog" / "3" / NAMES[0]).parent)
    suite = write("data: {imagenet-c: {corruption: [fog, snow], severity: [2, 3]}}\nscenarios: [clean]\nmetrics: [mean_corruption_error]")
    runner.run(suite, [TINY], store=tmp_path / "s", data_dir=tmp_path / "c")
    board = leaderboard(tmp_path / "s")
    assert board["reason"].iloc[-1] == "the cells have different samples: fog 3 2 of them, fog 2, snow 2, snow 3 3"
    assert summary(board)["status"].tolist() == ["1 average partial"]


def test_an_address_is_data_in_a_suite_too(write: Callable[[str], Suite]) -> None:
    suite = write('data: ["digits?ink=grey", digits]\nscenarios: [clean]\nmetrics: [top1]')
    assert [spec.get("ink") for spec in suite.data] == ["grey", "coloured"]


def test_data_that_stands_twice_is_refused(write: Callable[[str], Suite]) -> None:
    with pytest.raises(SuiteError, match="occurs twice"):
        write("data: [digits, digits]\nscenarios: [clean]\nmetrics: [top1]")


def test_clips_of_clips_are_refused() -> None:
    with pytest.raises(BadParameter, match="cannot be made of clips"):
        load_data(
            parse({"sequences": {"data": {"sequences": {"data": "digits", "corruption": "snow_frame"}}, "corruption": "snow_frame"}})[0]
        )


def test_two_models_on_clips_are_not_compared_frame_by_frame(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    runner.run(write(SEQUENCES), ["demo", DIGITS], store=tmp_path / "s", limit=2)
    assert set(compare(tmp_path / "s", "demo", DIGITS)["verdict"]) == {"clips"}


def test_a_larger_model_is_shown_the_released_files_enlarged(disk: Path, write: Callable[[str], Suite]) -> None:
    suite = write("data: {imagenet-c: {corruption: fog, severity: 3}}\nscenarios: [clean]\nmetrics: [top1]")
    (cell,) = planned(suite, [LARGE], None, Settings(data_dir=disk / "imagenet-c")).cells
    assert str(cell.view) == "256x256, squash, bicubic"


def test_data_that_is_the_question_takes_no_other(disk: Path) -> None:
    with pytest.raises(UsageError, match="about its own data"):
        planned(load_suite("imagenet-c-released"), [TINY], "digits", Settings(data_dir=disk))


def test_the_folder_of_a_data_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(DataMissing):
        planned(load_suite("imagenet-c-released"), [TINY], None, Settings(data_dir=tmp_path))


def test_corruptions_act_at_224_and_clean_images_keep_the_models_view(disk: Path) -> None:
    made = planned(load_suite("imagenet-c"), [LARGE], None, Settings(data_dir=disk / "imagenet"))
    views = {cell.scenario.name: cell.view for cell in made.cells}
    assert (views["clean"].size, views["clean"].shown) == ((256, 256), None)
    assert (views["fog"].size, views["fog"].shown) == ((224, 224), (256, 256))
    native = planned(load_suite("imagenet-c-native"), [LARGE], None, Settings(data_dir=disk / "imagenet"))
    assert {cell.view for cell in native.cells} == {views["clean"]}


def test_the_size_a_corruption_acts_at_changes_the_predictions(disk: Path, tmp_path: Path, write: Callable[[str], Suite]) -> None:
    text = "data: imagenet\nscenarios: [fog: {severity: 3}]\nmetrics: [top1]"
    for name, more in (("native", ""), ("standard", "\nview: {corrupt_at: 224}")):
        runner.run(write(text + more), [LARGE], store=tmp_path / name, data_dir=disk / "imagenet")
    (a,), (b,) = (list(Store(tmp_path / name).records()) for name in ("native", "standard"))
    assert (a[1]["nll"] != b[1]["nll"]).all()


def test_storage_is_part_of_every_cell(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    suite = write("data: digits\nscenarios: [clean, fog: {severity: 3}, pgd: {eps: 1/255, steps: 2}]\nmetrics: [top1]")
    plain = planned(suite, [DIGITS], None, Settings())
    stored = planned(suite, [DIGITS], None, Settings(storage=bind_storage("jpeg85")))
    same = [a.id == b.id for a, b in zip(plain.cells, stored.cells, strict=True)]
    assert same == [False, False, False]  # all are named by it, so that groups stay apart
    assert [cell.storage is not None for cell in stored.cells] == [True] * 3


def test_storage_is_the_jpeg_of_the_corrupted_image(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    text = "data: digits\nmetrics: [top1]\nscenarios: [{}]"
    runner.run(write(text.format("fog: {severity: 3}") + "\nstorage: jpeg85"), [DIGITS], store=tmp_path / "s", limit=4)
    runner.run(write(text.format("fog: {severity: 3}")), [DIGITS], store=tmp_path / "t", limit=4)
    for stored, plain in zip(hung(tmp_path / "s"), hung(tmp_path / "t"), strict=True):
        sink = io.BytesIO()
        Image.fromarray(plain).save(sink, "JPEG", quality=85)
        assert np.array_equal(stored, np.asarray(Image.open(sink)))
    assert leaderboard(tmp_path / "s")["source"].unique().tolist() == ["on-the-fly, jpeg(quality=85)"]


def hung(store: Path) -> list[np.ndarray]:
    """The gallery images of a store's one cell."""
    (cell,) = Store(store).cells()
    return [np.asarray(Image.open(io.BytesIO(image))) for image in Store(store).gallery(cell)["image"]]


SEQUENCES = """
data:
  - sequences: {data: digits, corruption: [gaussian_noise_frame, brightness_frame], size: 32}
  - sequences: {data: digits, corruption: translate_frame, size: 32, cut: last}
scenarios: [clean]
metrics: [flip_rate, top5_distance, mean_flip_rate]
"""


def test_clips_are_sampled_whole_and_scored_by_clip(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    runner.run(write(SEQUENCES), ["demo"], store=tmp_path / "s", limit=3)
    board = leaderboard(tmp_path / "s")
    assert set(board["status"]) == {"complete"}
    assert set(board["n"]) == {3}
    lengths = {question.scenario: len(rows) for question, rows in Store(tmp_path / "s").records()}
    assert lengths == {"gaussian_noise": 93, "brightness": 93, "translate": 123}


def test_flip_rates_are_those_of_the_records_by_hand(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    runner.run(write(SEQUENCES), ["demo"], store=tmp_path / "s", limit=5)
    board = leaderboard(tmp_path / "s").set_index(["scenario", "metric"])
    for question, rows in Store(tmp_path / "s").records():
        rates = []
        for _, clip in rows.groupby(rows["sample"].str.partition("#")[0]):
            predictions = [clip.loc[clip["sample"].str.endswith(f"#{t}"), "pred"].item() for t in range(len(clip))]
            before = [predictions[0]] * len(predictions) if question.scenario == "gaussian_noise" else [predictions[0], *predictions]
            rates.append(np.mean([a != b for a, b in zip(predictions[1:], before[1:], strict=False)]))
        assert board.loc[(question.scenario, "flip_rate"), "value"] == pytest.approx(100 * np.mean(rates))


def test_growing_a_limit_of_clips_gives_the_records_of_one_run(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    for limit in (1, 4):
        runner.run(write(SEQUENCES), [DIGITS], store=tmp_path / "grown", limit=limit)
    runner.run(write(SEQUENCES), [DIGITS], store=tmp_path / "once", limit=4, workers=2)
    for (_, a), (_, b) in zip(Store(tmp_path / "grown").records(), Store(tmp_path / "once").records(), strict=True):
        assert a.equals(b)


def test_another_data_set_takes_the_place_of_what_sequences_are_made_of() -> None:
    made = planned(load_suite("imagenet-p"), [DIGITS], "digits", Settings(limit=2))
    assert {samples.data.name for samples in made.samples} == {"digits-p"}
    assert [samples.asked for samples in made.samples].count(62) == 9
    assert {ask.samples.traits.base for ask in made.planned} == {"digits"}


def test_a_view_that_a_user_sets_holds_for_clean_images(disk: Path) -> None:
    settings = Settings(data_dir=disk / "imagenet", view=Overrides(crop_pct=1.0))
    made = planned(load_suite("imagenet-c"), [TINY], None, settings)
    assert {cell.view.resize for cell in made.cells} == {224}


def test_shifted_sets_stand_in_one_row_with_the_clean_images(tmp_path: Path) -> None:
    for seed, name in enumerate(listed(f"imagenet_{letter}")[3] for letter in "aro"):
        draw(tmp_path / "imagenet" / "val" / name / f"ILSVRC2012_val_{seed:08}.JPEG", seed, (260, 240))
    for name in ("imagenet-a", "imagenet-r", "imagenet-o", "imagenet-sketch"):
        plant(tmp_path / name, LAYOUTS[name]())
    top = plant(tmp_path / "imagenet-v2", LAYOUTS["imagenet-v2"]()) / "imagenetv2-top-images-format-val"
    for split in ("matched-frequency", "threshold-0.7"):
        (tmp_path / "imagenet-v2" / f"imagenetv2-{split}").symlink_to(top)
    for suite in ("imagenet-shift", "imagenet-o"):
        runner.run(suite, [TINY], store=tmp_path / "s", data_dir=tmp_path, limit=3)
    board = leaderboard(tmp_path / "s")
    odd = ("rms_calibration_error", "shift_auc")  # which need 200 samples, and clean images that are classified correctly
    assert set(board[~board["metric"].isin(odd)]["status"]) == {"complete"}
    shift, ood = (summary(board[board["suite"] == suite]).iloc[0] for suite in ("imagenet-shift", "imagenet-o"))
    assert {"clean top-1", "imagenet-a top-1", "imagenet-r top-1", "imagenet-v2-top-images top-1", "imagenet-sketch top-1"} <= set(
        shift.index
    )
    assert {"ood_aupr", "ood_auroc", "ood_fpr95"} <= {name for name, value in ood.items() if value}
    readings = board[board["metric"] == "top1_1000way"]["scenario"].tolist()
    assert sorted(readings) == ["imagenet-a", "imagenet-r", "val-of-imagenet-a", "val-of-imagenet-r"]


def test_parts_of_a_suite_ask_each_data_set_its_own_scenarios(tmp_path: Path, write: Callable[[str], Suite]) -> None:
    suite = write(
        "parts:\n  - data: digits\n    scenarios: [clean, {fog: {severity: [1, 2]}}]\n  - data: digits?ink=grey\n    scenarios: [clean]\n"
        "metrics: [top1]\nview: {crop: squash}"
    )
    runner.run(suite, [DIGITS], store=tmp_path / "s", settings=Settings(limit=3))
    asked = [(one.scenario, one.severity, one.view.partition(",")[0]) for one in Store(tmp_path / "s").questions()]
    assert asked == [("clean", "", "32x32"), ("fog", "1", "32x32"), ("fog", "2", "32x32"), ("clean", "", "32x32")]
    runner.run(suite, [DIGITS], "digits", store=tmp_path / "t", settings=Settings(limit=3))
    assert [one.scenario for one in Store(tmp_path / "t").questions()] == ["clean", "fog", "fog"]
