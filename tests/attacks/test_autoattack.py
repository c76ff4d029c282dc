"""AutoAttack is a chain of cells, each on the samples that are still robust after those before it."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from robustvit.attacks.autoattack import autoattack
from robustvit.errors import BadParameter
from robustvit.evaluation import run as runner
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.time_budget import Deadline
from robustvit.records.records import read
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import parse
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import read_suite

WHOLE = autoattack
DIGITS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=12,depth=1,num_heads=2"
CHAIN = """
name: chain
title: A chain
data: digits
scenarios:
  - clean
  - autoattack: {eps: 0.002, version: fast}
  - apgd_ce: {eps: 0.002, steps: 12}
  - apgd_t: {eps: 0.002, steps: 12, targets: 3}
metrics: [top1, robust_accuracy]
"""


def brief(eps: object, norm: str = "linf", version: str = "fast") -> list[dict[str, dict[str, object]]]:
    """The links of the fast version, with fewer steps and targets."""
    return [{"apgd_ce": {"eps": eps, "norm": norm, "steps": 12}}, {"apgd_t": {"eps": eps, "norm": norm, "steps": 12, "targets": 3}}]


BRIEF = """
from robustvit.attacks import autoattack
from robustvit.cli.app import main


def brief(eps, norm="linf", version="standard"):
    steps = {"apgd_ce": {"steps": 40}, "apgd_t": {"steps": 40, "targets": 3}}
    steps |= {"fab_t": {"steps": 20, "targets": 3}, "square": {"steps": 300}}
    return [{name: {"eps": eps, **few}} for name, few in steps.items()]


