"""Pipelines of transforms: one grammar, one id, learned once, refused by name."""

from __future__ import annotations

import threading
from pathlib import Path

import learned
import pytest
import torch

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused, RobustvitError, StoreError
from robustvit.evaluation.cost.estimate import estimate
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.suite_file import read_suite
from robustvit.spec.view import Overrides

HOT, COOL = "attention_temperature(temperature=2)", "attention_temperature(temperature=1.5)"
LEARNED = "shift_logits(calibration=digits?split=train)"
SUITE = """name: t
title: t
data: digits
transforms: {}
scenarios: [clean, {{fog: {{severity: [1, 3]}}}}]
metrics: [top1, mean_corruption_error]
"""


def suite(folder: Path, transforms: str = "[[]]"):
    (folder / "t.yaml").write_text(SUITE.format(transforms))
    return read_suite(folder / "t.yaml", "t.yaml")


def ids(made) -> list[str]:
    return [cell.id for cell in made.cells]


@pytest.mark.parametrize(("address", "yaml"), [
    (f"demo+{HOT}+{COOL}", "[[{attention_temperature: {temperature: 2}}, {attention_temperature: {temperature: 1.5}}]]"),
    (f"demo+{LEARNED}", "[[{shift_logits: {calibration: 'digits?split=train'}}]]"),
    (f"demo+{LEARNED}+{HOT}", "[[{shift_logits: {calibration: {digits: {split: train}}}}, {attention_temperature: {temperature: 2}}]]"),
])  # fmt: skip
def test_an_address_a_suite_and_python_name_the_same_cells(tmp_path, address, yaml) -> None:
    by_address = ids(make(suite(tmp_path), [address], None, Settings()))
    assert by_address == ids(make(suite(tmp_path, yaml), ["demo"], None, Settings()))
    model = rv.load_model("demo")
    for step in address.split("+")[1:]:
        model = rv.transformed(model, step)
    assert by_address == ids(make(suite(tmp_path), [model], None, Settings()))
    assert len(set(by_address)) == 3


def test_transforms_of_a_suite_follow_those_of_the_address(tmp_path) -> None:
    made = make(suite(tmp_path, "[[], [{attention_temperature: {temperature: 1.5}}]]"), [f"demo+{HOT}", "demo"], None, Settings())
    pipelines = list(dict.fromkeys(tuple(str(step) for step in cell.transforms) for cell in made.cells))
    assert pipelines == [(HOT,), (HOT, COOL), (), (COOL,)]
    assert len(made.planned) == 1, "one model, loaded once"


def test_a_model_is_named_once_with_one_pipeline(tmp_path) -> None:
    with pytest.raises(BadParameter, match="is named twice"):
        make(suite(tmp_path), [f"demo+{HOT}", f"demo+{HOT}"], None, Settings())


def test_a_transform_from_python_is_that_of_the_registry() -> None:
    host, images = rv.load_model("demo"), torch.rand(3, 3, 32, 32)
    named, written = rv.transformed(host, "attention_temperature", temperature=2), rv.transformed(host, HOT)
    loaded = rv.load_model(f"demo+{HOT}")
    assert torch.equal(named(images), written(images))
    assert torch.equal(named(images), loaded(images))
    assert not torch.equal(named(images), host(images))
    assert [model.card.label for model in (named, written, loaded, host)] == [f"demo+{HOT}"] * 3 + ["demo"]
    with pytest.raises(BadParameter, match="given twice"):
        rv.transformed(host, HOT, temperature=3)
    with pytest.raises(BadParameter, match="takes a Classifier"):
        rv.transformed(torch.nn.Identity(), HOT)


