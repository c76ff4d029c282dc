"""Transfer: images crafted once on each source and judged on every target, against counts by hand."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

import robustvit as rv
from robustvit.errors import BadParameter, ModelError, StoreError, SuiteError, UsageError
from robustvit.evaluation.cost.estimate import estimate
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.pixels import to_uint8
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store, load_records
from robustvit.records.upkeep.garbage import collect
from robustvit.records.upkeep.verification import verify
from robustvit.results.attack_outcomes import attack_cell
from robustvit.results.parameters import attack_name
from robustvit.results.transfer_matrix import COLUMNS, transfer_matrix
from robustvit.results.transfer_pages import brief_page, legend, matrices, matrix_page
from robustvit.spec.cell import crafting_id
from robustvit.spec.spec import Spec, canonical
from robustvit.spec.suite_file import load_suite, read_suite
from robustvit.spec.view import View

N, EPS, STEPS = 60, 8 / 255, 3
SUITE = """name: t
title: t
data: digits
surrogates: {surrogates}
stored_as: {stored}
scenarios:
  - clean
  - {attack}
metrics: [top1, robust_accuracy, attack_success]
"""
MI = f"mi_fgsm: {{eps: 8/255, steps: {STEPS}, decay: 0, early: false}}"  # without momentum, and without a random start


class Flat(nn.Module):
    """Ten classes, linear in the pixels of grey images of a side, or of its square root."""

    def __init__(self, weight: Tensor, side: int, outputs: int = 10) -> None:
        super().__init__()
        self.weight, self.side, self.outputs = nn.Parameter(weight), side, outputs

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == self.side
        return (images.mean(dim=1).flatten(1) - 0.5) @ self.weight


@functools.cache
def weights(side: int, ridge: float) -> Tensor:
    """Ridge regression of the digits' one-hot labels on their pixels."""
    data = rv.load_data("digits?split=train")
    view = View((side, side), None, "squash", "bicubic")
    pixels = np.stack(
        [np.asarray(view.apply(Image.fromarray(data[i].image)), np.float64).mean(axis=2).ravel() / 255 - 0.5 for i in range(600)]
    )
    targets = np.eye(10)[np.asarray(data.labels[:600])]
    return torch.from_numpy(np.linalg.solve(pixels.T @ pixels + ridge * np.eye(side * side), pixels.T @ targets)).float() * 20


def flat(label: str, side: int = 32, ridge: float = 30.0, outputs: int = 10, tile: int = 16) -> rv.Classifier:
    module = Flat(weights(side, ridge)[:, :outputs], side, outputs)
    card = Card(label, Spec("given"), fingerprint(module), "given")
    view = View((side, side), None, "squash", "bicubic")
    return rv.Classifier(module, mean=(0.0,) * 3, std=(1.0,) * 3, view=view, card=card, tile=tile)


def suite(folder: Path, surrogates: str = "models", attack: str = MI, stored: str = "float32", **more: str) -> rv.Suite:
    text = SUITE.format(surrogates=surrogates, attack=attack, stored=stored) + "".join(f"{key}: {value}\n" for key, value in more.items())
    (folder / "t.yaml").write_text(text)
    return read_suite(folder / "t.yaml", "t.yaml")


def pixels_of(model: rv.Classifier, ids: list[str]) -> tuple[Tensor, Tensor]:
    data = rv.load_data("digits")
    places = [list(data.ids).index(name) for name in ids]
    images = [np.asarray(model.view.apply(Image.fromarray(data[i].image)), np.float32) / 255 for i in places]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor([data.labels[i] for i in places])