autoattack.autoattack = brief
main()
"""


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustvit.attacks.autoattack.autoattack", brief)
        yield


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("suite") / "chain.yaml"
    path.write_text(CHAIN)
    return read_suite(path, "chain.yaml")


@pytest.fixture(scope="module")
def store(chain: Suite, tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = tmp_path_factory.mktemp("store")
    runner.run(chain, [DIGITS], store=place, settings=Settings(limit=32, batch_size=32))
    return Store(place)


def robust(store: Store, scenario: str, link: int) -> dict[str, bool]:
    question = next(one for one in store.questions() if one.scenario == scenario and one.link == link)
    rows = read(store.files(question.cell))
    return dict(zip(rows["sample"], rows["attacked"] & (rows["pred"] == rows["label"]), strict=True))


def test_a_sample_is_robust_where_every_attack_alone_fails(store: Store) -> None:
    alone = [robust(store, name, 0) for name in ("apgd_ce", "apgd_t")]
    both = robust(store, "autoattack", 2)
    assert both == {sample: all(one[sample] for one in alone) for sample in both}
    assert 0 < sum(both.values()) <= sum(alone[0].values())


def test_the_first_link_is_the_cell_of_its_attack(store: Store) -> None:
    cells = {(one.scenario, one.link): one.cell for one in store.questions()}
    assert cells["autoattack", 1] == cells["apgd_ce", 0]
    assert cells["autoattack", 2] != cells["apgd_t", 0]


def test_rows_name_the_attack_that_fooled_the_model_and_count_the_cost_of_all(store: Store) -> None:
    question = next(one for one in store.questions() if one.scenario == "autoattack" and one.link == 2)
    rows = read(store.files(question.cell))
    fooled = rows["attacked"] & (rows["pred"] != rows["label"])
    assert set(rows.loc[fooled, "felled_by"]) <= {"apgd_ce", "apgd_t"}
    assert set(rows.loc[~fooled, "felled_by"]) == {""}
    assert (rows.loc[fooled, "steps"] == rows.loc[fooled, "queries"]).all()
    assert (rows.loc[rows["attacked"] & ~fooled, "gradients"] == 13 + 3 * 13).all()


def test_an_unfinished_chain_is_an_upper_bound_and_resumes_where_it_stopped(chain: Suite, store: Store, tmp_path: Path) -> None:
    runner.run(chain, [DIGITS], store=tmp_path, settings=Settings(limit=32, batch_size=32))
    place = Store(tmp_path)
    last = next(one for one in place.questions() if one.scenario == "autoattack" and one.link == 2)
    for file in place.files(last.cell):
        file.path.unlink()
    found = leaderboard(place)
    row = found[(found["scenario"] == "autoattack") & (found["metric"] == "robust_accuracy")].iloc[0]
    assert (row["status"], row["reason"]) == ("partial", "1 of 2 attacks, the last apgd_ce: the rest may fool more")
    assert summary(found)["autoattack 0.002 accuracy"].str.endswith("] partial").all()
    done = runner.run(chain, [DIGITS], store=tmp_path, settings=Settings(limit=32, batch_size=32))
    assert done.computed == 32
    assert robust(place, "autoattack", 2) == robust(store, "autoattack", 2)
    assert "autoattack 0.002 accuracy" in summary(leaderboard(place)).columns


def test_a_budget_spent_within_the_first_attack_leaves_an_upper_bound_of_some_samples(
    chain: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(chain, [DIGITS], store=tmp_path, settings=Settings(limit=32))
    monkeypatch.setattr(runner, "Deadline", lambda budget: Deadline(budget, itertools.count().__next__))
    done = runner.run(chain, [DIGITS], store=tmp_path, settings=Settings(limit=64, budget="2s"))
    found = leaderboard(Store(tmp_path))
    row = found[(found["scenario"] == "autoattack") & (found["metric"] == "robust_accuracy")].iloc[0]
    assert (done.stopped, done.complete) == (True, 1)
    assert (row["status"], row["reason"]) == ("partial", "32 of 64 samples, 1 of 2 attacks: the rest may fool more")


FAST = [("apgd_ce", {}), ("apgd_t", {"targets": 9})]
PLUS = [("apgd_ce", {"restarts": 5}), ("apgd_dlr", {"restarts": 5}), ("fab", {"restarts": 5}), ("square", {})]
VERSIONS = {
    ("standard", "linf"): [*FAST, ("fab_t", {}), ("square", {})],
    ("standard", "l2"): [*FAST, ("fab_t", {}), ("square", {})],
    ("standard", "l1"): [("apgd_ce", {"restarts": 5}), ("apgd_t", {"targets": 5}), ("fab_t", {}), ("square", {})],
    ("fast", "linf"): FAST,
    ("plus", "l2"): [*PLUS, ("apgd_t", {}), ("fab_t", {})],
    ("rand", "linf"): [("apgd_ce", {"eot": 20}), ("apgd_dlr", {"eot": 20})],
}
BY_AUTHORS = {"steps": 100, "restarts": 1, "eot": 1, "targets": 9}


@pytest.mark.parametrize(("version", "norm"), VERSIONS)
def test_a_version_is_the_chain_of_its_authors(version: str, norm: str) -> None:
    """Croce and Hein 2020, sec. 5, and 2021, sec. 4; what a link leaves out is by default what the authors set."""
    chain = WHOLE(eps=0.02, norm=norm, version=version)  # type: ignore[arg-type]
    assert [name for link in chain for name in link] == [name for name, _ in VERSIONS[version, norm]]
    for link, (name, own) in zip(chain, VERSIONS[version, norm], strict=True):
        bound = dict(bind(scenario_entry(name), parse(link)[0]).params)
        assert (bound["eps"], bound["norm"]) == (0.02, norm)
        for key in BY_AUTHORS.keys() & bound.keys():
            assert bound[key] == (5000 if name == "square" and key == "steps" else {**BY_AUTHORS, **own}[key]), key


def test_plus_is_not_defined_in_l1() -> None:
    with pytest.raises(BadParameter, match="standard"):
        autoattack(eps=1.0, norm="l1", version="plus")
    names = [name for node in autoattack(eps=0.1, version="plus") for name in node]
    assert names == ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"]


def test_a_failed_link_is_reported_and_not_hidden_by_the_links_before_it(chain: Suite, tmp_path: Path) -> None:
    runner.run(chain, [DIGITS], store=tmp_path, settings=Settings(limit=32, batch_size=32))
    place = Store(tmp_path)
    last = next(one for one in place.questions() if one.scenario == "autoattack" and one.link == 2)
    for file in place.files(last.cell):
        file.path.unlink()
    place.fail(last.cell, "no gradient")
    found = leaderboard(place)
    row = found[(found["scenario"] == "autoattack") & (found["metric"] == "robust_accuracy")].iloc[0]
    assert (row["status"], row["reason"]) == ("failed", "no gradient")


@pytest.mark.long
@pytest.mark.slow
def test_killed_within_attacks_of_the_chain_it_resumes_to_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "aa.yaml").write_text(
        "name: aa\ntitle: AA\ndata: digits\nscenarios: [{autoattack: {eps: 0.6/255}}]\nmetrics: [robust_accuracy]\n"
    )
    (tmp_path / "brief.py").write_text(BRIEF)

    def start(store: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(tmp_path / "brief.py"), "run", "-m", DIGITS, "-s", str(tmp_path / "aa.yaml"), "-L", "16", "-q"]
        return subprocess.Popen([*command, "--store", str(tmp_path / store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def files(store: str) -> list[Path]:
        return sorted((tmp_path / store).glob("cells/*/0*.parquet"))

    assert start("whole").wait() == 0
    for link in (1, 3):
        process = start("killed")
        while len(files("killed")) < link and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.2)  # into the next attack
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(files("killed")) >= link
    assert start("killed").wait() == 0
    whole, killed = ([(path.parent.name, path.name[:14]) for path in files(name)] for name in ("whole", "killed"))
    assert whole == killed
    for one, other in zip(files("whole"), files("killed"), strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(other), check_exact=True)
    last = robust(Store(tmp_path / "killed"), "autoattack", 4)
    assert 0 < sum(last.values()) < len(last)


def test_a_cell_that_the_chain_shares_with_an_attack_is_counted_once(chain: Suite, tmp_path: Path) -> None:
    done = runner.run(chain, [DIGITS], store=tmp_path, settings=Settings(limit=8, batch_size=32))
    assert (done.cells, done.complete, done.rows, done.computed) == (4, 4, 32, 32)