def test_what_learns_learns_once_and_again_for_another_seed(tmp_path) -> None:
    learned.CALLS.clear()
    for _ in range(2):
        done = rv.run(suite(tmp_path), ["demo", f"demo+{LEARNED}"], store=tmp_path / "s", limit=16)
        assert (done.failed, len(learned.CALLS)) == ({}, 1)
    rv.run(suite(tmp_path), [f"demo+{LEARNED}"], store=tmp_path / "s", limit=16, seed=1)
    assert len(learned.CALLS) == 2
    assert len(list((tmp_path / "s" / "learned").iterdir())) == 2
    board = leaderboard(tmp_path / "s")
    assert set(board["transforms"]) == {"", "shift_logits(calibration=digits(split=train))"}
    in_python = rv.transformed(rv.load_model("demo"), LEARNED)
    (kept,) = (one for one in make(suite(tmp_path), [f"demo+{LEARNED}"], None, Settings()).cells[:1])
    artifact = Store(tmp_path / "s").artifact(kept.learned_id(0))
    assert torch.equal(in_python.model.shift, torch.from_numpy(artifact["mean"]))


def test_one_that_looks_at_no_image_learns_nothing_and_is_applied() -> None:
    model = rv.load_model("demo")
    made = rv.transformed(model, "head_pruning", amount=0.5)
    assert made.learned == ({},)
    assert sum(one.numel() for one in made.model.parameters()) < sum(one.numel() for one in model.model.parameters())


def test_names_of_pipelines_select_and_compare(tmp_path) -> None:
    store = tmp_path / "s"
    rv.run(suite(tmp_path), ["demo", f"demo+{LEARNED}", f"demo+{HOT}"], store=store, limit=16)
    assert set(leaderboard(store, models=["demo"])["transforms"]) == set(leaderboard(store)["transforms"])
    assert set(leaderboard(store, models=[f"demo+{HOT}"])["transforms"]) == {HOT}
    assert set(leaderboard(store, models=[f"demo+{LEARNED}"])["transforms"]) == {"shift_logits(calibration=digits(split=train))"}
    with pytest.raises(StoreError, match="has no model"):
        leaderboard(store, models=[f"demo+{COOL}"])
    found = rv.compare(store, "demo", f"demo+{HOT}")
    assert found["n"].tolist() == [16, 16, 16]
    assert found.equals(rv.compare(store, "demo", f"demo -> {HOT}"))


def test_one_that_fails_to_learn_fails_its_cells_and_no_others(tmp_path) -> None:
    done = rv.run(suite(tmp_path), ["demo", "demo+shift_logits(calibration=digits?split=train, share=2)"], store=tmp_path / "s", limit=16)
    assert len(done.failed) == 3
    assert all("a share above one" in reason for reason in done.failed.values())
    board = leaderboard(tmp_path / "s")
    assert set(board.loc[(board["transforms"] != "") & (board["cell"] != ""), "status"]) == {"failed"}
    assert set(board.loc[(board["transforms"] == "") & (board["cell"] != ""), "status"]) == {"complete"}


def test_what_is_learned_by_another_process_is_waited_for(tmp_path) -> None:
    place = tmp_path / "s"
    name = make(suite(tmp_path), [f"demo+{LEARNED}"], None, Settings()).cells[0].learned_id(0)
    rv.run(suite(tmp_path), ["demo"], store=place, limit=4)
    learned.CALLS.clear()
    store = Store(place)
    with store.lease(name, 0) as mine:
        assert mine
        run = threading.Thread(target=rv.run, args=(suite(tmp_path), [f"demo+{LEARNED}"]), kwargs={"store": place, "limit": 4})
        run.start()
        run.join(3)
        assert (run.is_alive(), learned.CALLS) == (True, [])
        mean = torch.zeros(10).numpy()
        store.keep_artifact(name, {"mean": mean})
    run.join(60)
    assert (run.is_alive(), learned.CALLS) == (False, [])
    board = leaderboard(place, metrics=["top1"])
    assert board.groupby(["scenario", "severity"])["value"].nunique().eq(1).all(), "what the other one kept is what was used"


