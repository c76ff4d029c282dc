"""Images that attacks left: kept as they are, read back, judged again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import robustvit as rv
from robustvit.errors import BadParameter, DataMissing, StoreDamaged, StoreError, UsageError
from robustvit.evaluation.images.kept_images import KeptImages, kept_questions
from robustvit.evaluation.images.kept_suite import named_suite
from robustvit.records.records import read
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.view import Overrides

TINY = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=12,depth=1,num_heads=2"
SUITE = """
name: mine
title: Mine
data: digits
scenarios:
  - clean
  - pgd: {eps: 3/255, steps: 5}
  - autoattack: {eps: 2/255, version: fast}
metrics: [robust_accuracy]
"""


def brief(eps: object, norm: str = "linf", version: str = "fast") -> list[dict[str, dict[str, object]]]:
    return [{"apgd_ce": {"eps": eps, "steps": 5}}, {"apgd_t": {"eps": eps, "steps": 5, "targets": 3}}]


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustvit.attacks.autoattack.autoattack", brief)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    (folder / "mine.yaml").write_text(SUITE)
    for limit in (20, 30):  # two files of a shard
        rv.run(folder / "mine.yaml", ["demo"], store=folder / "store", settings=rv.Settings(limit=limit, keep=("adversarial",)))
    return folder


def the(place: Path, scenario: str) -> KeptImages:
    store = Store(place / "store")
    return next(KeptImages.of(store, one) for one in kept_questions(store) if one.scenario == scenario)


@pytest.mark.parametrize("scenario", ["pgd", "autoattack"])
def test_images_are_read_back_to_the_bit_and_answer_as_the_rows_say(place: Path, scenario: str) -> None:
    kept, demo = the(place, scenario), rv.load_model("demo")
    rows = read(kept.store.files(kept.cell))
    found = kept.images(rows["sample"].tolist())
    assert demo(torch.from_numpy(found.adversarial)).argmax(dim=1).tolist() == rows["pred"].tolist()
    delta = np.abs(found.adversarial - found.clean.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)).max(axis=(1, 2, 3))
    assert np.allclose(delta, rows["linf"], atol=1e-7)
    assert 0 < float(delta.max()) <= 3 / 255 + 1e-6
    assert not np.array_equal(np.round(found.adversarial * 255), found.adversarial * 255)  # no whole levels


def test_anybody_can_read_them_without_robustvit(place: Path) -> None:
    files = sorted((place / "store" / "cells").glob("*/*.safetensors"))
    arrays = load_file(files[0])
    assert {name: str(values.dtype) for name, values in arrays.items()} == {"adversarial": "float32", "clean": "uint8", "rows": "int32"}


def test_judged_again_by_the_same_model_they_give_the_same_numbers(place: Path, tmp_path: Path) -> None:
    suite = named_suite(f"kept:{place / 'store'}")
    rv.run(suite, ["demo"], store=tmp_path / "again")
    before = leaderboard(place / "store").query("metric == 'robust_accuracy'")
    after = leaderboard(tmp_path / "again").query("metric == 'robust_accuracy'")
    assert after["value"].tolist() == before["value"].tolist()
    assert after["severity"].tolist() == ["3/255", "2/255"]
    cells = [the(place, name).cell[:6] for name in ("pgd", "autoattack")]
    assert after["params"].tolist() == [f"of=pgd on demo#{cells[0]}", f"of=autoattack on demo#{cells[1]}"]


def test_another_model_meets_the_images_of_what_it_gets_right(place: Path, tmp_path: Path) -> None:
    summary = rv.run(f"kept:{place / 'store'}?scenario=pgd", [TINY], store=tmp_path / "other")
    assert not summary.failed
    rows = next(frame for question, frame in rv.load_records(tmp_path / "other") if question.scenario == "replay")
    assert 0 < int(rows["attacked"].sum()) < 30
    assert rows["linf"][~rows["attacked"]].max() == 0.0


def test_a_model_that_looks_otherwise_is_refused(place: Path, tmp_path: Path) -> None:
    settings = rv.Settings(view=Overrides(interpolation="nearest", img_size=32, crop_pct=0.5))
    summary = rv.run(f"kept:{place / 'store'}?scenario=pgd", ["demo"], store=tmp_path / "other", settings=settings)
    assert "sees other clean pixels" in next(iter(summary.failed.values()))


def test_a_sample_without_an_image_is_missing_by_name(place: Path) -> None:
    with pytest.raises(DataMissing, match=r"keeps no image of 1 of 1 samples that 'pgd on demo#.{6}' left: nobody"):
        the(place, "pgd").images(["nobody"])


def test_an_altered_file_is_refused(place: Path, tmp_path: Path) -> None:
    kept = the(place, "pgd")
    path = kept.store.images(kept.store.files(kept.cell)[0]).path
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreDamaged, match="is not what was written there"):
            the(place, "pgd").images(["x"])
    finally:
        path.write_bytes(content)


def test_rows_that_kept_nothing_are_not_taken_for_those_that_did(place: Path, tmp_path: Path) -> None:
    rv.run(place / "mine.yaml", ["demo"], store=tmp_path / "bare", settings=rv.Settings(limit=5))
    with pytest.raises(UsageError, match=r"--keep adversarial: rows of 'pgd 3/255' are in .* without their images"):
        rv.run(place / "mine.yaml", ["demo"], store=tmp_path / "bare", settings=rv.Settings(limit=5, keep=("adversarial",)))
    with pytest.raises(StoreError, match="keeps no images that attacks left"):
        named_suite(f"kept:{tmp_path / 'bare'}")


def test_addresses_that_lead_nowhere_say_what_there_is(place: Path) -> None:
    with pytest.raises(BadParameter, match="names no cell that kept its images"):
        rv.load_kept(f"{place / 'store'}#zzz")
    with pytest.raises(BadParameter, match="Did you mean 'pgd'"):
        named_suite(f"kept:{place / 'store'}?scenario=pgdd")
    with pytest.raises(BadParameter, match="Did you mean 'model'"):
        named_suite(f"kept:{place / 'store'}?modell=demo")


def test_an_unknown_thing_to_keep_is_refused() -> None:
    with pytest.raises(BadParameter, match="Did you mean 'adversarial'"):
        rv.run("quick", ["demo"], settings=rv.Settings(keep=("adversarials",)))