def by_hand(model: rv.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Iterative FGSM: the sign of the gradient of the cross-entropy, every step taken, right or wrong."""
    moved, side = images.clone(), model.size[0]
    for _ in range(STEPS):
        leaf = moved.clone().requires_grad_()
        seen = leaf if leaf.shape[-1] == side else interpolate(leaf, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        loss = nn.functional.cross_entropy(model(seen), labels, reduction="sum")
        step = moved + EPS / STEPS * torch.autograd.grad(loss, leaf)[0].sign()
        moved = torch.min(torch.max(step, images - EPS), images + EPS).clamp(0, 1)
    return moved


def success(model: rv.Classifier, images: Tensor, labels: Tensor) -> np.ndarray:
    with torch.no_grad():
        return (model(images).argmax(dim=1) != labels).numpy()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[rv.Classifier]]:
    folder = tmp_path_factory.mktemp("transfer")
    models = [flat("a"), flat("b", ridge=3000.0), flat("small", side=16)]
    done = rv.run(suite(folder, stored="[float32, uint8]"), models, store=folder / "s", limit=N)
    assert (done.failed, done.undefined) == ({}, {})
    return folder / "s", models


def test_both_success_rates_are_those_counted_by_hand(whole) -> None:
    store, models = whole
    table = transfer_matrix(store)
    ids = next(iter(load_records(store)))[1]["sample"].tolist()
    assert list(table.columns) == COLUMNS
    assert len(table) == 3 * 3 * 2
    for target in models:
        images, labels = pixels_of(target, ids)
        for source in models:
            own = images if source.size == target.size else interpolate(images, source.size, mode="bicubic", antialias=True).clamp(0, 1)
            crafted = by_hand(source, images, labels)
            both = ~success(source, own, labels) & ~success(target, images, labels)
            for stored in ("", "uint8"):
                seen = torch.from_numpy(to_uint8(crafted)).permute(0, 3, 1, 2) / 255 if stored else crafted
                fooled = success(target, seen, labels)
                keys = (table["source"] == source.card.label, table["target"] == target.card.label, table["stored_as"] == stored)
                (row,) = table[np.logical_and.reduce(keys)].to_dict("records")
                assert (row["n_all"], row["n_both"]) == (N, int(both.sum()))
                assert row["success_all"] == pytest.approx(100 * fooled.mean())
                assert row["success_both"] == pytest.approx(100 * fooled[both].mean())
                interval = scipy.stats.binomtest(int(fooled[both].sum()), int(both.sum())).proportion_ci(method="wilson")
                assert (row["success_both_low"], row["success_both_high"]) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert 0 < table["success_both"].min() < table["success_both"].max(), "rates that differ"
    assert (table["n_both"] < N).any(), "and some samples are wrong when clean"


def test_ratios_and_tests_against_scipy(whole) -> None:
    store, (a, b, _) = whole
    table = transfer_matrix(store)
    ids = next(iter(load_records(store)))[1]["sample"].tolist()
    images, labels = pixels_of(a, ids)
    crafted = by_hand(a, images, labels)
    right = [~success(model, images, labels) for model in (a, b)]
    on_a, on_b = (success(model, crafted, labels) for model in (a, b))
    both = right[0] & right[1]
    (row,) = table[(table["source"] == "a") & (table["target"] == "b") & (table["stored_as"] == "")].to_dict("records")
    ratio = on_b[both].mean() / on_a[right[0]].mean()
    assert row["ratio"] == pytest.approx(ratio)
    only_a, only_b = int((on_a & ~on_b & both).sum()), int((on_b & ~on_a & both).sum())
    assert row["difference"] == pytest.approx(100 * (only_b - only_a) / both.sum())
    assert row["p"] == pytest.approx(scipy.stats.binomtest(only_b, only_a + only_b).pvalue if only_a + only_b else 1.0)
    random = np.random.default_rng(0)
    drawn = [random.integers(N, size=N) for _ in range(4000)]
    replicates = [on_b[i][both[i]].mean() / on_a[i][right[0][i]].mean() for i in drawn]
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert abs(row["ratio_low"] - low) + abs(row["ratio_high"] - high) < 0.6 * (high - low)
    assert row["ratio_low"] <= ratio <= row["ratio_high"]
    tested = table[table["p"].notna()]
    for _, part in tested.groupby("stored_as"):
        ordered = part.sort_values("p")
        corrected = np.minimum(1, np.maximum.accumulate(ordered["p"] * np.arange(len(part), 0, -1)))
        assert ordered["p_holm"].to_list() == pytest.approx(corrected.to_list())
    diagonal = (table["source"] == table["target"]) & (table["stored_as"] == "")
    assert table.loc[diagonal, ["ratio", "p", "difference"]].isna().all(axis=None)


def test_images_are_crafted_once_for_each_source_and_view(whole) -> None:
    store, _ = whole
    gradients = {}
    for question, rows in load_records(store):
        if question.surrogate:
            made = crafting_id(Store(store).describe(question.cell))
            assert (made == question.cell) is (question.family != "surrogate")
            gradients[question.cell] = int(rows["gradients"].sum())
            assert bool(rows["queries"].sum() > 0) is (made == question.cell)
    crafts = [count for count in gradients.values() if count]
    assert len(gradients) == 2 * 9 + 3, "three of them in the view of a model of another size"
    assert crafts == [STEPS * N] * 6


def test_images_that_were_removed_are_crafted_anew_where_another_model_is_to_see_them_and_only_there(tmp_path) -> None:
    a, b, c = flat("a"), flat("b", ridge=3000.0), flat("c", ridge=300.0)
    made, store = suite(tmp_path, "[demo]"), Store(tmp_path / "s", create=True)

    def run(*models: rv.Classifier, keep: tuple[str, ...] = ()) -> rv.Summary:
        done = rv.run(made, list(models), store=store.path, limit=16, progress=False, keep=keep)
        assert not done.failed
        return done

    def digests() -> dict[str, str]:
        return {row["sample"] + question.cell: str(row["nll"]) for question, rows in load_records(store.path) for _, row in rows.iterrows()}

    run(a)
    crafted = [file.path for cell in store.cells() for file in store.files(cell) if "images" in file.about()]
    assert len(crafted) == 1
    before, (gone,) = digests(), collect(store, images=True)
    assert (run(a).computed, digests()) == (0, before)
    assert run(a, b).computed == 3 * 16  # crafted again, and the clean and the judged cell of b
    assert before.items() <= digests().items()
    assert (store.path / gone.place).is_file()
    assert not (store.path / gone.place).with_suffix(".removed").exists()
    collect(store, images=True)
    compact(store)
    assert run(a, b, c).computed == 3 * 16
    assert before.items() <= digests().items()
    collect(store, images=True)
    judged = next(question.cell for question, _ in load_records(store.path) if question.model == "c" and question.surrogate)
    (file,) = store.files(judged)
    file.path.write_bytes(file.path.read_bytes()[:-8])
    assert run(a, b, c).computed == 2 * 16  # of the judged cell that was damaged, and its images
    collect(store, images=True)
    assert run(a, b, c).computed == 0
    assert verify(store).faults == []


def test_what_is_stored_as_uint8_is_predicted_from_whole_levels(whole) -> None:
    store, (a, b, _) = whole
    ids = next(iter(load_records(store)))[1]["sample"].tolist()
    _, labels = pixels_of(a, ids)
    crafting = next(
        question.cell
        for question, _ in load_records(store)
        if question.model == "a" and question.surrogate and question.family != "surrogate"
    )
    crafted = torch.from_numpy(rv.load_kept(f"{store}#{crafting}").images(ids).adversarial)
    levels = torch.from_numpy(np.rint(crafted.numpy() * 255)).float() / 255
    found = {}
    for question, rows in load_records(store):
        if question.model == "b" and question.surrogate.startswith("a#"):
            found["stored_as=uint8" in question.params] = rows["nll"].to_numpy()
    for stored, pixels in ((False, crafted), (True, levels)):
        with torch.no_grad():
            expected = nn.functional.cross_entropy(b(pixels), labels, reduction="none")
        assert np.allclose(found[stored], expected.numpy(), atol=2e-5)
    assert np.abs(found[True] - found[False]).max() > 2e-4


@pytest.mark.long
def test_a_run_that_is_killed_goes_on_to_the_same_records(whole, tmp_path) -> None:
    store, models = whole
    page, random = suite(tmp_path, stored="[float32, uint8]"), np.random.default_rng(3)

    class Killed(BaseException):
        pass

    def killing(left: int):
        def progress(done: int, total: int, what: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        return progress

    for _ in range(6):
        with pytest.raises(Killed):
            rv.run(page, models, store=tmp_path / "s", limit=N, progress=killing(int(random.integers(2, 9))))
    rv.run(page, models, store=tmp_path / "s", limit=N)
    kept = {question.cell: rows for question, rows in load_records(store)}
    found = {question.cell: rows for question, rows in load_records(tmp_path / "s")}
    assert found.keys() == kept.keys()
    for cell, rows in found.items():
        assert rows.equals(kept[cell])
    assert rv.run(page, models, store=tmp_path / "s", limit=N).computed == 0
    again = transfer_matrix(tmp_path / "s")
    assert again.equals(transfer_matrix(store))


def test_images_that_are_gone_are_crafted_again(tmp_path) -> None:
    models = [flat("a"), flat("b", ridge=3000.0)]
    rv.run(suite(tmp_path), models, store=tmp_path / "s", limit=20)
    (file, _) = sorted((tmp_path / "s" / "cells").rglob("*.safetensors"))
    file.write_bytes(b"")
    done = rv.run(suite(tmp_path), models, store=tmp_path / "s", limit=20)
    assert (len(done.repaired), done.computed, done.failed) == (1, 20, {})


def test_a_surrogate_that_is_no_model_of_the_run_crafts_and_is_not_evaluated_on_others(tmp_path) -> None:
    target = flat("a")
    made = make(suite(tmp_path, "[demo, 'demo+quantize(bits=4)']"), [target], None, Settings(limit=8))
    found = [(part.label, str(cell.scenario).partition("(")[0], cell.crafts) for part in made.planned for cell in part.cells]
    assert found == [
        ("a", "clean", False), ("a", "mi_fgsm", False), ("a", "mi_fgsm", False),
        ("demo", "mi_fgsm", True), ("demo", "mi_fgsm", True),
    ]  # fmt: skip
    given = make(suite(tmp_path, "given"), [target], None, Settings(limit=8, surrogates=("demo",)))
    assert [cell.id for cell in given.cells] == [cell.id for cell in made.cells if "quantize" not in str((cell.transforms, cell.surrogate))]
    alone = make(suite(tmp_path, "given"), ["demo+quantize(bits=4)"], None, Settings(limit=8, surrogates=("demo",)))
    assert [(str(cell.transforms), cell.crafts) for cell in alone.cells if cell.surrogate] == [
        (str(alone.cells[0].transforms), False), ("()", True)
    ]  # fmt: skip


def test_ids_of_crafting_cells_are_those_of_stored_questions(tmp_path) -> None:
    made = make(suite(tmp_path, stored="[float32, uint8]"), [flat("a"), flat("small", side=16), "demo+quantize(bits=4)"], None, Settings())
    surrogates = [cell for cell in made.cells if cell.surrogate]
    assert len({cell.crafting.id for cell in surrogates}) == 3 * 3, "of each source in each view: of 32 pixels there are two"
    for cell in surrogates:
        assert crafting_id(json.loads(json.dumps(canonical(cell.as_dict())))) == cell.crafting.id
        assert cell.crafting.crafts
        assert (cell.waits_for is None) is cell.crafts


def test_an_attack_that_is_fitted_is_fitted_to_the_source(tmp_path) -> None:
    uap = "uap: {eps: 16/255, train: 'digits?split=train', samples: 64, epochs: 2}"
    done = rv.run(suite(tmp_path, attack=uap), [flat("a"), flat("b", ridge=3000.0)], store=tmp_path / "s", limit=20)
    assert done.failed == {}
    assert len(list((tmp_path / "s" / "learned").iterdir())) == 2
    plain = SUITE.replace("surrogates: {surrogates}\nstored_as: {stored}\n", "").format(attack=uap)
    (tmp_path / "p.yaml").write_text(plain)
    rv.run(read_suite(tmp_path / "p.yaml"), [flat("a")], store=tmp_path / "s", limit=20)
    assert len(list((tmp_path / "s" / "learned").iterdir())) == 2, "an attack on the model itself takes the same perturbation"


@rv.attack(severity="eps", family="test", source="here", label_free=True)
def towards_white(model, images, labels, draws, *, eps: float):
    """Every pixel brighter by eps, whatever the model."""
    assert model.outputs == 4
    return (images + eps).clamp(0, 1)


def test_a_surrogate_of_other_classes_crafts_where_no_labels_are_read(tmp_path) -> None:
    foreign, target = flat("foreign", outputs=4), flat("a")
    with pytest.raises(
        ModelError, match=r"surrogate 'foreign'.*The attack 'mi_fgsm' needs the labels of data 'digits'; attacks on features"
    ):
        make(suite(tmp_path, "given"), [target], None, Settings(surrogates=[foreign]))
    page = suite(tmp_path, "given", "towards_white: {eps: 0.1}")
    done = rv.run(page, [target], store=tmp_path / "s", limit=20, surrogates=[foreign])
    assert done.failed == {}
    (row,) = transfer_matrix(tmp_path / "s").query("source == 'foreign' and target == 'a'").to_dict("records")
    images, labels = pixels_of(target, next(iter(load_records(tmp_path / "s")))[1]["sample"].tolist())
    fooled = success(target, (images + 0.1).clamp(0, 1), labels)
    right = ~success(target, images, labels)
    assert (row["n_all"], row["n_both"]) == (20, right.sum())
    assert row["success_both"] == pytest.approx(100 * fooled[right].mean())
    assert np.isnan(row["ratio"])
    board = rv.leaderboard(tmp_path / "s")
    assert set(board.loc[board["model"] == "foreign", "status"]) == {"undefined"}
    assert "foreign" in rv.write_report(tmp_path / "s", tmp_path / "r.html").read_text()


def test_the_predictions_of_a_surrogate_of_other_classes_stand_for_labels(tmp_path) -> None:
    foreign, target = flat("foreign", outputs=4), flat("a")
    uap = "uap: {eps: 32/255, train: 'digits?split=train', samples: 64, epochs: 2}"
    page = suite(tmp_path, "given", f"{MI}\n  - {uap}", surrogate_labels="predicted")
    done = rv.run(page, [target], store=tmp_path / "s", limit=20, surrogates=[foreign])
    assert done.failed == {}
    rows = {row["scenario"]: row for row in transfer_matrix(tmp_path / "s").query("target == 'a'").to_dict("records")}
    images, labels = pixels_of(target, next(iter(load_records(tmp_path / "s")))[1]["sample"].tolist())
    with torch.no_grad():
        own = foreign(images).argmax(dim=1)
    right, fooled = ~success(target, images, labels), success(target, by_hand(foreign, images, own), labels)
    assert rows["mi_fgsm"]["success_both"] == pytest.approx(100 * fooled[right].mean())
    assert (rows["mi_fgsm"]["n_both"], rows["uap"]["n_both"]) == (right.sum(), right.sum())
    (artifact,) = (tmp_path / "s" / "learned").iterdir()
    assert artifact.name, "fitted once, to the surrogate's own predictions"
    same = {cell.artifact_id for cell in make(page, [target], None, Settings(surrogates=[foreign])).cells} - {None}
    plain = flat("foreign")  # ten classes: the same attack reads the labels of the data there
    other = {cell.artifact_id for cell in make(suite(tmp_path, "given", uap), [target], None, Settings(surrogates=[plain])).cells} - {None}
    assert len(same) == len(other) == 1
    own_words = {
        cell.artifact_id
        for cell in make(suite(tmp_path, "given", uap, surrogate_labels="predicted"), [target], None, Settings(surrogates=[plain])).cells
    }
    assert not own_words & other, "and what is fitted to other labels is another artifact"


def test_what_is_judged_is_not_what_an_attack_was_fitted_to(tmp_path) -> None:
    uap = "uap: {eps: 32/255, train: 'evaluated?part=1-4/5', samples: 32, epochs: 1}"
    models = [flat("a"), flat("b", ridge=3000.0)]
    done = rv.run(suite(tmp_path, attack=uap), models, "digits?part=5/5", store=tmp_path / "s", limit=20)
    assert done.failed == {}
    done = rv.run(suite(tmp_path, attack=uap), models, "digits", store=tmp_path / "t", limit=200)
    reasons = sorted(done.failed.values())
    assert len(reasons) == 4, "both crafting cells, and those that wait for them"
    assert reasons[0].startswith("attack 'uap' learned of"), reasons
    assert "evaluated?part=1-4/5" in reasons[0]
    assert reasons[-1].startswith("the attack on its surrogate failed: attack 'uap' learned of")


def test_a_model_that_was_not_made_from_the_backbone_is_named_with_what_differs(tmp_path) -> None:
    backbone, other = flat("backbone"), flat("other", ridge=3000.0)
    made = flat("victim")
    made.card = dataclasses.replace(made.card, backbone=("file:backbone", backbone.card.fingerprint))
    done = rv.run(suite(tmp_path, "given"), [made, other], store=tmp_path / "s", limit=4, surrogates=[backbone])
    assert set(done.model_notes) == {"other"}
    (note,) = [one for one in done.model_notes["other"] if "backbone" in one]
    assert (
        note
        == "it is not known to be made from the surrogate 'backbone': 100 % of that one's weights, its head left out, differ or are missing"
    )
    assert rv.run(suite(tmp_path), [made, other], store=tmp_path / "t", limit=4).model_notes == {}


def test_a_backbone_without_a_head_crafts_on_features_and_has_no_predictions(tmp_path) -> None:
    address = "vit_tiny_patch16_224?weights=random&num_classes=0&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2"
    page = load_suite("downstream-transfer")
    done = rv.run(page, ["demo"], "digits?part=5/5", store=tmp_path / "s", limit=4, surrogates=[address])
    assert done.failed == {}
    assert {name.split()[1] for name in done.undefined} == {"uap", "pgd"}
    assert all("it has no head, whose predictions could stand for labels" in reason for reason in done.undefined.values())
    table = transfer_matrix(tmp_path / "s").query("target == 'demo' and stored_as == ''")
    assert (table.loc[~table["scenario"].isin(["uap", "pgd"]), "n_all"] == 4).all()


def test_models_of_one_label_stay_apart(tmp_path) -> None:
    one, other = flat("twin"), flat("twin", ridge=3000.0)
    rv.run(suite(tmp_path, "given"), ["demo"], store=tmp_path / "s", limit=8, surrogates=[one])
    rv.run(suite(tmp_path, "given"), ["demo"], store=tmp_path / "s", limit=8, surrogates=[other])
    table = rv.transfer_matrix(tmp_path / "s")
    assert sorted(table.loc[table["target"] == "demo", "source"]) == sorted(f"twin#{model.card.fingerprint[:6]}" for model in (one, other))
    with pytest.raises(BadParameter, match="'twin' is named twice"):
        rv.run(suite(tmp_path, "given"), ["demo"], store=tmp_path / "t", limit=8, surrogates=[one, other])
    pair = ["demo+ensemble(other=demo+quantize(bits=4))", "demo+ensemble(other=demo+quantize(bits=2))"]
    rv.run(suite(tmp_path), pair, store=tmp_path / "u", limit=8)
    table = rv.transfer_matrix(tmp_path / "u")
    assert len(table) == 4
    assert set(table["source"]) == set(table["target"])
    assert len(set(table["source"])) == 2


def test_a_matrix_is_of_the_models_that_are_named(tmp_path) -> None:
    rv.run(suite(tmp_path), ["demo", "demo+quantize(bits=4)"], store=tmp_path / "s", limit=8)
    assert set(rv.transfer_matrix(tmp_path / "s", models=["demo+quantize(bits=4)"])["target"]) == {"demo+quantize(bits=4)"}
    with pytest.raises(StoreError, match="dmo"):
        rv.transfer_matrix(tmp_path / "s", models=["dmo"])
    page = brief_page(rv.transfer_matrix(tmp_path / "s"))
    assert list(page.columns) == ["attack", "source", "1", "2"]
    table = rv.transfer_matrix(tmp_path / "s", models=["demo"])
    assert legend(table) == "Entries are of 8 samples."


def test_a_legend_names_the_targets_that_are_no_sources(tmp_path) -> None:
    rv.run(suite(tmp_path, "given"), [flat("a"), flat("b", ridge=3000.0)], store=tmp_path / "s", limit=8, surrogates=["demo"])
    text = legend(rv.transfer_matrix(tmp_path / "s"))
    assert "2 a, 3 b" in text or "a, " in text
    assert "Entries are of" in text


def test_tables_show_the_attack_on_the_model_itself_and_the_matrix_the_others(whole) -> None:
    store, models = whole
    board = rv.leaderboard(store)
    names = {attack_name(*key) for key in board.loc[board["scenario"] == "mi_fgsm", ["scenario", "params"]].itertuples(index=False)}
    own = [f"{model.card.label}#{model.card.fingerprint[:6]}" for model in models]
    assert names == {"mi_fgsm", *(f"mi_fgsm from {name}{stored}" for name in own for stored in ("", " stored as uint8"))}
    table = transfer_matrix(store)
    page = matrix_page(table)
    assert list(page.columns) == ["attack", "source", "a", "b", "small"]
    assert page["attack"].to_list() == ["mi_fgsm 8/255"] * 3 + ["mi_fgsm 8/255 stored as uint8"] * 3
    assert [one.name for one in matrices(table)] == ["mi_fgsm 8/255", "mi_fgsm 8/255 stored as uint8"]
    html = rv.write_report(store, store / "r.html").read_text()
    assert html.count("Source by target") == 2
    entry = table.iloc[1]
    assert f"of {entry['n_both']} right on both sides" in html


def test_others_images_count_as_transfer_where_gradients_are_judged(whole) -> None:
    store, _ = whole
    roles = {}
    for question, rows in load_records(store):
        if question.surrogate:
            described = Store(store).describe(question.cell)
            (step,) = attack_cell(question.cell, described, rows).steps
            roles.setdefault(question.family, set()).add(step.role)
    assert roles == {"transfer": {"iterative"}, "surrogate": {"transfer"}}


def test_a_plan_counts_crafting_once_and_the_images_that_are_kept(tmp_path) -> None:
    models = [flat("a"), flat("b", ridge=3000.0)]
    made = make(suite(tmp_path), models, None, Settings(limit=100))
    assert estimate(made, {}).store_bytes > 2 * 100 * 32 * 32 * 15


@pytest.mark.parametrize(("more", "message"), [
    ({"attack": "autoattack: {eps: 8/255}"}, r"t.yaml:8: 'autoattack' is a chain"),
    ({"attack": "fog: {severity: 3}"}, r"t.yaml:4: surrogates are what attacks are crafted on, and this suite has no attack"),
    ({"attack_through": "host"}, r"with surrogates, list the model before its transforms among them"),
    ({"stored": "int8"}, r"stored_as"),
    ({"surrogate_labels": "mine"}, r"surrogate_labels"),
])  # fmt: skip
def test_suites_with_surrogates_are_checked(tmp_path, more, message) -> None:
    with pytest.raises(SuiteError, match=message):
        suite(tmp_path, **more)


def test_what_a_run_names_is_checked(tmp_path) -> None:
    with pytest.raises(UsageError, match="crafts images on a surrogate that the run names: give --surrogate MODEL"):
        make(suite(tmp_path, "given"), ["demo"], None, Settings())
    with pytest.raises(UsageError, match="suite 'quick' crafts nothing on surrogates"):
        make(rv.load_suite("quick"), ["demo"], None, Settings(surrogates=("demo",)))
    rv.run("quick", ["demo"], store=tmp_path / "s", limit=2)
    with pytest.raises(StoreError, match="has no images that were crafted on surrogates"):
        transfer_matrix(tmp_path / "s")