@pytest.mark.parametrize(("calibration", "data", "both"), [
    ("digits", "digits", "8 images"), ("digits?part=calibration", "digits", "8 images"), ("digits?split=train", "digits", ""),
    ("digits?part=calibration", "digits?part=evaluation", ""),
])  # fmt: skip
def test_nothing_is_learned_of_the_images_that_are_judged(tmp_path, calibration, data, both) -> None:
    models = [f"demo+shift_logits(calibration={calibration})"]
    for _ in range(2):  # what an earlier run learned is held to it, too
        if both:
            with pytest.raises(BadParameter, match=f"learned of {both} .*part=calibration"):
                rv.run(suite(tmp_path), models, data, store=tmp_path / "s", limit=1.0)
        else:
            assert not rv.run(suite(tmp_path), models, data, store=tmp_path / "s", limit=16).failed


def test_a_pipeline_that_does_not_take_the_model_is_undefined_and_the_others_go_on(tmp_path) -> None:
    cnn, place = "resnet10t?weights=random&num_classes=10", tmp_path / "s"
    done = rv.run(suite(tmp_path), [cnn, f"{cnn}+{HOT}"], store=place, limit=4, view=Overrides(img_size=32))
    assert not done.failed
    assert (done.cells, list(done.undefined)) == (3, [f"{cnn}+{HOT}"])
    board = leaderboard(tmp_path / "s")
    hollow = board[board["transforms"] == HOT]
    assert set(hollow["status"]) == {"undefined"}
    assert hollow["value"].isna().all()
    assert all("takes models whose attention can be intercepted" in reason for reason in hollow["reason"])
    again = rv.run(suite(tmp_path), [f"{cnn}+{HOT}"], store=place, limit=4, view=Overrides(img_size=32))
    assert (again.cells, again.rows) == (0, 0)


def test_a_transformed_model_whose_weights_were_changed_is_refused(tmp_path) -> None:
    model = rv.transformed(rv.load_model("demo"), LEARNED)
    model.model.shift.add_(1.0)
    with pytest.raises(BadParameter, match="were changed after its transforms"):
        make(suite(tmp_path), [model], None, Settings())


def test_a_nested_model_has_its_pipeline_in_the_cell(tmp_path) -> None:
    page = SUITE.format("[[]]").replace("clean, ", "{transfer: {surrogate: NAME, attack: {fgsm: {eps: 1/255}}}}, ")
    found = {}
    for name in ("demo", f"demo+{HOT}", f"demo+{LEARNED}"):
        (tmp_path / "n.yaml").write_text(page.replace("NAME", f"'{name}'"))
        found[name] = ids(make(read_suite(tmp_path / "n.yaml", "n.yaml"), ["demo"], None, Settings()))[0]
    assert len(set(found.values())) == 3


def test_the_host_of_a_pipeline_is_a_surrogate(tmp_path) -> None:
    page = SUITE.format("[[]]").replace("clean, ", "{transfer: {surrogate: host, attack: {fgsm: {eps: 8/255}}}}, ")
    (tmp_path / "n.yaml").write_text(page)
    loaded = read_suite(tmp_path / "n.yaml", "n.yaml")
    done = rv.run(loaded, ["demo", f"demo+{HOT}"], store=tmp_path / "s", limit=16)
    assert (done.failed, list(done.undefined)) == ({}, ["demo transfer 8/255"])
    named = page.replace("surrogate: host", "surrogate: demo")
    (tmp_path / "n.yaml").write_text(named)
    by_name = make(read_suite(tmp_path / "n.yaml", "n.yaml"), [f"demo+{HOT}"], None, Settings())
    by_host = make(loaded, [f"demo+{HOT}"], None, Settings())
    assert ids(by_name) == ids(by_host)


def test_the_plan_counts_what_is_to_be_learned(tmp_path) -> None:
    made = make(suite(tmp_path), [f"demo+{LEARNED}"], None, Settings(limit=4))
    assert not made.fitted(made.cells[0])
    assert (estimate(made, {}).seconds or 0) > 0
    rv.run(suite(tmp_path), [f"demo+{LEARNED}"], store=tmp_path / "s", limit=4)
    made.take_artifacts(Store(tmp_path / "s"))
    assert made.fitted(made.cells[0])


def test_a_transform_that_returns_its_host_is_a_fault() -> None:
    @rv.transform(source="a test", no_op="x=0")
    def nothing_at_all(model: rv.Classifier, *, x: int = 0) -> rv.Classifier:
        """Nothing."""
        return model

    with pytest.raises(RobustvitError, match="must return a new Classifier"):
        rv.transformed(rv.load_model("demo"), "nothing_at_all")


def test_a_suite_calibrates_on_another_split_of_whatever_it_is_run_on(tmp_path) -> None:
    other = "[[{shift_logits: {calibration: 'evaluated?split=train'}}]]"
    same = ids(make(suite(tmp_path), [f"demo+{LEARNED}"], None, Settings()))
    assert ids(make(suite(tmp_path, other), ["demo"], None, Settings())) == same
    assert ids(make(suite(tmp_path, other), ["demo"], "digits?split=test", Settings())) == same
    part = "[[{shift_logits: {calibration: 'evaluated?part=calibration'}}]]"
    split = ids(make(suite(tmp_path, part), ["demo"], "digits?part=evaluation", Settings()))
    assert split == ids(
        make(suite(tmp_path), ["demo+shift_logits(calibration=digits?part=calibration)"], "digits?part=evaluation", Settings())
    )
    with pytest.raises(BadParameter, match="names the data of a run"):
        rv.transformed(rv.load_model("demo"), "shift_logits(calibration=evaluated?split=train)")
    with pytest.raises(BadParameter, match="names the data of a run"):
        rv.load_data("evaluated")


def test_a_nested_data_set_is_given_by_its_address() -> None:
    with pytest.raises(BadParameter, match=r"calibration is an .*; it takes its address, such as digits"):
        rv.transformed(rv.load_model("demo"), "shift_logits", calibration=rv.load_data("digits"))


def test_a_scenario_that_does_not_take_the_model_is_undefined_and_the_others_go_on(tmp_path) -> None:
    page = SUITE.format("[[], [evit]]").replace(
        "clean, ", "clean, {inflate: {eps: 8/255, steps: 2}}, {token_choice: {corruption: {fog: {severity: 1}}}}, "
    )
    (tmp_path / "n.yaml").write_text(page)
    loaded = read_suite(tmp_path / "n.yaml", "n.yaml")
    for computed in (8 + 7, 0):
        done = rv.run(loaded, ["demo"], store=tmp_path / "s", limit=4)
        assert (done.failed, len(done.undefined), done.cells) == ({}, 2, 8)
        assert (done.computed > 0) == (computed > 0)
        board = leaderboard(tmp_path / "s")
        hollow = board[(board["transforms"] == "") & board["scenario"].isin(("inflate", "token_choice"))]
        assert set(hollow["status"]) == {"undefined"}
        assert hollow["reason"].str.contains("computes on all its tokens").all()
        assert set(board.loc[(board["transforms"] != "") & (board["cell"] != ""), "status"]) == {"complete"}


def test_what_an_earlier_run_learned_is_held_to_the_images_of_a_later_one(tmp_path) -> None:
    model = "demo+shift_logits(calibration=digits?part=calibration)"
    assert not rv.run(suite(tmp_path), [model], "digits?part=evaluation", store=tmp_path / "s", limit=16).failed
    with pytest.raises(BadParameter, match=r"'shift_logits' learned of .* images that"):
        rv.run(suite(tmp_path), [model], "digits?part=calibration", store=tmp_path / "s", limit=1.0)


@pytest.mark.parametrize(
    "text", ["stvit(count=4, at=1, ", "learned_mixed_scale(", "learned_sparse_attention(", "adalog(", "xprune(", "ltmp("]
)
def test_one_that_learns_refuses_a_model_that_it_does_not_take_before_it_learns(text) -> None:
    cnn = rv.load_model("resnet10t?weights=random&num_classes=10")
    with pytest.raises(HostRefused, match="takes timm's plain vision transformers"):
        rv.transformed(cnn, f"{text}calibration=digits?split=train, samples=4)")
